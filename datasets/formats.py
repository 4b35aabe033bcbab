"""Recognise the format of a data set and open it.

To add a format to this package, write a class with the two members of
`scd_wm.datasets.reader.Reader` and add it to `READERS`; to add one from a package of your own, see
`scd_wm.datasets.own_formats`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scd_wm.datasets.hdf5_file import is_hdf5
from scd_wm.datasets.lerobot_meta import is_lerobot
from scd_wm.datasets.lerobot_reader import LeRobotReader
from scd_wm.datasets.minari_meta import is_minari
from scd_wm.datasets.minari_reader import MinariReader
from scd_wm.datasets.mixture import is_mixture, open_mixture
from scd_wm.datasets.npz_episodes import NpzEpisodesReader, is_npz_episodes
from scd_wm.datasets.own_formats import check_opened, own_formats
from scd_wm.datasets.reader import Reader
from scd_wm.datasets.replay_buffer import ReplayBufferReader, is_replay_buffer
from scd_wm.datasets.robomimic_reader import RobomimicReader
from scd_wm.datasets.store import is_store
from scd_wm.datasets.store_reader import StoreReader

HINTS = 20  # entries of a folder that are looked at to say what in it can be opened


class Format(NamedTuple):
    """One format that can be read."""

    name: str
    recognise: Callable[[Path], bool]  # cheap, and True for a damaged file of the format
    open: Callable[[Path], Reader]


READERS = [
    Format("scd_wm store", is_store, StoreReader),
    Format("Minari HDF5 file or folder", is_minari, MinariReader),  # before all other HDF5
    Format("robomimic HDF5 file", is_hdf5, RobomimicReader),
    Format("mixture file", is_mixture, lambda path: open_mixture(path, open_reader)),
    Format("LeRobot v2 or v3 folder", is_lerobot, LeRobotReader),
    Format("diffusion-policy replay buffer", is_replay_buffer, ReplayBufferReader),
    Format("npz episodes", is_npz_episodes, NpzEpisodesReader),
]


def open_reader(path: str | Path, reader: Callable[[Path], Reader] | None = None) -> Reader:
    """Open a data set of any known format, or with a class of one's own.

    Formats that installed packages add are asked before those listed here, so that they may be of a
    kind, such as HDF5, that is known; one that cannot be loaded is named if opening fails.

    Args:
        path: The file or folder.
        reader: What to open it with, called with the path; None finds it out.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If no format recognises it, or the one that does finds it damaged.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no data set at {path}: there is no such file or folder")
    if reader is not None:
        return check_opened(f"reader {reader!r}", reader, path)
    own = own_formats()
    opened = own.open(path)
    if opened is not None:
        return opened
    for known in READERS:
        if known.recognise(path):
            return _open(known, path, own.note)
    names = ", ".join([*(known.name for known in READERS), *own.found])
    raise ValueError(
        f"{path} is {_found(path)}, not a data set of a known format; known are {names}{own.note}"
    )


def _open(known: Format, path: Path, note: str) -> Reader:
    """Open a path of a known format, adding a note to the message if that fails."""
    if not note:
        return known.open(path)
    try:
        return known.open(path)
    except ValueError as error:
        raise ValueError(f"{error}{note}") from error


def _is_known(path: Path) -> bool:
    return any(known.recognise(path) for known in READERS)


def _found(path: Path) -> str:
    """Describe in a few words what lies at `path`."""
    if path.is_dir():
        names = sorted(child.name for child in path.iterdir())
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        known = [name for name in names[:HINTS] if _is_known(path / name)]
        hint = f" (open {known[0]!r} in it, or several as a mixture)" if known else ""
        return f"a folder with {names[:5]}{more}{hint}"
    with path.open("rb") as file:
        start = file.read(8)
    return f"a file of {path.stat().st_size} bytes that begins with {start!r}"
