"""Read rows of a zarr array from the chunks that hold them and no others.

zarr-python takes about a millisecond a read and fills in chunks that are not there. Here a missing
chunk is damage, and nothing runs in the background that could not be forked.

Axes: N rows of the array.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scd_wm.datasets.blocks import joined
from scd_wm.datasets.zarr_codecs import CHECKSUM_BYTES, check_codec, unpack
from scd_wm.datasets.zarr_files import ZarrFiles
from scd_wm.datasets.zarr_layout import Layout, read_layout

_NOT_STORED = 2**64 - 1  # offset in a shard's index of a chunk that is not there


class ZarrArray:
    """One array. May be pickled and read from several processes.

    Args:
        files: Of the hierarchy.
        name: Of the array in it.
        layout: Its metadata.

    Raises:
        ValueError: If a package that it needs is not installed.
    """

    def __init__(self, files: ZarrFiles, name: str, layout: Layout) -> None:
        for codec in layout.codecs:
            check_codec(layout.where, codec)
        self.layout, self.shape, self.dtype = layout, layout.shape, layout.dtype
        self._files, self._name = files, name
        self._shard: tuple[str, np.ndarray] | None = None  # file and index of the last one read

    @classmethod
    def open(cls, files: ZarrFiles, name: str) -> ZarrArray | None:
        """Return the array of that name, None where there is none.

        Raises:
            ValueError: If its metadata is damaged or it is of a kind not known.
        """
        layout = read_layout(files, name)
        return None if layout is None else cls(files, name, layout)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop - 1`, in the byte order of this machine.

        Raises:
            ValueError: If a chunk is missing or damaged; names its file.
        """
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype.newbyteorder("="))
        return joined(self.blocks(start, stop), rows)

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield rows `start` to `stop - 1` in blocks of at most the rows of a chunk."""
        height = self.layout.chunks[0]
        while start < stop:
            end = min(stop, start - start % height + height)
            yield self._block(start, end)
            start = end

    def has_rows(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Return for each range of rows, (E,) int64 each, whether every file of it is there."""
        height, width = self.layout.file_chunks[0], math.prod(self._files_across())
        counts = Counter(position[0] for position in self._positions())
        whole = np.array(sorted(row for row, count in counts.items() if count == width), np.int64)
        first, last = starts // height, (stops - 1) // height
        found = np.searchsorted(whole, last, side="right") - np.searchsorted(whole, first)
        return (found == last - first + 1) & (stops <= len(self))

    def _files_across(self) -> tuple[int, ...]:
        """Return the size of the grid of files but for the rows."""
        sizes = zip(self.shape[1:], self.layout.file_chunks[1:], strict=True)
        return tuple(-(-size // chunk) for size, chunk in sizes)

    def _positions(self) -> Iterator[tuple[int, ...]]:
        """Yield the places in the grid of files that have one."""
        layout, across = self.layout, self._files_across()
        number = r"(0|[1-9]\d{0,17})"
        pattern = re.compile(
            re.escape(layout.prefix) + re.escape(layout.separator).join([number] * len(self.shape))
        )
        for name in self._files.names(self._name):
            if found := pattern.fullmatch(name):
                position = tuple(int(group) for group in found.groups())
                if all(p < n for p, n in zip(position[1:], across, strict=True)):
                    yield position

    def _block(self, start: int, stop: int) -> np.ndarray:
        """Return rows that lie in one row of chunks."""
        chunks = self.layout.chunks
        row, first = start // chunks[0], start % chunks[0]
        grid = [-(-size // chunk) for size, chunk in zip(self.shape[1:], chunks[1:], strict=True)]
        if math.prod(grid) == 1:
            whole = self._chunk((row, *(0 for _ in grid)))
            return whole[(slice(first, first + stop - start), *map(slice, self.shape[1:]))]
        block = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for across in np.ndindex(*grid):
            place = tuple(
                slice(p * c, min(p * c + c, n))
                for p, c, n in zip(across, chunks[1:], self.shape[1:], strict=True)
            )
            inside = tuple(slice(0, part.stop - part.start) for part in place)
            chunk = self._chunk((row, *across))
            block[(slice(None), *place)] = chunk[(slice(first, first + stop - start), *inside)]
        return block

    def _chunk(self, position: tuple[int, ...]) -> np.ndarray:
        """Return an unpacked chunk, at the array's edge with what lies beyond it."""
        layout = self.layout
        stored_shape = [layout.chunks[axis] for axis in layout.axes]
        name, packed = self._stored(position)
        try:
            values = unpack(layout.codecs, packed, stored_shape, layout.dtype)
            chunk = np.frombuffer(values, layout.dtype).reshape(stored_shape)
        except ValueError as error:
            raise ValueError(f"{self._files.path}: chunk {name} is damaged ({error})") from error
        return chunk.transpose(np.argsort(layout.axes))

    def _stored(self, position: Sequence[int]) -> tuple[str, bytes]:
        """Return the file that holds a chunk and the bytes stored for it."""
        layout = self.layout
        shard = [
            p * chunk // outer
            for p, chunk, outer in zip(position, layout.chunks, layout.file_chunks, strict=True)
        ]
        name = f"{self._name}/{layout.file_name(shard)}"
        size = self._files.size(name)
        if size is None:
            raise ValueError(f"{self._files.path}: chunk {name} is missing")
        start, length = 0, size
        if layout.is_sharded:
            start, length = self._place_in_shard(name, size, position)
        limit = layout.chunk_bytes + layout.chunk_bytes // 8 + 2**16  # no codec adds more
        if length > limit or start + length > size:
            raise ValueError(
                f"{self._files.path}: chunk {name} is damaged ({length} bytes at {start} of "
                f"{size}, for {layout.chunk_bytes} unpacked)"
            )
        return name, self._files.read(name, start, length)

    def _place_in_shard(self, name: str, size: int, position: Sequence[int]) -> tuple[int, int]:
        """Return offset and length of a chunk in the shard that holds it."""
        layout = self.layout
        grid = [f // c for f, c in zip(layout.file_chunks, layout.chunks, strict=True)]
        shard = self._shard  # once: another thread may read another shard meanwhile
        if shard is None or shard[0] != name:
            shard = self._shard = name, self._read_index(name, size, math.prod(grid))
        inside = tuple(p % n for p, n in zip(position, grid, strict=True))
        offset, length = (int(n) for n in shard[1][np.ravel_multi_index(inside, grid)])
        if offset == _NOT_STORED:
            raise ValueError(f"{self._files.path}: chunk {inside} in shard {name} is missing")
        return offset, length

    def _read_index(self, name: str, size: int, num_chunks: int) -> np.ndarray:
        """Return the offset and length of each chunk of a shard, (num_chunks, 2) uint64."""
        length = num_chunks * 16 + CHECKSUM_BYTES
        start = 0 if self.layout.index_first else size - length
        try:
            if start < 0:
                raise ValueError(f"{size} bytes, fewer than its index of {length}")
            packed = self._files.read(name, start, length)
            values = unpack(("crc32c",), packed, (num_chunks, 2), np.dtype("<u8"))
        except ValueError as error:
            raise ValueError(f"{self._files.path}: shard {name} is damaged ({error})") from error
        return np.frombuffer(values, "<u8").reshape(num_chunks, 2)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shard": None}
