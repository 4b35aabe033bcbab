"""Read rows of the arrays in an npz file, trusting neither its headers nor its compression.

Axes: N rows of an array.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from scd_wm.datasets.blocks import joined
from scd_wm.datasets.limits import MAX_CHUNK_BYTES

BLOCK_BYTES = 2**24  # of rows that are read together
MAX_HEADER_BYTES = 10_000  # what NumPy parses without being told to trust the file
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)
_NO_HEADER = (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)


@dataclass(frozen=True)
class NpzArray:
    """What the header of one array says, checked against the size of its entry."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool  # the first axis varies fastest, so that rows are scattered
    offset: int  # of the values in the entry

    @property
    def where(self) -> str:
        """File and array, for messages."""
        return f"{self.path}: {self.name}"

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop - 1`, in the byte order of this machine.

        A compressed file is unpacked from its beginning to the last of these rows. The checksum is
        compared where all rows are read.

        Raises:
            ValueError: If the file is damaged.
        """
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype.newbyteorder("="))
        return joined(self.blocks(start, stop), rows)

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the same rows in blocks of few bytes."""
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        if self.is_fortran:
            (values,) = self._values(0, len(self) * row_bytes, len(self) * row_bytes)
            yield np.frombuffer(values, self.dtype).reshape(self.shape, order="F")[start:stop]
        elif stop == start or not row_bytes:
            yield np.empty((stop - start, *self.shape[1:]), self.dtype)
        else:
            block_bytes = max(1, BLOCK_BYTES // row_bytes) * row_bytes
            pieces = self._values(start * row_bytes, (stop - start) * row_bytes, block_bytes)
            for values in pieces:
                yield np.frombuffer(values, self.dtype).reshape(-1, *self.shape[1:])

    def _values(self, start: int, length: int, block_bytes: int) -> Iterator[bytes]:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as entry:
                if start:
                    entry.seek(self.offset + start)
                else:
                    entry.read(self.offset)  # a seek may leave the checksum out
                for done in range(0, length, block_bytes):
                    expected = min(block_bytes, length - done)
                    values = entry.read(expected)
                    if len(values) != expected:
                        raise EOFError(f"{done + len(values)} of {length} bytes are there")
                    yield values
        except (*_DAMAGED, KeyError) as error:
            raise ValueError(f"{self.where} is damaged ({error})") from error


def npz_arrays(path: Path) -> dict[str, NpzArray]:
    """Return what the headers of an npz file say; nothing is unpacked but these.

    Raises:
        ValueError: If the file or a header is damaged, or claims other values than are there.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name[:-4]: _header(path, archive, name) for name in names}
    except _DAMAGED as error:
        raise ValueError(
            f"{path} is no npz file, cut short or damaged ({error}); copy or download it again"
        ) from error


def _header(path: Path, archive: zipfile.ZipFile, name: str) -> NpzArray:
    where = f"{path}: {name[:-4]}"
    with archive.open(name) as entry:
        start = io.BytesIO(entry.read(MAX_HEADER_BYTES + 16))
    try:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, is_fortran, dtype = readers[npy.read_magic(start)](start, MAX_HEADER_BYTES)
    except (*_NO_HEADER, KeyError) as error:
        raise ValueError(f"{where} has a damaged header ({error})") from error
    size, stored = math.prod(shape) * dtype.itemsize, archive.getinfo(name).file_size
    if dtype.hasobject:
        return NpzArray(path, name[:-4], shape, dtype, is_fortran, start.tell())
    if min(shape, default=0) < 0 or start.tell() + size != stored:
        raise ValueError(
            f"{where} claims shape {shape} of {dtype}, {size} bytes; "
            f"{stored - start.tell()} are there"
        )
    if is_fortran and size > MAX_CHUNK_BYTES:
        raise ValueError(
            f"{where} has its first axis varying fastest and {size} bytes; so stored, "
            f"{MAX_CHUNK_BYTES} can be read: write it with np.ascontiguousarray"
        )
    return NpzArray(path, name[:-4], shape, dtype, is_fortran, start.tell())
