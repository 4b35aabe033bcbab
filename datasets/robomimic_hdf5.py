"""Write robomimic HDF5 files (https://robomimic.github.io/docs/datasets/overview.html).

Axes: T steps of an episode, H height, W width, D values of a vector, A values of an action.
`obs/<key>` holds frames 0 to T - 1 and `next_obs/<key>` frames 1 to T.

Robomimic asks for `rewards` and `next_obs` by default. Where there are none, zeros are written as
rewards and the last frame is repeated in `next_obs` (whose value robomimic does not use at the end
of an episode), and an attribute says so: `RobomimicReader` offers neither.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

PLACEHOLDER = "placeholder"  # attribute of rewards that nobody recorded
REPEATED = "last_is_repeated"  # attribute of a next_obs that ends with a copy
CHUNK_FRAMES = 16  # images are compressed in groups of so many frames: about one clip


class RobomimicWriter:
    """Write episodes to a robomimic HDF5 file, which appears under its name only when closed.

    Beside robomimic's schema an episode has `terminated` and `success`, (T,) bool, if known:
    robomimic's `dones` also marks the end of a recording, so it cannot tell termination from
    truncation.

    Args:
        path: The file to write. Missing parent folders are made.
        env_args: Written as robomimic's `env_args`; usually has "env_name", "type", "env_kwargs".
        overwrite: Replace a file that exists.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        TypeError: If `env_args` is not made of JSON types.
    """

    def __init__(
        self, path: str | Path, env_args: Mapping[str, Any], overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise FileExistsError(f"{self.path} exists; choose another path or overwrite it")
        env_args_json = json.dumps(env_args)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._file = h5py.File(self._aside, "w")
        self._data = self._file.create_group("data")
        self._data.attrs["env_args"] = env_args_json
        self._layout: dict[str, tuple[int, ...]] | None = None  # of the first episode
        self.num_episodes = 0
        self.num_steps = 0

    def add_episode(
        self,
        observations: Mapping[str, np.ndarray],
        actions: np.ndarray,
        rewards: np.ndarray | None = None,
        terminated: np.ndarray | None = None,
        success: np.ndarray | bool | None = None,
        states: np.ndarray | None = None,
    ) -> str:
        """Append one episode.

        Args:
            observations: Name to (T + 1, ...), the first and last observation included, or all of
                them to (T, ...) if the last was not stored. Images are (T + 1, H, W, 3) uint8;
                vectors (T + 1, D) keep their dtype. Names may have groups, as in "robot0/eef_pos".
            actions: (T, A), T at least 1.
            rewards: (T,), if known.
            terminated: (T,), true where the environment ended the episode in that step, if known.
            success: (T,), true where the task is solved after that step; or one for the whole
                episode, which is kept as an attribute, as Isaac Lab does; if known.
            states: Simulator states before each action, (T, S); zeros of (T, 1) if not given.

        Returns:
            The episode's name in the file, such as "demo_0".

        Raises:
            ValueError: If lengths disagree or keys or shapes differ from the first episode's.
        """
        num_steps = len(actions)
        whole = success if isinstance(success, bool) else None
        given = {"terminated": terminated, "success": success if whole is None else None}
        steps = {
            "actions": np.asarray(actions),
            "rewards": np.asarray(np.zeros(num_steps) if rewards is None else rewards, np.float64),
            "states": np.zeros((num_steps, 1)) if states is None else np.asarray(states),
        } | {key: np.asarray(flags, bool) for key, flags in given.items() if flags is not None}
        frames = {key: np.asarray(values) for key, values in observations.items()}
        name = f"demo_{self.num_episodes}"
        self._check(name, frames, steps)
        group = self._data.create_group(name)
        group.attrs["num_samples"] = num_steps
        if whole is not None:
            group.attrs["success"] = whole
        for key, values in steps.items():
            group.create_dataset(key, data=values)
        if rewards is None:
            group["rewards"].attrs[PLACEHOLDER] = True
        group.create_dataset("dones", data=_dones(steps.get("terminated"), num_steps))
        _write_frames(group, frames, num_steps)
        self.num_episodes += 1
        self.num_steps += num_steps
        return name

    def add_mask(self, name: str, episodes: Sequence[int]) -> None:
        """Name a subset of the episodes, such as "train" or "valid", by their indices."""
        names = np.array([f"demo_{i}" for i in episodes], dtype="S")
        self._file.create_dataset(f"mask/{name}", data=names)

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            ValueError: If no episode was added; nothing is left on disk.
        """
        if self.num_episodes == 0:
            self.discard()
            raise ValueError(f"no episode to write to {self.path}")
        self._data.attrs["total"] = self.num_steps
        self._file.close()
        with self._aside.open("rb+") as file:
            os.fsync(file.fileno())
        self._aside.replace(self.path)

    def discard(self) -> None:
        """Leave nothing on disk."""
        self._file.close()
        self._aside.unlink(missing_ok=True)

    def __enter__(self) -> RobomimicWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _check(
        self, name: str, frames: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray]
    ) -> None:
        """Raise unless the episode is consistent in itself and with the first."""
        actions = steps["actions"]
        if actions.ndim != 2 or len(actions) == 0:
            raise ValueError(f"{name}: actions must be (T, A) with T >= 1, got {actions.shape}")
        if not frames:
            raise ValueError(f"{name}: no observations")
        without_last = all(len(values) == len(actions) for values in frames.values())
        num_frames = len(actions) + (not without_last)
        for key, values in {**frames, **steps}.items():
            expected = num_frames if key in frames else len(actions)
            if len(values) != expected:
                raise ValueError(
                    f"{name}: {key} has {len(values)} rows, expected {expected} "
                    f"for {len(actions)} actions"
                )
        layout = {key: v.shape[1:] for key, v in frames.items()} | {"actions": actions.shape[1:]}
        if self._layout is None:
            self._layout = layout
        if layout != self._layout:
            raise ValueError(f"{name}: shapes {layout} differ from demo_0's {self._layout}")


def _dones(terminated: np.ndarray | None, num_steps: int) -> np.ndarray:
    """Return robomimic's flag, (T,) int: 1 where the task ended and at the end of the recording."""
    dones = np.zeros(num_steps, np.int64) if terminated is None else terminated.astype(np.int64)
    dones[-1] = 1
    return dones


def _write_frames(group: h5py.Group, frames: Mapping[str, np.ndarray], num_steps: int) -> None:
    """Write `obs` and `next_obs` from T or T + 1 frames."""
    for key, values in frames.items():
        without_last = len(values) == num_steps
        following = np.concatenate([values[1:], values[-1:]]) if without_last else values[1:]
        _write_rows(group, f"obs/{key}", values[:num_steps])
        _write_rows(group, f"next_obs/{key}", following)
        if without_last:
            group["next_obs"].attrs[REPEATED] = True


def _write_rows(group: h5py.Group, key: str, values: np.ndarray) -> None:
    """Write `values`; images compressed in chunks of frames, which makes `next_obs` nearly free."""
    if values.ndim < 3:
        group.create_dataset(key, data=values)
        return
    chunks = (min(CHUNK_FRAMES, len(values)), *values.shape[1:])
    group.create_dataset(key, data=values, chunks=chunks, compression="gzip", compression_opts=1)
