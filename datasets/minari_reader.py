"""Read Minari data sets in HDF5: `episode_0`, `episode_1`, ... in `data/main_data.hdf5`.

Axes: T steps of an episode, H height, W width, D values of a vector, A values of an action.
An episode has `actions` of T rows, `observations` of T + 1 rows (one array, or nested groups for
Dict and Tuple spaces, whose keys are joined as in "robot/state"), `rewards`, `terminations` and
`truncations` of T rows, and `infos`. Images are (T + 1, H, W, 3) uint8 or, Minari's default, one
JPEG file a row. `data/metadata.json` has the spaces; older data sets have attributes instead.

Actions of a Discrete or MultiDiscrete space become one-hot vectors. "success" is `infos/success` or
`infos/is_success`, whose first row, from the reset, counts for no step. Minari does not say the
time of a step: `fps` is known only if the environment's arguments have `control_freq`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scd_wm.datasets.hdf5_fields import FieldTable
from scd_wm.datasets.hdf5_file import (
    HDF5_ERRORS,
    Array,
    Hdf5Handle,
    arrays,
    attribute,
    describe,
    first_names,
    members,
    naming_damage,
    open_file,
)
from scd_wm.datasets.limits import check_episodes, check_numbers
from scd_wm.datasets.minari_meta import (
    EPISODE,
    Choices,
    discrete_choices,
    main_file,
    read_metadata,
    steps_a_second,
    without_spaces,
)
from scd_wm.datasets.reader import ACTION, EpisodeInfo, Field, SourceInfo
from scd_wm.datasets.skipped import Skipped
from scd_wm.spec import OUTCOMES

STEP_KEYS = {  # key of `read`: possible names in the file
    "reward": ("rewards",),
    "terminated": ("terminations",),
    "success": ("infos/success", "infos/is_success"),
}
KNOWN = {"actions", "observations", "rewards", "terminations", "truncations", "infos"}
PLAIN = "observations"  # key of observations that are one array


@dataclass
class Episode:
    """One episode that has actions and observations."""

    name: str
    actions: Array
    observations: dict[str, h5py.Dataset]
    outcomes: dict[str, str]  # outcome: its name in the file
    rest: set[str]  # what else is in the group
    total_steps: Any  # as an attribute says
    fits: dict[str, tuple[int, ...]] = field(default_factory=dict)  # key: one frame's shape
    with_last: set[str] = field(default_factory=set)  # keys whose frame T is stored


class MinariReader:
    """Random access to a Minari data set. Each process opens the file for itself.

    Args:
        path: The data set's folder, the folder `data` in it, or the HDF5 file.

    Raises:
        ValueError: If the data are damaged or in Minari's format "arrow", or no episode can be
            used.
    """

    def __init__(self, path: Path) -> None:
        self._path = main_file(path)
        skipped = Skipped()
        self._table = FieldTable("")
        with open_file(self._path) as file, naming_damage(self._path):
            metadata = read_metadata(self._path, file, skipped)
            self._choices = discrete_choices(metadata)
            episodes = _scan(self._path, file, self._choices, self._table, skipped)
        self._outcomes = _common_outcomes(episodes, skipped)
        self.info = SourceInfo(
            path=path,
            format="Minari",
            fields=self._table.fields,
            action_dim=_width(episodes[0].actions, self._choices),
            outcomes=tuple(self._outcomes),
            fps=steps_a_second(metadata),
            episodes=tuple(_episode_info(episode, self._table.fields) for episode in episodes),
            skipped=skipped.lines(),
            metadata=without_spaces(metadata),
        )
        self._handle = Hdf5Handle(self._path)

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`. Images that are JPEG files are decoded."""
        info = self.info.episodes[episode]
        if key == ACTION:
            where = f"{info.name}/actions"
            steps = self._handle.rows(where, start, stop)
            if self._choices:
                return self._choices.one_hot(steps, f"{where} in {self._path}")
            return steps.reshape(len(steps), -1)
        if key in self._outcomes:
            name = f"{info.name}/{self._outcomes[key]}"
            first = self._handle.shape(name)[0] - info.num_actions  # 1 if the reset has a row
            return self._handle.rows(name, start + first, stop + first).ravel()
        name = f"{info.name}/observations" + ("" if key == PLAIN else f"/{key}")
        rows = self._handle.rows(name, start, stop)
        shape = info.image_shapes.get(key, self.info.fields[key].shape)
        return self._table.values(key, rows, shape, f"{name} in {self._path}")


def _scan(
    path: Path, file: h5py.File, choices: Choices | None, table: FieldTable, skipped: Skipped
) -> list[Episode]:
    """Return the episodes that can be used.

    Raises:
        ValueError: If there is none.
    """
    check_episodes(str(path), len(file))
    found, problems = members(file)
    for name, why in problems.items():
        skipped.add(f"episode: {why}", name)
    episodes: list[Episode] = []
    for name in sorted((n for n in found if EPISODE.fullmatch(n)), key=lambda n: int(n[8:])):
        try:
            episode = _episode(name, found[name], choices, skipped)
        except HDF5_ERRORS as error:
            skipped.add(str(error), name)
            continue
        width = _width((episodes or [episode])[0].actions, choices)
        if _width(episode.actions, choices) != width:
            skipped.add(f"actions have not the {width} values of {episodes[0].name}", name)
            continue
        _fit(table, episode, skipped)
        if episode.fits:
            episodes.append(episode)
    if not episodes:
        reason = "; ".join(skipped.lines()[:3]) or f"it has {first_names(file)}"
        raise ValueError(f"{path} has no usable episode: {reason}")
    _note_unused(episodes, skipped)
    return episodes


