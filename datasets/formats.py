"""Recognise the format of a data set and open it.

To add a format, write a class with the two members of `scd_wm.datasets.reader.Reader` and add it to
`READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scd_wm.datasets.hdf5_file import is_hdf5
from scd_wm.datasets.lerobot_meta import is_lerobot
from scd_wm.datasets.lerobot_v2 import LeRobotReader
from scd_wm.datasets.minari_meta import is_minari
from scd_wm.datasets.minari_reader import MinariReader
from scd_wm.datasets.mixture import is_mixture, open_mixture
from scd_wm.datasets.reader import Reader
from scd_wm.datasets.robomimic_reader import RobomimicReader
from scd_wm.datasets.store import is_store
from scd_wm.datasets.store_reader import StoreReader


class Format(NamedTuple):
    """One format that can be read."""

    name: str
    recognise: Callable[[Path], bool]  # cheap, and True for a damaged file of the format
    open: Callable[[Path], Reader]


READERS = [
    Format("scd_wm store", is_store, StoreReader),
    Format("Minari HDF5 file or folder", is_minari, MinariReader),  # before all other HDF5
    Format("robomimic HDF5 file", is_hdf5, RobomimicReader),
    Format("LeRobot v2.0 or v2.1 folder", is_lerobot, LeRobotReader),
    Format("mixture file", is_mixture, lambda path: open_mixture(path, open_reader)),
]


def open_reader(path: str | Path) -> Reader:
    """Open a data set of any known format.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If no format recognises it, or the one that does finds it damaged.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no data set at {path}: there is no such file or folder")
    for known in READERS:
        if known.recognise(path):
            return known.open(path)
    raise ValueError(
        f"{path} is {_found(path)}, not a data set of a known format; known are "
        f"{', '.join(known.name for known in READERS)}"
    )


def _found(path: Path) -> str:
    """Describe in a few words what lies at `path`."""
    if path.is_dir():
        names = sorted(child.name for child in path.iterdir())
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"a folder with {names[:5]}{more}"
    with path.open("rb") as file:
        start = file.read(8)
    return f"a file of {path.stat().st_size} bytes that begins with {start!r}"
