"""What episodes begin from, the same in both worlds: one real frame each.

Axes: E starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from scd_wm import imagination
from scd_wm.clip import Clip
from scd_wm.envs.info import is_success
from scd_wm.evaluation.clips import ClipPlace
from scd_wm.evaluation.evaluate import read_clips
from scd_wm.rollouts.played import honest_seeds
from scd_wm.rollouts.worlds import recorded_limit
from scd_wm.spec import Spec
from scd_wm.training.run_data import open_run_data


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Where episodes begin."""

    names: tuple[str, ...]  # seeds of a simulator, or recorded episodes
    frames: Clip  # first frame of each, (E, 1)
    refused: tuple[str, ...]  # a success already, as far as a simulator tells
    max_steps: int | None  # of an episode, as the environment limits it; None if it does not


def simulated_starts(
    env: gym.Env, spec: Spec, count: int, seed: int, wanted: Sequence[str] | None
) -> Starts:
    """Return starts of a simulator that are no success yet.

    Args:
        env: Observes what the model reads.
        spec: Of the model, with cameras as pixels.
        count: How many, at most if some are named.
        seed: The first to try, if none are named.
        wanted: Seeds as a table of real results has them; None takes the first that are honest.

    Raises:
        ValueError: If a name is no seed, or there are no honest ones.
    """
    if wanted is None:
        seeds, others = honest_seeds(env, seed, count)
        names, refused = [[str(s) for s in some] for some in (seeds, others)]
    else:
        refused = [name for name in wanted if is_success(env.reset(seed=_as_seed(name))[1])]
        names = [name for name in wanted if name not in refused][:count]
        _check_enough(names)
    observations = [env.reset(seed=_as_seed(name))[0] for name in names]
    stacked = {
        name: torch.from_numpy(np.stack([seen[name] for seen in observations]))
        for name in spec.observation_names
    }
    limit = env.spec.max_episode_steps if env.spec is not None else None
    return Starts(
        names=tuple(names),
        frames=imagination.observed(spec, stacked),
        refused=tuple(refused),
        max_steps=limit,
    )


def recorded_starts(run: str | Path, data: Path, count: int, wanted: Sequence[str]) -> Starts:
    """Return the first frames of recorded episodes that a table of real results names.

    Args:
        run: The model's run, which says which keys and sizes it reads.
        data: The recording.
        count: How many, at most.
        wanted: Names of episodes.

    Raises:
        FileNotFoundError: If there is no such data.
        KeyError, ValueError: If it does not fit the model, or lacks an episode.
    """
    dataset = open_run_data(run, data)
    index = {episode.name: i for i, episode in enumerate(dataset.episodes)}
    if unknown := [name for name in wanted if name not in index]:
        raise ValueError(
            f"the table starts from {unknown[0]!r}, which is none of the {len(index)} episodes of "
            f"{data} that were not trained on, such as {list(index)[:3]}"
        )
    names = tuple(wanted[:count])
    _check_enough(names)
    return Starts(
        names=names,
        frames=read_clips(dataset, [ClipPlace(index[name], 0) for name in names], 1),
        refused=(),
        max_steps=recorded_limit(dataset),
    )


def _as_seed(name: str) -> int:
    if not name.isdecimal():
        raise ValueError(
            f"the table starts from {name!r}, which is no seed of a simulator; starts that are "
            "recorded need data and no environment"
        )
    return int(name)


def _check_enough(starts: Sequence[object]) -> None:
    if len(starts) < 2:
        raise ValueError(f"2 starts or more are needed that are no success yet, got {len(starts)}")