def _episode(
    name: str, group: h5py.Group | h5py.Dataset, choices: Choices | None, skipped: Skipped
) -> Episode:
    """Look into one episode.

    Raises:
        ValueError: Saying why it cannot be used, without naming it.
    """
    if not isinstance(group, h5py.Group):
        raise ValueError("an array, not the group of an episode")
    inside, problems = members(group)
    for key in ("actions", "observations"):
        if key in problems:
            raise ValueError(f"{key}: {problems[key]}")
    if not {"actions", "observations"} <= set(inside):
        raise ValueError(f"episode needs 'actions' and 'observations', has {sorted(inside)}")
    actions = _action_header(inside["actions"], choices)
    observations, bad = inside["observations"], dict[str, str]()
    if isinstance(observations, h5py.Group):
        keys, bad = arrays(observations)
    else:
        keys = {PLAIN: observations}
    for key, why in bad.items():
        skipped.add(f"{key}: {why}", name)
    infos = inside.get("infos")
    flags, _ = arrays(infos) if isinstance(infos, h5py.Group) else ({}, {})
    steps = {**inside, **{f"infos/{key}": item for key, item in flags.items()}}
    return Episode(
        name=name,
        actions=actions,
        observations=keys,
        outcomes=_outcomes(steps, actions.shape[0]),
        rest=(set(inside) - KNOWN) | {key for key in steps if key.startswith("infos/")},
        total_steps=attribute(group, "total_steps"),
    )


def _action_header(actions: h5py.Group | h5py.Dataset, choices: Choices | None) -> Array:
    """Return the header of actions that are numbers.

    Raises:
        ValueError: If they are something else, saying what.
    """
    if not isinstance(actions, h5py.Dataset):
        raise ValueError(
            "actions of a Dict or Tuple space are not read: record them flattened into one vector"
        )
    try:
        shape, dtype = header = describe(actions)
        if len(shape) > 2 or 0 in shape or dtype.kind not in "fiub":
            raise ValueError(f"must be numbers (T, A) with T >= 1, are {dtype} {shape}")
        check_numbers("they", shape, max(dtype.itemsize, 4 * _width(header, choices)))
    except ValueError as error:
        raise ValueError(f"actions: {error}") from error
    if choices and (dtype.kind not in "iu" or math.prod(shape[1:]) != len(choices.counts)):
        raise ValueError(f"actions are {dtype} {shape}, not of the space {choices.counts}")
    if not choices and len(shape) == 1 and dtype.kind in "iu":
        raise ValueError(
            "actions are one whole number each and the metadata name no Discrete space of at most "
            "4096 choices; record them as vectors"
        )
    return header


def _width(actions: Array, choices: Choices | None) -> int:
    """Return the values A of an action as it is read."""
    return choices.action_dim if choices else math.prod(actions.shape[1:])


def _fit(table: FieldTable, episode: Episode, skipped: Skipped) -> None:
    """Note in an episode which observations can be used and whether frame T is stored."""
    num_steps = episode.actions.shape[0]
    for key, dataset in episode.observations.items():
        found = table.fit(key, dataset, num_steps, episode.name, skipped)
        if found is not None:
            episode.fits[key] = found.shape
            if found.num_rows > num_steps:
                episode.with_last.add(key)


def _outcomes(items: Mapping[str, h5py.Group | h5py.Dataset], num_steps: int) -> dict[str, str]:
    """Return the outcomes that an episode has for every step, and their names in the file."""
    found: dict[str, str] = {}
    for outcome in OUTCOMES:
        for name in STEP_KEYS[outcome]:
            item = items.get(name)
            extra = (0, 1) if name.startswith("infos/") else (0,)
            if isinstance(item, h5py.Dataset) and _rows_of_numbers(item) - num_steps in extra:
                found.setdefault(outcome, name)
    return found


def _rows_of_numbers(dataset: h5py.Dataset) -> int:
    """Return how many rows of one number an array has; -1 if it is something else."""
    try:
        shape, dtype = describe(dataset)
    except HDF5_ERRORS:
        return -1
    return shape[0] if dtype.kind in "fiub" and math.prod(shape) == shape[0] else -1


def _common_outcomes(episodes: list[Episode], skipped: Skipped) -> dict[str, str]:
    """Return the outcomes that every episode has under the same name."""
    common = {}
    names = {outcome: name for e in reversed(episodes) for outcome, name in e.outcomes.items()}
    for outcome, name in names.items():
        lacking = [e.name for e in episodes if e.outcomes.get(outcome) != name]
        if not lacking:
            common[outcome] = name
        for episode in lacking:
            skipped.add(f"{name}: not used, as not every episode has it", episode)
    return common


def _note_unused(episodes: list[Episode], skipped: Skipped) -> None:
    """Note what the data set says or has that is not used."""
    for episode in episodes:
        num_steps = episode.actions.shape[0]
        if episode.total_steps is not None and not np.array_equal(episode.total_steps, num_steps):
            place = f"{episode.name} says {episode.total_steps} for {num_steps}"
            skipped.add("attribute total_steps: not used", place)
        for name in sorted(episode.rest - set(episode.outcomes.values())):
            skipped.add(f"{name}: not used", episode.name)
        if episode.with_last and episode.with_last < set(episode.fits):
            skipped.add(
                f"frame after the last action: stored only of {sorted(episode.with_last)}",
                episode.name,
            )


def _episode_info(episode: Episode, fields: Mapping[str, Field]) -> EpisodeInfo:
    """Describe one episode."""
    return EpisodeInfo(
        name=episode.name,
        num_actions=episode.actions.shape[0],
        has_last_observation=episode.with_last >= set(episode.fits),
        missing=frozenset(fields) - frozenset(episode.fits),
        image_shapes={k: shape for k, shape in episode.fits.items() if shape != fields[k].shape},
    )
