"""Where a Minari data set is, and what its metadata say.

Axes: A values of an action.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scd_wm.datasets.hdf5_file import HDF5_ERRORS, attribute, is_hdf5
from scd_wm.datasets.robomimic_meta import control_rate
from scd_wm.datasets.skipped import Skipped

MAIN_FILE = "main_data.hdf5"
METADATA_FILE = "metadata.json"
EPISODE = re.compile(r"episode_(\d{1,18})")
MAX_METADATA_BYTES = 2**27  # the bounds of an image space are a number a value, as text
MAX_CHOICES = 4096  # of a discrete action: it becomes so many values
SPACES = ("observation_space", "action_space")
NAMES_LOOKED_AT = 20  # at the root of a file, to recognise it


def is_minari(path: Path) -> bool:
    """Return whether `path` is a Minari folder, its `data`, or an HDF5 file of Minari's groups."""
    if path.is_dir():
        folder = _data_folder(path)
        return (folder / MAIN_FILE).is_file() or (folder / METADATA_FILE).is_file()
    if not is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return any(EPISODE.fullmatch(str(name)) for name in islice(file, NAMES_LOOKED_AT))
    except HDF5_ERRORS:
        return False  # the reader of other HDF5 files says that it is damaged


def _data_folder(path: Path) -> Path:
    inside = path / "data"
    return path if (path / MAIN_FILE).is_file() or not inside.is_dir() else inside


def main_file(path: Path) -> Path:
    """Return the HDF5 file of a data set.

    Raises:
        ValueError: If the folder has none: the data are in another of Minari's formats.
    """
    if path.is_file():
        return path
    file = _data_folder(path) / MAIN_FILE
    if not file.is_file():
        raise ValueError(
            f"{path} is a Minari data set without {file.name}; data in Minari's format 'arrow' "
            "must be written again with data_format='hdf5'"
        )
    return file


def read_metadata(file: Path, root: h5py.File, skipped: Skipped) -> dict[str, Any]:
    """Return what `metadata.json` beside the file says or, in older data sets, its attributes.

    The spaces are JSON in the form of text, as in the file.
    """
    beside = file.with_name(METADATA_FILE)
    if file.name != MAIN_FILE or not beside.is_file():
        found = {name: attribute(root, name) for name in root.attrs}
        return {key: value for key, value in found.items() if isinstance(value, str)}
    try:
        if beside.stat().st_size > MAX_METADATA_BYTES:
            raise ValueError(f"{beside.stat().st_size} bytes, allowed are {MAX_METADATA_BYTES}")
        metadata = json.loads(beside.read_text())
        if not isinstance(metadata, dict):
            raise ValueError(f"holds a {type(metadata).__name__}, not an object")
    except (OSError, ValueError, RecursionError) as error:
        skipped.add(f"{beside.name}: not used, as it is damaged ({error})")
        return {}
    return metadata


def without_spaces(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata without the spaces, whose bounds may be megabytes of text."""
    return {key: value for key, value in metadata.items() if key not in SPACES}


def steps_a_second(metadata: Mapping[str, Any]) -> float | None:
    """Return the rate of control, if the environment's arguments or the metadata name it."""
    fps = metadata.get("fps")
    spec = _object(metadata.get("env_spec"))
    return control_rate({"env_kwargs": {"control_freq": fps or _kwargs(spec).get("control_freq")}})


def _kwargs(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    kwargs = spec.get("kwargs")
    return kwargs if isinstance(kwargs, dict) else {}


def _object(text: object) -> dict[str, Any]:
    """Return the JSON object in a text, or an empty one."""
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Choices:
    """Discrete actions, each of which becomes as many values as it has choices, one of them 1."""

    counts: tuple[int, ...]  # choices of each number in an action
    starts: tuple[int, ...]  # the number of the first choice

    @property
    def action_dim(self) -> int:
        """Values A of an action."""
        return sum(self.counts)

    def one_hot(self, numbers: np.ndarray, where: str) -> np.ndarray:
        """Return actions, (T, A) float32, from one number a choice, (T, ...).

        Raises:
            ValueError: If a number is none of the choices; names `where`.
        """
        picked = numbers.reshape(len(numbers), len(self.counts)) - np.array(self.starts)
        if picked.size and not ((picked >= 0) & (picked < np.array(self.counts))).all():
            raise ValueError(
                f"{where} has actions from {numbers.min()} to {numbers.max()}, but its space has "
                f"{self.counts} choices from {self.starts} on; repair the data or its metadata"
            )
        parts = [np.eye(n, dtype=np.float32)[picked[:, i]] for i, n in enumerate(self.counts)]
        return np.concatenate(parts, axis=1)


def discrete_choices(metadata: Mapping[str, Any]) -> Choices | None:
    """Return the choices if the action space is Discrete or MultiDiscrete of moderate size."""
    space = _object(metadata.get("action_space"))
    if space.get("type") == "Discrete":
        counts, starts = [space.get("n")], [space.get("start", 0)]
    elif space.get("type") == "MultiDiscrete" and isinstance(space.get("nvec"), list):
        counts = space["nvec"]
        starts = space.get("start") or [0] * len(counts)
    else:
        return None
    choices = Choices(_whole(counts), _whole(starts))
    if len(choices.counts) != len(choices.starts) or min(choices.counts, default=0) < 1:
        return None
    return choices if choices.action_dim <= MAX_CHOICES else None


def _whole(values: list[Any]) -> tuple[int, ...]:
    """Return the whole numbers of a list."""
    return tuple(value for value in values if isinstance(value, int))
