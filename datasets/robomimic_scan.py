"""Find out what an HDF5 file of the robomimic family really holds, whatever its attributes say.

Axes: T steps of an episode, H height, W width, D values of a vector, A values of an action.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from scd_wm.datasets.hdf5_fields import FieldTable
from scd_wm.datasets.hdf5_file import (
    HDF5_ERRORS,
    Array,
    arrays,
    attribute,
    describe,
    first_names,
    members,
    open_member,
)
from scd_wm.datasets.limits import check_episodes, check_numbers
from scd_wm.datasets.reader import EpisodeInfo, Field, SourceInfo
from scd_wm.datasets.robomimic_hdf5 import PLACEHOLDER, REPEATED
from scd_wm.datasets.robomimic_meta import control_rate, libero_is_late, read_masks, read_metadata
from scd_wm.datasets.skipped import Skipped
from scd_wm.spec import OUTCOMES

STEP_KEYS = {  # key of `read`: name in the file
    "reward": "rewards",
    "terminated": "terminated",
    "success": "success",
}
KNOWN = {"actions", "obs", "next_obs", "dones", "states", "initial_state", *STEP_KEYS.values()}
LAYOUTS = (
    "known are robomimic's (groups data/demo_0, ... with 'actions' and 'obs'; also robosuite's, "
    "MimicGen's, LIBERO's and Isaac Lab's) and Minari's (groups episode_0, ... with 'actions' and "
    "'observations')"
)


@dataclass(frozen=True)
class Scan:
    """What is usable of a file, and how it is stored."""

    info: SourceInfo
    first_action: int  # 1 where the first action led to the first observation
    table: FieldTable  # how observations are stored


@dataclass
class Demo:
    """One episode that has actions and observations."""

    name: str
    group: h5py.Group
    actions: Array  # (T, A) or (T,)
    observations: dict[str, h5py.Dataset]
    rest: dict[str, h5py.Group | h5py.Dataset]  # what else is in the group
    fits: dict[str, tuple[int, ...]] = field(default_factory=dict)  # key: one frame's shape
    with_last: set[str] = field(default_factory=set)  # keys whose frame T is stored

    @property
    def num_steps(self) -> int:
        """Actions T."""
        return self.actions.shape[0]

    @property
    def action_dim(self) -> int:
        """Values A of an action."""
        return math.prod(self.actions.shape[1:])


def scan(path: Path, file: h5py.File) -> Scan:
    """Look at the headers of all arrays of an open file.

    Raises:
        ValueError: If the file is not of this family or nothing in it is usable.
    """
    skipped = Skipped()
    data = _data(path, file)
    demos = _demos(path, data, skipped)
    table = FieldTable("obs/")
    for demo in demos:
        for key, dataset in demo.observations.items():
            _fit(table, demo, key, dataset, skipped)
    demos = [demo for demo in demos if demo.fits]
    if not demos:
        raise ValueError(f"{path} has no usable episode: {'; '.join(skipped.lines()[:3])}")
    metadata = read_metadata(data, skipped)
    first = demos[0]
    late = libero_is_late(data, first.observations, first.rest, skipped)
    if late:
        demos = _with_two_steps(path, demos, skipped)
    outcomes = _outcomes(demos, skipped)
    _note_unused(data, demos, skipped)
    info = SourceInfo(
        path=path,
        format="robomimic",
        fields=table.fields,
        action_dim=first.action_dim,
        outcomes=outcomes,
        fps=control_rate(metadata),
        episodes=tuple(_episode(demo, table.fields, late) for demo in demos),
        masks=read_masks(file, {demo.name for demo in demos}, skipped),
        skipped=skipped.lines(),
        metadata=metadata,
    )
    return Scan(info, int(late), table)


def _data(path: Path, file: h5py.File) -> h5py.Group:
    """Return the group that holds the episodes."""
    found, problems = members(file)
    data = found.get("data")
    if not isinstance(data, h5py.Group) or not len(data):
        why = f" ('data': {problems['data']})" if "data" in problems else ""
        raise ValueError(
            f"{path} is HDF5, but has no episodes under 'data'; it has {first_names(file)}{why}; "
            f"{LAYOUTS}; convert it or write a reader of your own"
        )
    check_episodes(str(path), len(data))
    return data


def _demos(path: Path, data: h5py.Group, skipped: Skipped) -> list[Demo]:
    """Return the episodes that have actions and observations, in the order of their numbers.

    Raises:
        ValueError: If there is none.
    """
    found, problems = members(data)
    for name, why in problems.items():
        skipped.add(f"episode: {why}", name)
    demos, raw = [], []
    for name in sorted(found, key=_episode_number):
        try:
            group = found[name]
            if not isinstance(group, h5py.Group):
                raise ValueError("an array, not the group of an episode")
            inside, bad = members(group)
            if "obs" not in inside and "states" in inside and "obs" not in bad:
                raw.append(name)
            demos.append(_demo(name, group, inside, bad, skipped))
        except HDF5_ERRORS as error:
            skipped.add(str(error), name)
    if raw and not demos:
        raise ValueError(
            f"{path} is a raw recording: data/{raw[0]} has no 'obs', only "
            f"{first_names(found[raw[0]])}; make observations (robosuite's with robomimic's "
            "dataset_states_to_obs.py, Isaac Lab's by replaying it with a recorder of "
            "observations) and open the file that has them"
        )
    if not demos:
        raise ValueError(f"{path} has no usable episode: {'; '.join(skipped.lines()[:3])}")
    return _same_actions(demos, skipped)


def _with_two_steps(path: Path, demos: list[Demo], skipped: Skipped) -> list[Demo]:
    """Return the episodes that have a step left without the first action."""
    for demo in demos:
        if demo.num_steps < 2:
            skipped.add("episode of one step, whose action is not used", demo.name)
    kept = [demo for demo in demos if demo.num_steps > 1]
    if not kept:
        raise ValueError(f"{path} has no usable episode: {'; '.join(skipped.lines()[:3])}")
    return kept


def _episode_number(name: str) -> tuple[float, str]:
    """Return a sort key that puts demo_10 after demo_9."""
    digits = re.search(r"\d{1,18}$", name)
    return (int(digits.group()) if digits else math.inf, name)


def _demo(
    name: str,
    group: h5py.Group,
    inside: dict[str, h5py.Group | h5py.Dataset],
    problems: Mapping[str, str],
    skipped: Skipped,
) -> Demo:
    """Look into one episode.

    Raises:
        ValueError: Saying why it cannot be used, without naming it.
    """
    actions, obs = inside.get("actions"), inside.get("obs")
    for key in ("actions", "obs"):
        if key in problems:
            raise ValueError(f"{key}: {problems[key]}")
    if not isinstance(actions, h5py.Dataset) or not isinstance(obs, h5py.Group):
        raise ValueError(f"episode needs 'actions' and 'obs', has {sorted(inside)}")
    try:
        header = describe(actions)
        if len(header.shape) > 2 or 0 in header.shape or header.dtype.kind not in "fiub":
            raise ValueError(f"must be numbers (T, A) with T >= 1, are {header}")
        check_numbers("they", header.shape, header.dtype.itemsize)
    except ValueError as error:
        raise ValueError(f"actions: {error}") from error
    observations, bad = arrays(obs)
    for key, why in bad.items():
        skipped.add(f"obs/{key}: {why}", name)
    return Demo(name, group, header, observations, inside)


def _same_actions(demos: list[Demo], skipped: Skipped) -> list[Demo]:
    """Return the episodes whose actions have as many values as the first one's."""
    action_dim = demos[0].action_dim
    for demo in demos:
        if demo.action_dim != action_dim:
            skipped.add(
                f"actions have not the {action_dim} values of {demos[0].name}",
                f"{demo.name} has {demo.action_dim}",
            )
    return [demo for demo in demos if demo.action_dim == action_dim]


