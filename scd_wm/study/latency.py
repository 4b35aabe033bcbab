"""How long the arms of a study take for a frame, in turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from scd_wm import imagination
from scd_wm.bench.machine import describe
from scd_wm.bench.timing import Contestant, Spread, take_turns
from scd_wm.clip import collate
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.model.world_model import WorldModel

ROUNDS, TURN_S = 5, 0.5


def time_frames(
    models: Mapping[str, WorldModel], data: RobotDataset, sampler_steps: Sequence[int]
) -> dict[str, Any]:
    """Time a frame of one rollout with its history full, on one thread.

    Args:
        models: By arm.
        data: Where the history is from.
        sampler_steps: At each of which to time.

    Returns:
        "machine", and under "arms" by arm and number of sampler steps the CPU and wall seconds of
        a frame, medians with the least and the most.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        contestants = [
            Contestant(f"{arm}, T={steps}", _stepper(model, data, steps))
            for steps in sampler_steps
            for arm, model in models.items()
        ]
        turns = iter(take_turns(contestants, ROUNDS, TURN_S, what="frames"))
        arms: dict[str, dict[str, Any]] = {arm: {} for arm in models}
        for steps in sampler_steps:
            for arm in models:
                own = next(turns)
                arms[arm][str(steps)] = {
                    "cpu_s": asdict(Spread.of([turn.cpu_s for turn in own])),
                    "wall_s": asdict(Spread.of([turn.wall_s for turn in own])),
                }
        return {"machine": describe(), "arms": arms}
    finally:
        torch.set_num_threads(threads)


def _stepper(model: WorldModel, data: RobotDataset, steps: int) -> Callable[[], object]:
    lengths = [episode.num_observations for episode in data.episodes]
    longest = lengths.index(max(lengths))  # the first may be shorter than the window
    clip = collate([data.clip(longest, 0, model.config.window)])
    state = imagination.begin(model.eval(), clip)
    action = clip.actions[:, -1]
    return lambda: imagination.step(model, state, action, num_steps=steps)
