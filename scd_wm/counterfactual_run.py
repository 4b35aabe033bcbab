"""Play other actions from recorded moments, in the simulator and in imagination.

The simulator comes to a recorded moment by repeating its episode: from the same seed, by the same
actions. What it then shows is compared with what was recorded, so that only a simulator that
repeats its recordings is believed.

Axes: S starts, K sequences of actions, F frames of history, T frames, A values of an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluation.clips import ClipPlace, choose_clips
from scd_wm.evaluation.counterfactual import Counterfactual, diverge
from scd_wm.evaluation.evaluate import EvaluationConfig, clip_seeds, read_clips
from scd_wm.evaluation.locate import TrackedColour, found, last_known, locate, typical_mass
from scd_wm.evaluation.null_models import Imagine, derangement, zero_action
from scd_wm.evaluation.result import Evaluation
from scd_wm.evaluation.scores import default_position_vectors, view_label
from scd_wm.imagination import Frames
from scd_wm.rollouts.repeating_simulator import RepeatingSimulator, find_simulator
from scd_wm.spec import Spec


@dataclass(frozen=True, kw_only=True)
class CounterfactualConfig:
    """How much is played."""

    num_starts: int = 8  # recorded moments, spread over the episodes
    num_sequences: int = 4  # from each: its own, other clips' and, last, none
    horizon: int = 16  # frames played and imagined, at most

    def __post_init__(self) -> None:
        if min(self.num_starts, self.horizon) < 1 or self.num_sequences < 3:
            raise ValueError(
                f"counterfactuals need a start, a frame and 3 sequences or more, got {vars(self)}"
            )


def add_counterfactuals(
    result: Evaluation,
    imagine: Imagine,
    source: RobotDataset,
    spec: Spec,
    config: EvaluationConfig,
    env: str | None,
    colours: Mapping[str, TrackedColour],
) -> Evaluation:
    """Return a result with what other actions lead to, or with why that cannot be known.

    Raises:
        ValueError: If `env` was named and cannot be used.
    """
    try:
        played = play_counterfactuals(
            imagine, source, spec, config, CounterfactualConfig(), env, colours
        )
    except ValueError as error:
        if env is not None:
            raise
        left_out = {**result.fidelity.left_out, "counterfactual divergence": str(error)}
        return replace(result, fidelity=replace(result.fidelity, left_out=left_out))
    return replace(result, fidelity=replace(result.fidelity, counterfactual=played))


def play_counterfactuals(
    imagine: Imagine,
    source: RobotDataset,
    spec: Spec,
    evaluation: EvaluationConfig,
    config: CounterfactualConfig,
    env_id: str | None = None,
    tracked_colours: Mapping[str, TrackedColour] | None = None,
) -> Counterfactual:
    """Play other actions from recorded moments and compare where they lead.

    Args:
        imagine: The world model.
        source: Held-out episodes.
        spec: What a frame of them holds.
        evaluation: History, horizons and seed.
        config: How much.
        env_id: The simulator; None takes the one that the data names.
        tracked_colours: Objects to find by colour.

    Raises:
        ValueError: If there is no simulator, it does not repeat the recording, or nothing that it
            observes says where something is.
    """
    env_id, kwargs = find_simulator(source, env_id)
    horizons = _horizons(evaluation.horizons, config.horizon)
    history, length = evaluation.history, evaluation.history + horizons[-1]
    places = choose_clips(source, length, config.num_starts, evaluation.seed)
    if len(places) < 2:
        raise ValueError("other clips' actions need two clips or more")
    clip = read_clips(source, places, length)
    actions = _sequences(clip.actions[:, history - 1 :], places, config, evaluation.seed)
    with RepeatingSimulator(env_id, kwargs, source) as simulator:
        futures = [
            simulator.play(place, history, acts.numpy(), _row(clip, i))
            for i, (place, acts) in enumerate(zip(places, actions, strict=True))
        ]
    real = Frames(
        images={k: torch.stack([f.images[k] for f in futures]) for k in futures[0].images},
        vectors={k: torch.stack([f.vectors[k] for f in futures]) for k in futures[0].vectors},
        outcome={},
    )
    imagined = _imagine(imagine, clip.frames(0, history), actions, evaluation.seed)
    compared = _compared(real, imagined, clip, history, spec, tracked_colours or {})
    divergences = {
        name: diverge(
            label,
            unit,
            truth.double().numpy(),
            guess.double().numpy(),
            [str(p.episode) for p in places],
            horizons,
            seed=evaluation.seed,
            num_resamples=evaluation.num_resamples,
        )
        for name, (label, unit, truth, guess) in compared.items()
    }
    parted = {name: d for name, d in divergences.items() if d is not None}
    if not parted:
        raise ValueError(f"nothing that {env_id} shows says where something is")
    return Counterfactual(
        env=env_id,
        num_starts=len(places),
        num_sequences=config.num_sequences,
        horizons=horizons,
        divergences=parted,
    )


def _row(clip: Clip, index: int) -> Clip:
    """Return one row of a batch, batched."""
    return clip.map(lambda tensor: tensor[index : index + 1])


def _horizons(wanted: Sequence[int], longest: int) -> tuple[int, ...]:
    return tuple(h for h in sorted(set(wanted)) if h <= longest) or (longest,)


def _sequences(
    actions: Tensor, places: Sequence[ClipPlace], config: CounterfactualConfig, seed: int
) -> Tensor:
    """Return each start's own actions, other clips' and none, (S, K, T, A)."""
    episodes = [str(p.episode) for p in places]
    others = [
        actions[torch.from_numpy(derangement(episodes, seed + i))]
        for i in range(config.num_sequences - 2)
    ]
    none = zero_action(actions).expand_as(actions)
    return torch.stack([actions, *others, none], dim=1)


def _imagine(imagine: Imagine, history: Clip, actions: Tensor, seed: int) -> Frames:
    """Imagine all futures, (S, K, T, ...); those of a start share its noise."""
    starts, num = actions.shape[:2]
    repeated = history.map(lambda x: x.repeat_interleave(num, dim=0))
    seeds = clip_seeds(starts, seed).repeat_interleave(num)
    frames = imagine(repeated, rearrange(actions, "s k t a -> (s k) t a"), seeds)

    def unfold(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {k: rearrange(v, "(s k) ... -> s k ...", k=num) for k, v in values.items()}

    return Frames(unfold(frames.images), unfold(frames.vectors), {})


Compared = tuple[str, str, Tensor, Tensor]  # label, unit, real and imagined, (S, K, T, D)


def _compared(
    real: Frames,
    imagined: Frames,
    clip: Clip,
    history: int,
    spec: Spec,
    colours: Mapping[str, TrackedColour],
) -> dict[str, Compared]:
    """Return what is compared: objects in images, then positions, or else all vectors."""
    compared: dict[str, Compared] = {}
    for camera, images in real.images.items():
        last = clip.images[camera][:, history - 1]
        for thing, colour in colours.items():
            label = f"{thing}{view_label(camera, list(real.images))}"
            where = _places(images, imagined.images[camera], last, colour)
            compared[f"{camera}/{thing}"] = (label, "px", *where)
    counts = default_position_vectors(spec) or {n: v.dim for n, v in spec.vectors.items()}
    for name, count in counts.items():
        truth, guess = real.vectors[name], imagined.vectors[name]
        compared[name] = (name, "", truth[..., :count], guess[..., :count])
    return compared


def _places(
    real: Tensor, imagined: Tensor, last: Tensor, colour: TrackedColour
) -> tuple[Tensor, Tensor]:
    """Return where an object is, (S, K, T, 2) in pixels, really and in imagination.

    Where it is not found it is unknown in the real frames, and in imagined ones where it was last.

    Args:
        real: (S, K, T, H, W, 3).
        imagined: The same.
        last: Frame given, (S, H, W, 3).
        colour: Of the object.
    """
    num = real.shape[1]
    before = repeat(last, "s h w c -> (s k) 1 h w c", k=num)
    shown = {
        name: torch.cat([before, rearrange(images, "s k t h w c -> (s k) t h w c")], dim=1)
        for name, images in (("real", real), ("imagined", imagined))
    }
    truth, guess = locate(shown["real"], colour), locate(shown["imagined"], colour)
    typical = typical_mass(truth)
    known = truth.position.where(found(truth, typical)[..., None], torch.nan)
    placed = last_known(guess.position, found(guess, typical))
    first, second = (rearrange(x[:, 1:], "(s k) t d -> s k t d", k=num) for x in (known, placed))
    return first, second
