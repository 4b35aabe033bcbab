"""One zarr array that is one shard: written chunk by chunk, read by its bytes in a file.

zarr's own code writes a shard only whole, and takes about 1 ms to read from one; this does neither.
`tests/datasets/test_store.py` compares the two.

Axes: N rows of the array, C chunks.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Protocol

import google_crc32c
import numpy as np
from numcodecs import zstd

from scd_wm.datasets.store import Layout

CHECKSUM = struct.Struct("<I")
ABSENT = 2**64 - 1  # offset and length of a chunk that is not stored: it is zero
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class Sink(Protocol):
    """Where bytes are written."""

    def write(self, data: bytes, /) -> int:
        """Append bytes."""


class ShardWriter:
    """Write the rows of an array in order, however they are divided.

    Args:
        sink: Where to write.
        layout: Of the array, (N, ...).
    """

    def __init__(self, sink: Sink, layout: Layout) -> None:
        self._sink, self._num_rows, self._level = sink, layout.shape[0], layout.level
        shape = (layout.rows, *layout.shape[1:])
        self._chunk = np.zeros(shape, layout.dtype.newbyteorder("<"))
        self._filled = 0  # rows of the chunk
        self._places: list[tuple[int, int]] = []  # offset and length of each chunk
        self._end = 0
        self.written = 0  # rows

    def add(self, rows: np.ndarray) -> None:
        """Append rows, (n, ...)."""
        while len(rows):
            count = min(len(rows), len(self._chunk) - self._filled)
            self._chunk[self._filled : self._filled + count] = rows[:count]
            self._filled, self.written, rows = (
                self._filled + count,
                self.written + count,
                rows[count:],
            )
            if self._filled == len(self._chunk):
                self._write_chunk()

    def finish(self) -> None:
        """Write what is left and the list of chunks."""
        assert self.written == self._num_rows, f"{self.written} rows of {self._num_rows}"
        if self._filled:
            self._chunk[self._filled :] = 0
            self._write_chunk()
        index = np.array(self._places, "<u8").tobytes()
        self._sink.write(index + CHECKSUM.pack(google_crc32c.value(index)))

    def _write_chunk(self) -> None:
        packed = self._chunk.tobytes()
        if self._level:
            packed = bytes(zstd.compress(packed, self._level))
        self._sink.write(packed + CHECKSUM.pack(google_crc32c.value(packed)))
        self._places.append((self._end, len(packed) + CHECKSUM.size))
        self._end += len(packed) + CHECKSUM.size
        self._filled = 0


@dataclass(frozen=True)
class StoredArray:
    """Where an array is in a file."""

    layout: Layout  # shape (N, ...)
    offset: int  # of the shard in the file
    places: np.ndarray  # (C, 2) uint64, offset in the shard and length of each chunk

    @classmethod
    def find(cls, file: BinaryIO, place: tuple[int, int], layout: Layout) -> StoredArray:
        """Read the list of chunks.

        Args:
            file: Open for reading.
            place: Offset and length of the shard.
            layout: Of the array.

        Raises:
            ValueError: If it is damaged.
        """
        offset, length = place
        size = 16 * layout.num_chunks + CHECKSUM.size
        if size > length:
            raise ValueError(f"is cut short: {length} bytes, its list of chunks alone takes {size}")
        file.seek(offset + length - size)
        data = file.read(size)
        index = _checked(data, "its list of chunks")
        places = np.frombuffer(index, "<u8").reshape(-1, 2)
        stored = places[places[:, 0] != ABSENT]
        if len(stored) and (stored > length).any():
            raise ValueError("is damaged: its list of chunks points beyond its end")
        return cls(layout, offset, places)

    def read(self, descriptor: int, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop - 1`.

        Args:
            descriptor: Of the file, open for reading.
            start: First row, at least 0.
            stop: One past the last row, at most N.

        Raises:
            ValueError: If they are damaged.
        """
        layout = self.layout
        out = np.empty((stop - start, *layout.shape[1:]), layout.dtype.newbyteorder("<"))
        for first, data in self._chunks(descriptor, start // layout.rows, -(-stop // layout.rows)):
            begin, end = max(start, first), min(stop, first + layout.rows)
            target = out[begin - start : end - start]
            if data is None:
                target[...] = 0
            else:
                self._unpack(data, first, target, begin - first)
        return out.astype(layout.dtype, copy=False)

    def _chunks(self, descriptor: int, first: int, last: int) -> Iterator[tuple[int, bytes | None]]:
        """Yield the first row and the stored bytes of chunks `first` to `last - 1`."""
        places = self.places[first:last].tolist()
        block, base = b"", 0
        if len(places) > 1 and all(
            offset + length == following for (offset, length), (following, _) in pairwise(places)
        ):  # as they are written: one after the other
            base = places[0][0]
            block = os.pread(descriptor, sum(length for _, length in places), self.offset + base)
        for number, (offset, length) in enumerate(places, first):
            if offset == ABSENT:
                yield number * self.layout.rows, None
            elif block:
                yield number * self.layout.rows, block[offset - base : offset - base + length]
            else:
                yield number * self.layout.rows, os.pread(descriptor, length, self.offset + offset)

    def _unpack(self, data: bytes, first: int, out: np.ndarray, skip: int) -> None:
        """Unpack rows of a chunk, after the first `skip`, into `out`.

        Args:
            data: The chunk and its checksum.
            first: Row of the array with which it begins.
            out: Contiguous, of no more rows than the chunk has after `skip`.
            skip: Rows of the chunk to leave out.
        """
        layout = self.layout
        what = f"rows {first} to {min(first + layout.rows, layout.shape[0]) - 1}"
        packed = _checked(data, what)
        size = _unpacked_size(packed) if layout.level else len(packed)
        if size != layout.chunk_bytes:
            raise ValueError(f"{what} unpack to {size} bytes, not {layout.chunk_bytes}")
        if layout.level and out.nbytes == size:
            return _decompress(packed, out, what)
        shape = (layout.rows, *layout.shape[1:])
        if layout.level:
            chunk = np.empty(shape, out.dtype)
            _decompress(packed, chunk, what)
        else:
            chunk = np.frombuffer(packed, out.dtype).reshape(shape)
        out[...] = chunk[skip : skip + len(out)]


def _decompress(packed: bytes, out: np.ndarray, what: str) -> None:
    try:
        zstd.decompress(packed, _as_bytes(out))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{what} cannot be unpacked ({error})") from error


def _checked(data: bytes, what: str) -> bytes:
    """Return data without the checksum that ends it.

    Raises:
        ValueError: If the two do not agree.
    """
    body, ending = data[: -CHECKSUM.size], data[-CHECKSUM.size :]
    if len(ending) < CHECKSUM.size or CHECKSUM.unpack(ending)[0] != google_crc32c.value(body):
        raise ValueError(f"is damaged: the checksum of {what} does not agree")
    return body


def _unpacked_size(packed: bytes) -> int:
    """Return the size that a zstd frame claims for what is in it; -1 where it claims none.

    RFC 8878, section 3.1.1.1.
    """
    if packed[:4] != ZSTD_MAGIC:
        return -1
    header = packed[4:18].ljust(14, b"\0")
    single_segment, dictionary_bytes = bool(header[0] & 0x20), (0, 1, 2, 4)[header[0] & 3]
    size = (int(single_segment), 2, 4, 8)[header[0] >> 6]
    start = 1 + (not single_segment) + dictionary_bytes
    claimed = int.from_bytes(header[start : start + size], "little")
    return -1 if size == 0 else claimed + 256 * (size == 2)


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """Return the memory of a contiguous array, (n,) uint8."""
    return array.reshape(-1).view(np.uint8)
