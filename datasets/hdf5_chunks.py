"""Stored HDF5 values that would take more memory than their array's header says.

HDF5 lets a gzip or lzf chunk unpack to any size, whatever the header says: a megabyte can become a
gigabyte. It also takes memory for a value of variable length before it looks whether there is one
of that length. This looks at how all of an array is stored before the first value is read.
"""

from __future__ import annotations

import math
import zlib

import h5py
import numpy as np

from scd_wm.datasets.limits import MEMORY_BYTES

GZIP_GAIN = 1032  # most bytes that one byte of gzip unpacks to
LZF_GAIN = 88  # the same of lzf: 264 bytes out of 3
REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])  # to a value


def check_stored(dataset: h5py.Dataset) -> None:
    """Raise ValueError if stored values lie outside the file or are more than the header says.

    Args:
        dataset: An array whose header was checked by `scd_wm.datasets.hdf5_file.describe`.
    """
    pieces = [] if dataset.chunks is None else _check_chunks(dataset)
    if dataset.dtype.kind == "O":
        if dataset.chunks is None:
            pieces = [(dataset.id.get_offset() or 0, dataset.id.get_storage_size())]
        _check_references(dataset, pieces)


def _check_chunks(dataset: h5py.Dataset) -> list[tuple[int, int]]:
    """Return where all chunks are, as byte and size, after checking them."""
    varying = dataset.dtype.kind == "O"
    itemsize = REFERENCE.itemsize if varying else dataset.dtype.itemsize
    size = math.prod(dataset.chunks) * itemsize
    file_size = dataset.file.id.get_filesize()
    gain = {"gzip": GZIP_GAIN, "lzf": LZF_GAIN}.get(dataset.compression, 0)
    pieces: list[tuple[int, int]] = []
    suspects: list[tuple[int, ...]] = []

    def look(chunk: h5py.h5d.StoreInfo) -> str | None:
        if chunk.byte_offset + chunk.size > file_size:
            return f"chunk at {chunk.chunk_offset} lies beyond the end of the file"
        if chunk.size > size + size // 100 + 1024:  # incompressible bytes grow a little
            return f"chunk at {chunk.chunk_offset} is of {chunk.size} bytes for {size}"
        if chunk.size * gain > MEMORY_BYTES:
            suspects.append(chunk.chunk_offset)
        pieces.append((chunk.byte_offset, chunk.size))
        return None

    problem = dataset.id.chunk_iter(look)
    if problem:
        raise ValueError(problem)
    for offset in suspects:
        _check_unpacked(dataset, offset, size)
    return pieces


def _check_unpacked(dataset: h5py.Dataset, offset: tuple[int, ...], size: int) -> None:
    """Raise ValueError if a big chunk unpacks to more than `size` bytes."""
    if dataset.compression != "gzip":
        raise ValueError(
            f"chunk at {offset} is too big for lzf to be unpacked safely; rewrite the file with "
            "gzip or in smaller chunks"
        )
    _, packed = dataset.id.read_direct_chunk(offset)
    if len(zlib.decompressobj().decompress(packed, size + 1)) > size:
        raise ValueError(f"chunk at {offset} unpacks to more than its {size} bytes")


def _check_references(dataset: h5py.Dataset, pieces: list[tuple[int, int]]) -> None:
    """Raise ValueError if values of variable length claim more bytes than the file has."""
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError("values of variable length in compressed chunks; rewrite without")
    if dataset.file.id.get_create_plist().get_sizes()[0] != REFERENCE["address"].itemsize:
        raise ValueError("values of variable length in a layout of another HDF5")
    total = 0
    for start, size in pieces:
        found = np.fromfile(
            dataset.file.filename, REFERENCE, size // REFERENCE.itemsize, offset=start
        )
        total += int(found["length"].astype(np.int64).sum())
    if total > (file_size := dataset.file.id.get_filesize()):
        raise ValueError(f"values claim {total} bytes in a file of {file_size}")
