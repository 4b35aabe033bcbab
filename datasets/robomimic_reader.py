"""Read robomimic HDF5 files, as robomimic, robosuite and `RobomimicWriter` write them.

Axes: T steps of an episode, H height, W width, D values of a vector, A values of an action.
`obs/<key>` holds frames 0 to T - 1; `next_obs/<key>` holds frames 1 to T and may be absent.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scd_wm.datasets.reader import ACTION, EpisodeInfo, Field, SourceInfo
from scd_wm.spec import OUTCOMES

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
STEP_KEYS = {  # key of `read`: name in the file
    ACTION: "actions",
    "reward": "rewards",
    "terminated": "terminated",
    "success": "success",
}


def is_hdf5(path: Path) -> bool:
    """Return whether `path` is a file that begins as HDF5 does, even if it is damaged."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


class RobomimicReader:
    """Random access to a robomimic file. Each process opens the file for itself.

    Lengths and shapes come from the arrays, never from the attributes `total` and `num_samples`,
    which are wrong in some files. `dones` is not offered as "terminated": robomimic also sets it at
    the end of a recording. "terminated" and "success" exist where `RobomimicWriter` wrote them.

    Args:
        path: The HDF5 file.

    Raises:
        ValueError: If the file is damaged, is not robomimic's, or has no episode that can be used.
    """

    def __init__(self, path: Path) -> None:
        self._file: h5py.File | None = None
        self._owner = 0  # process that opened `_file`
        with _open(path) as file:
            self.info = _source_info(path, file)

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`."""
        episode_info = self.info.episodes[episode]
        group = self._data()[episode_info.name]
        if key in STEP_KEYS:
            steps = group[STEP_KEYS[key]][start:stop]
            return steps if key == ACTION else steps.reshape(len(steps))
        last = episode_info.num_actions  # the frame that only next_obs holds
        rows = group[f"obs/{key}"][start : min(stop, last)]
        if stop > last:
            rows = np.concatenate([rows, group[f"next_obs/{key}"][last - 1 : last]])
        return rows.reshape(len(rows), 1) if rows.ndim == 1 else rows

    def _data(self) -> h5py.Group:
        """Return the group `data` of a handle that belongs to this process."""
        if self._file is None or self._owner != os.getpid():
            self._file, self._owner = _open(self.info.path), os.getpid()
        return self._file["data"]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{path} is cut short or damaged ({error}); copy or download it again"
        ) from error


def _source_info(path: Path, file: h5py.File) -> SourceInfo:
    """Describe what can be used of an open file and list what cannot."""
    if not isinstance(file.get("data"), h5py.Group) or not len(file["data"]):
        raise ValueError(
            f"{path} is HDF5 but not robomimic's: no episodes under 'data'; it has {sorted(file)}"
        )
    data = file["data"]
    names = sorted(data, key=_episode_number)
    skipped: list[str] = []
    usable = [name for name in names if _is_usable(path, data[name], name, skipped)]
    if not usable:
        raise ValueError(f"{path} has no usable episode: {'; '.join(skipped[:3])}")
    arrays = {name: _observations(data[name]["obs"]) for name in usable}
    fields = _fields(arrays, skipped)
    action_dim = data[usable[0]]["actions"].shape[1]
    episodes = tuple(
        episode
        for name in usable
        if (episode := _episode(data[name], name, arrays[name], fields, action_dim, skipped))
    )
    _note_unused(data, episodes, skipped)
    metadata = _env_args(data, skipped)
    return SourceInfo(
        path=path,
        format="robomimic",
        fields=fields,
        action_dim=action_dim,
        outcomes=_outcomes(data, episodes),
        fps=_control_freq(metadata),
        episodes=episodes,
        skipped=tuple(skipped),
        metadata=metadata,
    )


def _episode_number(name: str) -> tuple[float, str]:
    """Return a sort key that puts demo_10 after demo_9."""
    digits = re.search(r"\d+$", name)
    return (int(digits.group()) if digits else float("inf"), name)


def _is_usable(path: Path, group: h5py.Group, name: str, skipped: list[str]) -> bool:
    """Return whether an episode has actions and observations; note in `skipped` why not.

    Raises:
        ValueError: If it is a recording of simulator states, from which images must be made first.
    """
    if "obs" not in group and "states" in group:
        raise ValueError(
            f"{path} is a raw recording: data/{name} has no 'obs', only {sorted(group)}; make "
            "observations with robomimic's dataset_states_to_obs.py and open the file it writes"
        )
    if "actions" not in group or "obs" not in group:
        skipped.append(f"{name}: needs 'actions' and 'obs', has {sorted(group)}")
    elif group["actions"].ndim != 2 or len(group["actions"]) == 0:
        skipped.append(f"{name}: actions must be (T, A) with T >= 1, are {group['actions'].shape}")
    else:
        return True
    return False


def _observations(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the arrays under `obs`; those of nested groups are named by their path."""
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    group.visititems(visit)
    return found


def _fields(
    arrays: Mapping[str, Mapping[str, h5py.Dataset]], skipped: list[str]
) -> dict[str, Field]:
    """Classify every observation key by the first episode that has it."""
    fields: dict[str, Field] = {}
    refused: dict[str, str] = {}
    for episode in arrays.values():
        for key, array in episode.items():
            if key in fields or key in refused:
                continue
            shape = array.shape[1:]
            if array.ndim == 4 and shape[-1] == 3 and array.dtype == np.uint8:
                fields[key] = Field(shape, "uint8", "image")
            elif array.ndim in (1, 2) and array.dtype.kind in "fiub":
                fields[key] = Field(shape or (1,), array.dtype.name, "vector")
            else:
                refused[key] = (
                    f"obs/{key}: {array.dtype} of shape {shape} a frame is neither an image "
                    "(H, W, 3) uint8 nor a vector (D,)"
                )
    skipped.extend(refused.values())
    return fields


def _episode(
    group: h5py.Group,
    name: str,
    arrays: Mapping[str, h5py.Dataset],
    fields: Mapping[str, Field],
    action_dim: int,
    skipped: list[str],
) -> EpisodeInfo | None:
    """Describe one episode, or note in `skipped` why it cannot be used."""
    num_actions = len(group["actions"])
    if group["actions"].shape[1] != action_dim:
        skipped.append(
            f"{name}: actions have {group['actions'].shape[1]} values, the first episode's have "
            f"{action_dim}"
        )
        return None
    present = {key: arrays[key] for key in fields if key in arrays}
    for key, array in present.items():
        if len(array) != num_actions:
            skipped.append(f"{name}: obs/{key} has {len(array)} rows for {num_actions} actions")
            return None
        if fields[key].kind == "vector" and (array.shape[1:] or (1,)) != fields[key].shape:
            skipped.append(f"{name}: obs/{key} is {array.shape[1:]}, elsewhere {fields[key].shape}")
            return None
    following = group.get("next_obs", {})
    return EpisodeInfo(
        name=name,
        num_actions=num_actions,
        has_last_observation=all(
            key in following and len(following[key]) == num_actions for key in present
        ),
        missing=frozenset(fields) - frozenset(present),
        image_shapes={k: a.shape[1:] for k, a in present.items() if a.shape[1:] != fields[k].shape},
    )


def _note_unused(data: h5py.Group, episodes: tuple[EpisodeInfo, ...], skipped: list[str]) -> None:
    """Note what the file says or has that is not used."""
    num_steps = sum(episode.num_actions for episode in episodes)
    total = data.attrs.get("total")
    if total is not None and int(total) != num_steps:
        skipped.append(f"attribute total: says {total} steps, the usable episodes have {num_steps}")
    groups = [data[episode.name] for episode in episodes]
    if any("dones" in group and "terminated" not in group for group in groups):
        skipped.append("dones: not used, as it also marks the end of a recording")


def _outcomes(data: h5py.Group, episodes: tuple[EpisodeInfo, ...]) -> tuple[str, ...]:
    """Return the outcomes that every episode has for every step."""

    def has(episode: EpisodeInfo, outcome: str) -> bool:
        array = data[episode.name].get(STEP_KEYS[outcome])
        return array is not None and array.size == len(array) == episode.num_actions

    return tuple(o for o in OUTCOMES if all(has(episode, o) for episode in episodes))


def _env_args(data: h5py.Group, skipped: list[str]) -> dict[str, Any]:
    """Return the attribute `env_args`; empty where it is absent or not a JSON object."""
    try:
        env_args = json.loads(data.attrs.get("env_args", "{}"))
    except json.JSONDecodeError as error:
        skipped.append(f"attribute env_args: not JSON ({error})")
        return {}
    return env_args if isinstance(env_args, dict) else {}


def _control_freq(env_args: Mapping[str, Any]) -> float | None:
    """Return the steps a second that robosuite's `control_freq` names, if it does."""
    frequency = (env_args.get("env_kwargs") or {}).get("control_freq")
    return float(frequency) if isinstance(frequency, int | float) and frequency > 0 else None
