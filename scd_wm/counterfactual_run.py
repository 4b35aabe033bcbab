"""Play other actions from recorded moments, in the simulator and in imagination.

The simulator comes to a recorded moment by repeating its episode: from the same seed, by the same
actions. What it then shows is compared with what was recorded, so that only a simulator that
repeats its recordings is believed.

Axes: S starts, K sequences of actions, F frames of history, T frames, A values of an action.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from einops import rearrange, repeat
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.collect import make_env
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluation.clips import ClipPlace, choose_clips
from scd_wm.evaluation.counterfactual import Counterfactual, diverge
from scd_wm.evaluation.evaluate import EvaluationConfig, clip_seeds, read_clips
from scd_wm.evaluation.locate import TrackedColour, found, last_known, locate, typical_mass
from scd_wm.evaluation.null_models import Imagine, derangement, zero_action
from scd_wm.evaluation.scores import default_position_vectors, view_label
from scd_wm.imagination import Frames
from scd_wm.spec import Spec

NO_LIMIT = 1_000_000  # steps: episodes end where the comparison does
CLOSE = 1e-3  # by which values of a vector may differ from the recording, and their size's share
CLOSE_GREY = 2.0  # mean grey levels by which an image may differ


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


def find_simulator(dataset: RobotDataset, env_id: str | None) -> tuple[str, dict[str, Any]]:
    """Return the environment in which a data set was recorded and its arguments.

    Args:
        dataset: The data.
        env_id: Its environment; None takes the one that the data names.

    Raises:
        ValueError: If it names none that is registered, or the recording cannot be repeated.
    """
    metadata = dataset.info.metadata
    named = metadata.get("env_name")
    env_id = env_id or named
    if env_id not in gym.registry:
        raise ValueError(f"{env_id!r} is no registered environment; name the simulator by --env")
    if "seed" not in (metadata.get("scd_wm") or {}):
        raise ValueError("the data does not say by which seeds it was recorded, as collect does")
    if dataset.options.frame_skip > 1:
        raise ValueError("frames of the data are skipped, those of the simulator are not")
    kwargs = dict(metadata.get("env_kwargs") or {}) if env_id == named else {}
    return env_id, {k: v for k, v in kwargs.items() if k != "control_freq"}


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
    with _Simulator(env_id, kwargs, source) as simulator:
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


class _Simulator:
    """An environment that repeats recorded episodes up to a moment and goes on from there."""

    def __init__(self, env_id: str, kwargs: Mapping[str, Any], source: RobotDataset) -> None:
        self._id, self._source = env_id, source
        self._seed = int(source.info.metadata["scd_wm"]["seed"])
        self._env = make_env(env_id, NO_LIMIT, kwargs)

    def __enter__(self) -> _Simulator:
        return self

    def __exit__(self, *error: object) -> None:
        self._env.close()

    def play(self, place: ClipPlace, history: int, actions: NDArray, clip: Clip) -> Frames:
        """Take each sequence of actions, (K, T, A), from the last frame of a clip's history.

        Returns:
            Frames that follow, (K, T, ...); vectors after an episode's end are NaN.

        Raises:
            ValueError: If what the simulator shows there is not what was recorded.
        """
        self._check(self._repeat(place, history), clip, history)
        state = getattr(self._env.unwrapped, "state", None)
        state = state.copy() if isinstance(state, np.ndarray) else None
        futures = []
        for sequence in actions:
            if state is not None:
                self._env.reset(options={"state": state})
            else:
                self._repeat(place, history)
            futures.append(self._future(sequence))
        return Frames(
            images={k: torch.stack([f[k] for f in futures]) for k in clip.images},
            vectors={k: torch.stack([f[k] for f in futures]) for k in clip.vectors},
            outcome={},
        )

    def _repeat(self, place: ClipPlace, history: int) -> Mapping[str, NDArray]:
        """Go to the last frame of a clip's history, and return what is observed there."""
        name = self._source.episodes[place.episode].name
        number = re.search(r"demo_(\d+)$", name)
        if number is None:
            raise ValueError(
                f"episode {name!r} does not say the how-manieth of its recording it is"
            )
        observation, _ = self._env.reset(seed=self._seed + int(number.group(1)))
        wanted = {*self._source.cameras, *self._source.vectors}
        if missing := sorted(wanted - _named(observation).keys()):
            raise ValueError(f"{self._id} does not observe {missing}, which the data holds")
        taken = self._source.arrays(place.episode).actions[: place.start + history - 1]
        for action in taken:
            observation = self._env.step(action)[0]
        return _named(observation)

    def _future(self, actions: NDArray) -> dict[str, Tensor]:
        frames: list[Mapping[str, NDArray]] = []
        ended = False
        for action in actions:
            if not ended:
                observation, _, ended, _, _ = self._env.step(action)
                frames.append(_named(observation))
            else:
                frames.append({k: _unknown(v) for k, v in frames[-1].items()})
        return {k: torch.from_numpy(np.stack([f[k] for f in frames])) for k in frames[0]}

    def _check(self, shown: Mapping[str, NDArray], clip: Clip, history: int) -> None:
        recorded = {**clip.images, **clip.vectors}
        for name, values in recorded.items():
            wanted, got = values[0, history - 1].numpy(), shown[name]
            same = wanted.shape == got.shape and _close(wanted, got)
            if not same:
                raise ValueError(f"{self._id} does not repeat the recording: {name} is another")


def _close(wanted: NDArray, got: NDArray) -> bool:
    if wanted.dtype == np.uint8:
        return bool(np.abs(wanted.astype(np.float64) - got).mean() <= CLOSE_GREY)
    return bool(np.allclose(wanted, got, rtol=CLOSE, atol=CLOSE))


def _unknown(values: NDArray) -> NDArray:
    return np.zeros_like(values) if values.dtype == np.uint8 else np.full_like(values, np.nan)


def _named(observation: Any) -> Mapping[str, NDArray]:
    """Return copies of what is observed, as recordings name it; numbers as float32."""
    entries = observation if isinstance(observation, Mapping) else {"observation": observation}
    return {
        k: np.array(v, v.dtype if v.dtype == np.uint8 else np.float32) for k, v in entries.items()
    }


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
