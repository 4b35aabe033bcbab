"""HDF5 files of others: read what lies in the file itself, and nothing that it claims unchecked.

Axes: T rows of an array.
External links, virtual arrays and arrays whose values are in other files are never followed. What a
header claims is compared with `scd_wm.datasets.limits` and the file's size before memory is taken.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from scd_wm.datasets.hdf5_chunks import check_stored
from scd_wm.datasets.limits import check_chunk

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HDF5_ERRORS = (  # what h5py raises on damaged bytes
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
)
MAX_LINKS = 100  # followed for one name, so that a circle ends
MAX_DEPTH = 8  # of groups in groups
MAX_ARRAYS = 10_000  # of one episode
COMPRESSORS = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_LZF: "lzf", 4: "szip"}


class Array(NamedTuple):
    """What the header of an array that can be read says."""

    shape: tuple[int, ...]  # (T, ...)
    dtype: np.dtype


def is_hdf5(path: Path) -> bool:
    """Return whether `path` is a file that begins as HDF5 does, even if it is damaged."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def open_file(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises:
        ValueError: If it is damaged, or a program is writing it or was killed while it did.
    """
    try:
        return h5py.File(path, "r")
    except HDF5_ERRORS as error:
        if "unable to lock file" in str(error):
            raise ValueError(
                f"{path} is being written by another program ({error}); close that first"
            ) from error
        if "already open for" in str(error):
            raise ValueError(
                f"{path} is being written, or its writer was killed ({error}); close the writer, "
                "or if there is none run h5clear -s on a copy of the file"
            ) from error
        raise ValueError(
            f"{path} is cut short or damaged ({error}); copy or download it again"
        ) from error


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn h5py's errors into a ValueError that names the file; our own pass."""
    try:
        yield
    except HDF5_ERRORS as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is damaged ({error!r}); copy or download it again") from error


def members(group: h5py.Group) -> tuple[dict[str, h5py.Group | h5py.Dataset], dict[str, str]]:
    """Return what is in a group, and of what cannot be opened, why not.

    Soft links are followed within the file.
    """
    found, problems = {}, {}
    for name in group:
        try:
            if isinstance(name, bytes):
                raise ValueError("a name that is no text")
            item = open_member(group, name)
            if isinstance(item, h5py.Group | h5py.Dataset):
                found[name] = item
        except HDF5_ERRORS as error:
            problems[str(name)] = str(error.args[0] if error.args else error)
    return found, problems


