"""A simulator that comes to a recorded moment by repeating its episode, and goes on otherwise.

Axes: K sequences of actions, T frames, A values of an action.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.collect import make_env
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluation.clips import ClipPlace
from scd_wm.imagination import Frames

NO_LIMIT = 1_000_000  # steps: episodes end where the comparison does
CLOSE = 1e-3  # by which values of a vector may differ from the recording, and their size's share
CLOSE_GREY = 2.0  # mean grey levels by which an image may differ


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
    env_id, is_asked = env_id or named, env_id is not None
    if not env_id:
        raise ValueError("the data names no environment; name the simulator by --env")
    if env_id not in gym.registry:
        whose = "" if is_asked else ", which the data names,"
        wanted = "give that in which the data" if is_asked else "name by --env that in which it"
        raise ValueError(f"{env_id!r}{whose} is no registered environment; {wanted} was recorded")
    if "seed" not in (metadata.get("scd_wm") or {}):
        raise ValueError("the data does not say by which seeds it was recorded, as collect does")
    if dataset.options.frame_skip > 1:
        raise ValueError("frames of the data are skipped, those of the simulator are not")
    kwargs = dict(metadata.get("env_kwargs") or {}) if env_id == named else {}
    return env_id, {k: v for k, v in kwargs.items() if k != "control_freq"}


class RepeatingSimulator:
    """An environment that repeats recorded episodes up to a moment and goes on from there.

    Args:
        env_id: The environment.
        kwargs: Its arguments.
        source: The recording; its metadata has the seed of the first episode.
    """

    def __init__(self, env_id: str, kwargs: Mapping[str, Any], source: RobotDataset) -> None:
        self._id, self._source = env_id, source
        self._seed = int(source.info.metadata["scd_wm"]["seed"])
        self._env = make_env(env_id, NO_LIMIT, kwargs)

    def __enter__(self) -> Self:
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
                # By chance all futures have the same happen to them: they differ by actions alone.
                self._env.reset(seed=self._seed, options={"state": state})
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
