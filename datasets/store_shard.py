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
from functools import reduce
from typing import BinaryIO, NamedTuple, Protocol

import google_crc32c
import numpy as np
from numcodecs import zstd

from scd_wm.datasets.store import Layout

CHECKSUM = struct.Struct("<I")
ABSENT = 2**64 - 1  # offset and length of a chunk that is not stored: it is zero
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
RUN_CHUNKS = 256  # read at once; systems take 1024 buffers, and a chunk may need two
RUN_BYTES = 2**28  # the same; systems read less than 2**31


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


class Run(NamedTuple):
    """Chunks that follow one another in a file."""

    first: int  # number of the first chunk
    offset: int  # in the shard
    lengths: list[int]  # of each, in bytes

    @property
    def next(self) -> int:
        """Number of the chunk that would go on."""
        return self.first + len(self.lengths)

    @property
    def end(self) -> int:
        """Offset of the chunk that would go on."""
        return self.offset + sum(self.lengths)


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
        index = _checked(np.frombuffer(data, np.uint8), "its list of chunks")
        places = index.view("<u8").reshape(-1, 2)
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
        layout, chunks = self.layout, (start // self.layout.rows, -(-stop // self.layout.rows))
        out = np.empty((stop - start, *layout.shape[1:]), layout.dtype.newbyteorder("<"))
        if (self.places[slice(*chunks), 0] == ABSENT).any():
            out.fill(0)
        read = self._read_packed if layout.level else self._read_plain
        for run in self._runs(*chunks):
            read(descriptor, run, start, out)
        return out.astype(layout.dtype, copy=False)

    def _runs(self, first: int, last: int) -> Iterator[Run]:
        """Yield the chunks `first` to `last - 1` that are stored, in runs to be read at once."""
        most = max(1, min(RUN_CHUNKS, RUN_BYTES // self.layout.chunk_bytes))
        run = Run(first, 0, [])
        for number, (offset, length) in enumerate(self.places[first:last].tolist(), first):
            if offset == ABSENT:
                continue
            if len(run.lengths) == most or (number, offset) != (run.next, run.end):
                if run.lengths:
                    yield run
                run = Run(number, offset, [])
            run.lengths.append(length)
        if run.lengths:
            yield run

    def _read_plain(self, descriptor: int, run: Run, start: int, out: np.ndarray) -> None:
        """Read chunks that are not compressed into `out`, of rows `start` on, without a copy."""
        size, flat = self.layout.chunk_bytes, _as_bytes(out)
        begin = start * (size // self.layout.rows)  # byte of the array with which `out` begins
        chunks = []
        for number, length in enumerate(run.lengths, run.first):
            self._check_size(number, length - CHECKSUM.size)
            low, high = number * size - begin, (number + 1) * size - begin
            before, after = max(0, -low), max(0, high - len(flat))
            parts = np.empty(before, np.uint8), flat[max(0, low) : high], np.empty(after, np.uint8)
            chunks.append((*parts, np.zeros(CHECKSUM.size, np.uint8)))
        buffers = [part.data for chunk in chunks for part in chunk if len(part)]
        found = os.preadv(descriptor, buffers, self.offset + run.offset)
        for number, (*body, ending) in enumerate(chunks, run.first):
            found -= run.lengths[number - run.first]
            checksum = reduce(google_crc32c.extend, body, 0)
            if found < 0 or CHECKSUM.unpack(ending.data)[0] != checksum:
                raise ValueError(_damage(self._rows(number)))

    def _read_packed(self, descriptor: int, run: Run, start: int, out: np.ndarray) -> None:
        """Read chunks and unpack what is wanted of them into `out`, of rows `start` on."""
        block = os.pread(descriptor, sum(run.lengths), self.offset + run.offset)
        data, rows = np.frombuffer(block, np.uint8), self.layout.rows
        for number, length in enumerate(run.lengths, run.first):
            first, what = number * rows, self._rows(number)
            packed, data = _checked(data[:length], what), data[length:]
            self._check_size(number, _unpacked_size(packed[:18].tobytes()))
            target = out[max(0, first - start) : first + rows - start]
            if len(target) == rows:
                _decompress(packed, target, what)
            else:
                chunk = np.empty((rows, *out.shape[1:]), out.dtype)
                _decompress(packed, chunk, what)
                skip = max(0, start - first)
                target[...] = chunk[skip : skip + len(target)]

    def _check_size(self, number: int, size: int) -> None:
        """Raise ValueError if a chunk is not as long as others when unpacked."""
        if size != self.layout.chunk_bytes:
            raise ValueError(
                f"{self._rows(number)} unpack to {size} bytes, not {self.layout.chunk_bytes}"
            )

    def _rows(self, number: int) -> str:
        """Name the rows of a chunk."""
        first = number * self.layout.rows
        return f"rows {first} to {min(first + self.layout.rows, self.layout.shape[0]) - 1}"


def _decompress(packed: np.ndarray, out: np.ndarray, what: str) -> None:
    try:
        zstd.decompress(packed, _as_bytes(out))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{what} cannot be unpacked ({error})") from error


def _checked(data: np.ndarray, what: str) -> np.ndarray:
    """Return bytes, (n,) uint8, without the checksum that ends them.

    Raises:
        ValueError: If the two do not agree.
    """
    body, ending = data[: -CHECKSUM.size], data[-CHECKSUM.size :]
    if len(ending) < CHECKSUM.size or CHECKSUM.unpack(ending.data)[0] != google_crc32c.value(body):
        raise ValueError(_damage(what))
    return body


def _damage(what: str) -> str:
    return f"is damaged: the checksum of {what} does not agree"


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