def open_member(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
    """Open what lies at a path below a group without leaving the file.

    Raises:
        ValueError: If it is not there, or saying why it is not opened.
    """
    here: Any = group
    parts = path.split("/")
    for _ in range(MAX_LINKS):
        part = parts.pop(0)
        link = _link(here, part) if isinstance(here, h5py.Group) else None
        if isinstance(link, h5py.SoftLink):
            here = group.file["/"] if link.path.startswith("/") else here
            parts = [p for p in link.path.split("/") if p not in ("", ".")] + parts
        elif link is h5py.HardLink:
            here = here[part]
        elif isinstance(link, h5py.ExternalLink):
            raise ValueError(
                f"external link to {link.filename}, which is not followed; copy its data into the "
                "file"
            )
        else:
            raise ValueError(f"link to {part!r}, which is not there")
        if not parts:
            return here
    raise ValueError("links that lead in a circle")


def _link(group: h5py.Group, name: str) -> Any:
    """Return a member's link, of a hard one (the usual, and slower to ask h5py for) its class."""
    code = name.encode()
    if group.id.links.exists(code) and group.id.links.get_info(code).type == h5py.h5l.TYPE_HARD:
        return h5py.HardLink
    return group.get(name, getlink=True)


def arrays(group: h5py.Group) -> tuple[dict[str, h5py.Dataset], dict[str, str]]:
    """Return all arrays below a group by their path, such as "robot0/eef/pos", and problems.

    Raises:
        ValueError: If there are more than anybody records.
    """
    found: dict[str, h5py.Dataset] = {}
    problems: dict[str, str] = {}
    waiting = [("", group, 0)]
    seen = {h5py.h5o.get_info(group.id).addr}  # a group may hold a link to itself
    while waiting:
        prefix, here, depth = waiting.pop()
        inside, bad = members(here)
        problems |= {f"{prefix}{name}": why for name, why in bad.items()}
        for name, item in inside.items():
            if isinstance(item, h5py.Dataset):
                found[f"{prefix}{name}"] = item
                continue
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen and depth < MAX_DEPTH:
                seen.add(address)
                waiting.append((f"{prefix}{name}/", item, depth + 1))
        if len(found) + len(waiting) > MAX_ARRAYS:
            raise ValueError(f"more than {MAX_ARRAYS} arrays and groups under {group.name}")
    return dict(sorted(found.items())), problems


def describe(dataset: h5py.Dataset) -> Array:
    """Return the shape and dtype of an array after checking that its rows can be read.

    Raises:
        ValueError: Saying why not, without naming the array.
    """
    try:
        dtype, shape = dataset.dtype, dataset.shape
    except TypeError as error:
        raise ValueError(f"values of a type that NumPy has not ({error})") from error
    if not shape:
        raise ValueError("one value or none, not a row for each step")
    layout = dataset.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL:
        raise ValueError("virtual array, whose values are elsewhere; copy them into the file")
    if layout.get_external_count():
        raise ValueError("its values are in another file; copy them into this one")
    if math.prod(shape) and dataset.id.get_storage_size() == 0:
        raise ValueError(f"claims shape {shape}, but no value was ever written")
    if layout.get_layout() == h5py.h5d.CHUNKED:
        check_chunk("it", layout.get_chunk(), dtype.itemsize)
        _check_filters(layout)
    elif layout.get_layout() == h5py.h5d.CONTIGUOUS:
        _check_inside(dataset, math.prod(shape) * dtype.itemsize)
    return Array(shape, dtype)


def _check_inside(dataset: h5py.Dataset, size: int) -> None:
    """Raise unless an array of one piece lies within its file."""
    offset = dataset.id.get_offset()
    file_size = h5py.h5i.get_file_id(dataset.id).get_filesize()
    if offset is not None and offset + size > file_size:
        raise ValueError(
            f"claims {size} bytes from byte {offset} of a file of {file_size}: the file is damaged"
        )


def _check_filters(layout: h5py.h5p.PropDCID) -> None:
    """Raise unless a chunked array can be unpacked here."""
    used = [layout.get_filter(i) for i in range(layout.get_nfilters())]
    for code, _, _, name in used:
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                importlib.import_module("hdf5plugin")  # makes its filters known to h5py
        if not h5py.h5z.filter_avail(code):
            raise ValueError(
                f"compressed by filter {code} ({name.decode(errors='replace') or 'no name'}), "
                "which is not installed; pip install hdf5plugin, or rewrite the file with gzip"
            )
    if sum(code in COMPRESSORS for code, _, _, _ in used) > 1:
        raise ValueError("compressed more than once; rewrite the file with gzip")


def attribute(item: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return an attribute as h5py gives it; None if it is absent or damaged."""
    try:
        value = item.attrs.get(name)
    except HDF5_ERRORS:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def first_names(group: h5py.Group, count: int = 5) -> list[str]:
    """Return the first names in a group, for a message."""
    return [str(name) for name in islice(group, count)]


class Hdf5Handle:
    """A file that each process opens for itself, once. A pickled copy is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._owner = 0  # process that opened `_file`
        self._checked: set[str] = set()  # arrays whose chunks were looked at

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop - 1`, or to the last there is, of the array called `name`.

        Raises:
            ValueError: If they are damaged; names file and array.
        """
        with self._reading(name, start, stop) as dataset:
            return dataset[start:stop]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the array called `name`."""
        with self._reading(name, 0, 0) as dataset:
            shape: tuple[int, ...] = dataset.shape
            return shape

    @contextlib.contextmanager
    def _reading(self, name: str, start: int, stop: int) -> Iterator[h5py.Dataset]:
        try:
            dataset = self._open()[name]
            if name not in self._checked:
                check_stored(dataset)
                self._checked.add(name)
            yield dataset
        except HDF5_ERRORS as error:
            raise ValueError(
                f"{name} in {self.path} cannot be read at rows {start} to {stop - 1} ({error}); "
                "the file is damaged: copy or download it again, or leave the episode out"
            ) from error

    def _open(self) -> h5py.File:
        if self._file is None or self._owner != os.getpid():
            if self._file is not None:
                self._file.close()  # a fork's copy: HDF5 would share its file descriptor
            self._file, self._owner = open_file(self.path), os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_file": None, "_owner": 0, "_checked": set()}
