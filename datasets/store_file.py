"""One episode of a store: a zip file that holds a zarr group (layout in `scd_wm.datasets.store`).

Axes: N rows of an array.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from scd_wm.datasets.store import (
    GROUP_FILE,
    MAX_JSON_BYTES,
    Layout,
    array_hash,
    array_metadata,
    array_name,
    chunk_rows,
    group_text,
    parse_array_metadata,
)
from scd_wm.datasets.store_shard import ShardWriter, StoredArray

LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, lengths of name and extra
SIGNATURE = b"PK\x03\x04"
NO_DATE = (1980, 1, 1, 0, 0, 0)  # equal episodes are equal files
REPAIR = "restore it with `scd-wm convert SOURCE STORE --verify`"
ZIP_ERRORS = (  # what zipfile raises for damaged files
    zipfile.BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeDecodeError,
    ValueError,
    struct.error,
)


class EpisodeWriter:
    """Write one episode's file, which appears under its name when closed without an error.

    Args:
        path: The file to write, or replace.
        level: Of zstd; 0 does not compress.
    """

    def __init__(self, path: Path, level: int) -> None:
        self.path, self._level = path, level
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._zip = zipfile.ZipFile(self._aside, "w", zipfile.ZIP_STORED)
        self.checksums: dict[str, str] = {}  # key: SHA-256 of dtype, shape and values

    def add(self, key: str, num_rows: int, batches: Iterable[np.ndarray]) -> None:
        """Append an array.

        Args:
            key: Its name.
            num_rows: Rows N that `batches` have together.
            batches: Parts of the array in order, (n, ...) each, of one dtype and shape of a row.

        Raises:
            ValueError: If there are more or fewer rows, rows differ, or there is nothing in them.
        """
        name, parts = array_name(key), _checked_rows(key, num_rows, batches)
        first = next(parts)
        shape, dtype = (num_rows, *first.shape[1:]), first.dtype
        rows = chunk_rows(shape, dtype.itemsize, self._level)
        layout = Layout(shape, dtype, rows, self._level)
        metadata = json.dumps(array_metadata(layout))
        self._zip.writestr(_member(f"{name}/{GROUP_FILE}"), metadata)
        sums = array_hash(shape, dtype)
        with self._zip.open(_member(_shard_name(name, shape)), "w", force_zip64=True) as sink:
            writer = ShardWriter(sink, layout)
            for part in chain([first], parts):
                sums.update(part.data)
                writer.add(part)
            writer.finish()
        self.checksums[key] = sums.hexdigest()

    def close(self, attributes: Mapping[str, Any]) -> None:
        """Finish the file and give it its name.

        Args:
            attributes: Of the group, in JSON types.
        """
        self._zip.writestr(_member(GROUP_FILE), group_text(attributes))
        self._zip.close()
        with self._aside.open("rb+") as file:
            os.fsync(file.fileno())
        self._aside.replace(self.path)

    def discard(self) -> None:
        """Leave nothing on disk."""
        with suppress(OSError):  # ending the file fails again where writing it did: a full disk
            self._zip.close()
        self._aside.unlink(missing_ok=True)


class EpisodeFile:
    """What an episode's file holds and where. Holds no handle: it is opened for every `read`.

    Args:
        path: The file.

    Raises:
        ValueError: If it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.attributes = _attributes(archive)
                with path.open("rb") as file:
                    self.arrays = {
                        key: _find(archive, file, key) for key in self.attributes["sha256"]
                    }
        except FileNotFoundError as error:
            raise ValueError(f"{path} is gone") from error
        except ZIP_ERRORS as error:
            raise ValueError(f"{path} is cut short or damaged ({error}); {REPAIR}") from error

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop - 1` of an array.

        Raises:
            ValueError: If they are damaged, or not there.
        """
        array = self.arrays.get(key)
        if array is None or stop > array.layout.shape[0]:
            found = "nothing" if array is None else f"{array.layout.shape[0]} rows"
            raise ValueError(f"{self.path} has {found} of {key}, expected {stop} rows; {REPAIR}")
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return array.read(descriptor, start, stop)
            finally:
                os.close(descriptor)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"{key} in {self.path} {error}; {REPAIR}") from error


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of an episode's file.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _attributes(archive)
    except ZIP_ERRORS as error:
        raise ValueError(f"{path} is cut short or damaged ({error}); {REPAIR}") from error


def _attributes(archive: zipfile.ZipFile) -> dict[str, Any]:
    attributes: dict[str, Any] = _read_json(archive, GROUP_FILE)["attributes"]
    if not isinstance(attributes["sha256"], dict):
        raise ValueError("no checksums in its zarr.json")
    return attributes


def _read_json(archive: zipfile.ZipFile, name: str) -> Any:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > MAX_JSON_BYTES:
        raise ValueError(f"{name} is compressed or has {info.file_size} bytes")
    return json.loads(archive.read(info))


def _find(archive: zipfile.ZipFile, file: BinaryIO, key: str) -> StoredArray:
    """Return where an array is."""
    name = array_name(key)
    where = f"{name}/{GROUP_FILE}"
    layout = parse_array_metadata(where, _read_json(archive, where))
    member = archive.getinfo(_shard_name(name, layout.shape))
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    file.seek(member.header_offset)
    signature, name_len, extra_len = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if signature != SIGNATURE:
        raise ValueError(f"{member.filename} is not where the file's directory says")
    offset = member.header_offset + LOCAL_HEADER.size + name_len + extra_len
    try:
        return StoredArray.find(file, (offset, member.file_size), layout)
    except ValueError as error:
        raise ValueError(f"{key} {error}") from error


def _checked_rows(key: str, num_rows: int, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the parts of an array, contiguous and in little-endian order, as they should be."""
    done = 0
    first: np.ndarray | None = None
    for batch in batches:
        part = np.ascontiguousarray(batch, batch.dtype.newbyteorder("<"))
        first = part if first is None else first
        if 0 in part.shape or part.dtype.kind not in "biuf":
            raise ValueError(f"{key} has {part.dtype} of shape {part.shape}, expected numbers")
        if part.dtype != first.dtype or part.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{key} has rows of {part.dtype} {part.shape[1:]} from row {done} on, before that "
                f"{first.dtype} {first.shape[1:]}"
            )
        done += len(part)
        if done > num_rows:
            raise ValueError(f"{key} has more rows than the {num_rows} of its episode")
        yield part
    if first is None or done < num_rows:
        raise ValueError(f"{key} ends after {done} rows, expected {num_rows}")


def _shard_name(name: str, shape: tuple[int, ...]) -> str:
    return "/".join([name, "c", *"0" * len(shape)])


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, NO_DATE)