def _fit(table: FieldTable, demo: Demo, key: str, dataset: h5py.Dataset, skipped: Skipped) -> None:
    """Note in the episode that an observation can be used, and whether frame T is stored."""
    found = table.fit(key, dataset, demo.num_steps, demo.name, skipped)
    if found is not None:
        demo.fits[key] = found.shape
        if found.num_rows > demo.num_steps or _has_next(demo, key, found.stored):
            demo.with_last.add(key)


def _has_next(demo: Demo, key: str, stored: Array) -> bool:
    """Return whether `next_obs` holds the frame after the last action, not a copy of another."""
    following = demo.rest.get("next_obs")
    if not isinstance(following, h5py.Group) or attribute(following, REPEATED) is not None:
        return False
    try:
        found = open_member(following, key)
        return isinstance(found, h5py.Dataset) and describe(found) == stored
    except HDF5_ERRORS:
        return False


def _episode(demo: Demo, fields: Mapping[str, Field], late: bool) -> EpisodeInfo:
    """Describe one episode."""
    success = attribute(demo.group, "success")
    return EpisodeInfo(
        name=demo.name,
        num_actions=demo.num_steps - late,
        has_last_observation=late or demo.with_last >= set(demo.fits),
        missing=frozenset(fields) - frozenset(demo.fits),
        image_shapes={key: shape for key, shape in demo.fits.items() if shape != fields[key].shape},
        success=bool(success) if isinstance(success, bool | np.bool_ | np.integer) else None,
    )


def _note_unused(data: h5py.Group, demos: list[Demo], skipped: Skipped) -> None:
    """Note what the file says or has that is not used."""
    num_steps = sum(demo.num_steps for demo in demos)
    total = attribute(data, "total")
    if total is not None and not np.array_equal(total, num_steps):
        skipped.add(f"attribute total: says {total} steps, the usable episodes have {num_steps}")
    if any("dones" in demo.rest and "terminated" not in demo.rest for demo in demos):
        skipped.add("dones: not used, as it also marks the end of a recording")
    for demo in demos:
        for name in sorted(set(demo.rest) - KNOWN):
            skipped.add(f"{name}: beside 'actions' and 'obs', not used", demo.name)
        partly = sorted(demo.with_last)
        if partly and demo.with_last < set(demo.fits):
            skipped.add(f"frame after the last action: stored only of {partly}", demo.name)


def _outcomes(demos: list[Demo], skipped: Skipped) -> tuple[str, ...]:
    """Return the outcomes that every episode has for every step."""
    found = []
    for outcome in OUTCOMES:
        lacking = [demo.name for demo in demos if not _has_outcome(demo, STEP_KEYS[outcome])]
        if not lacking:
            found.append(outcome)
        elif len(lacking) < len(demos):
            for name in lacking:
                skipped.add(f"{STEP_KEYS[outcome]}: not used, as not every episode has it", name)
    return tuple(found)


def _has_outcome(demo: Demo, key: str) -> bool:
    """Return whether an episode has one number for each step under a name."""
    dataset = demo.rest.get(key)
    if not isinstance(dataset, h5py.Dataset) or attribute(dataset, PLACEHOLDER) is not None:
        return False
    try:
        header = describe(dataset)
    except HDF5_ERRORS:
        return False
    count = demo.num_steps
    return header.shape[0] == math.prod(header.shape) == count and header.dtype.kind in "fiub"
