"""What an HDF5 file of the robomimic family says beside its episodes: attributes and masks.

Axes: T steps of an episode, S values of a simulator's state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any

import h5py
import numpy as np

from scd_wm.datasets.hdf5_chunks import check_stored
from scd_wm.datasets.hdf5_file import HDF5_ERRORS, arrays, attribute, describe, members
from scd_wm.datasets.limits import check_numbers
from scd_wm.datasets.skipped import Skipped, some

JSON_ATTRIBUTES = ("env_info", "problem_info", "ep_meta")
TEXT_ATTRIBUTES = ("env", "env_name", "bddl_file_name", "macros_image_convention")
LATE_FACTOR = 10  # how much nearer the next state must be for observations to be called late


def read_metadata(data: h5py.Group, skipped: Skipped) -> dict[str, Any]:
    """Return the environment's description: `env_args` with the other attributes beside it."""
    metadata = dict(_json(data, "env_args", skipped))
    for name in JSON_ATTRIBUTES:
        if value := _json(data, name, skipped):
            metadata.setdefault(name, value)
    for name in TEXT_ATTRIBUTES:
        value = attribute(data, name)
        if isinstance(value, str):
            metadata.setdefault(name, value)
    if metadata.get("macros_image_convention") == "opengl" and "bddl_file_name" in metadata:
        skipped.add("images: kept upside down as LIBERO stores them (flip both when you compare)")
    return metadata


def _json(data: h5py.Group, name: str, skipped: Skipped) -> Mapping[str, Any]:
    """Return a JSON object in an attribute; empty where it is absent or none."""
    text = attribute(data, name)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        skipped.add(f"attribute {name}: not JSON ({error})")
        return {}
    return value if isinstance(value, dict) else {}


def control_rate(metadata: Mapping[str, Any]) -> float | None:
    """Return the steps a second by robosuite's `control_freq` or Isaac Lab's `sim_args`."""
    kwargs, sim = metadata.get("env_kwargs"), metadata.get("sim_args")
    if isinstance(kwargs, dict):
        return _positive(kwargs.get("control_freq"))
    if isinstance(sim, dict):
        step_s, steps = _positive(sim.get("dt")), _positive(sim.get("decimation"))
        return 1 / (step_s * steps) if step_s and steps else None
    return None


def _positive(value: object) -> float | None:
    """Return a number above zero, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < float("inf") else None


def read_masks(file: h5py.File, episodes: Set[str], skipped: Skipped) -> dict[str, tuple[str, ...]]:
    """Return the episodes that each `mask/<name>` lists, without those that cannot be used."""
    group = members(file)[0].get("mask")
    if not isinstance(group, h5py.Group):
        return {}
    found, problems = arrays(group)
    masks: dict[str, tuple[str, ...]] = {}
    for name, why in problems.items():
        skipped.add(f"mask/{name}: {why}")
    for name, dataset in found.items():
        try:
            names = list(dict.fromkeys(_names(dataset)))
        except HDF5_ERRORS as error:
            skipped.add(f"mask/{name}: {error}")
            continue
        absent = [episode for episode in names if episode not in episodes]
        if absent:
            skipped.add(
                f"mask/{name}: {len(absent)} of {len(names)} names are of no episode that can be "
                f"used: {some(absent)}"
            )
        masks[name] = tuple(episode for episode in names if episode in episodes)
    return masks


def _names(dataset: h5py.Dataset) -> list[str]:
    """Return an array of names, fixed in length or not."""
    shape, dtype = describe(dataset)
    if len(shape) != 1 or h5py.check_string_dtype(dtype) is None:
        raise ValueError(f"{dtype} of shape {shape}, not a list of names")
    check_numbers("it", shape, dtype.itemsize)
    check_stored(dataset)
    return [bytes(name).decode(errors="replace") for name in dataset[:]]


def libero_is_late(
    data: h5py.Group,
    observations: Mapping[str, h5py.Dataset],
    rest: Mapping[str, h5py.Group | h5py.Dataset],
    skipped: Skipped,
) -> bool:
    """Return whether observation t of LIBERO's files was made after action t, not before it.

    LIBERO's `create_dataset.py` replays the actions and keeps what each step returns. Then the
    first action led to the first observation and is of no use. The simulator's `states`, from
    before each action, tell: they have the time and then the joints of `obs/joint_states`.

    Args:
        data: The group of the episodes, with LIBERO's attributes or not.
        observations: What is in `obs` of an episode.
        rest: What else the episode has.
        skipped: Where it is noted.
    """
    if attribute(data, "bddl_file_name") is None:
        return False
    try:
        joints, states = observations["joint_states"], rest["states"]
        for dataset in (joints, states):
            check_numbers("it", describe(dataset).shape, dataset.dtype.itemsize)
            check_stored(dataset)
        seen, before = joints[:], states[:, 1 : 1 + joints.shape[1]]
        same = float(np.abs(seen[:-1] - before[:-1]).mean())
        following = float(np.abs(seen[:-1] - before[1:]).mean())
    except HDF5_ERRORS:
        skipped.add(
            "no 'states' and 'obs/joint_states' to tell whether the observations are of after the "
            "actions of their rows, as LIBERO's script makes them; taken as of before"
        )
        return False
    late = following * LATE_FACTOR < same
    if late:
        skipped.add(
            "first action of every episode: not used, as observations are of after the actions of "
            "their rows (by 'states'); the others are moved to where they belong"
        )
    return late
