"""Unpack the chunks of zarr arrays without trusting what they say of their own size.

The size of an unpacked chunk is known from the metadata, so every codec writes into a buffer of
that size or stops there; a chunk that holds more or less is damaged.
"""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module  # of packages without type information
from typing import Any, TypeAlias

import numpy as np

from scd_wm.datasets.limits import MAX_CHUNK_BYTES

CHECKSUM = "crc32c"
CHECKSUM_BYTES = 4
IMAGE_CODEC = "imagecodecs_jpegxl"  # unpacks to an array, not to bytes
Buffer: TypeAlias = bytes | memoryview
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def unpack(codecs: Sequence[str], packed: Buffer, shape: Sequence[int], dtype: np.dtype) -> Buffer:
    """Return the bytes of a chunk.

    Args:
        codecs: In the order in which they are undone.
        packed: What is stored.
        shape: Of the chunk.
        dtype: Of the chunk.

    Raises:
        ValueError: If it is damaged.
    """
    chunk_bytes = math.prod(shape) * dtype.itemsize
    for i, codec in enumerate(codecs):
        num_bytes = chunk_bytes + codecs[i + 1 :].count(CHECKSUM) * CHECKSUM_BYTES
        try:
            if codec == CHECKSUM:
                packed = _without_checksum(packed)
            elif codec == IMAGE_CODEC:
                packed = _jpegxl(packed, np.empty(shape, dtype))
            else:
                packed = _COMPRESSORS[codec](packed, num_bytes)
        except (RuntimeError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{codec}: {error}") from error
    _check_size("chunk", len(packed), chunk_bytes)
    return packed


def check_codec(where: str, codec: str) -> None:
    """Raise unless the package that a codec needs is installed.

    Raises:
        ValueError: Saying what to install.
    """
    if codec == IMAGE_CODEC:
        try:
            import_module("imagecodecs")
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{where} is compressed as JPEG XL, which needs imagecodecs; install the extra: "
                "pip install 'scd-wm[jpegxl]'"
            ) from error


def _blosc(packed: Buffer, num_bytes: int) -> Buffer:
    # Sizes in the header: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst
    _check_size("blosc", int.from_bytes(packed[4:8], "little"), num_bytes)
    _check_size("blosc, packed", int.from_bytes(packed[12:16], "little"), len(packed))
    return _into("blosc", packed, num_bytes)


def _zstd(packed: Buffer, num_bytes: int) -> Buffer:
    _check_size("zstd", _zstd_size(packed), num_bytes)
    return _into("zstd", packed, num_bytes)


def _zstd_size(packed: Buffer) -> int:
    """Return the size that the header of a frame states (RFC 8878, section 3.1.1.1)."""
    if packed[:4] != _ZSTD_MAGIC or len(packed) < 6:
        raise ValueError("zstd: it does not begin as zstd does")
    descriptor = packed[4]
    is_single = descriptor >> 5 & 1
    width = (is_single, 2, 4, 8)[descriptor >> 6]
    if not width:
        raise ValueError("zstd: it does not state its size, write it again with zarr or numcodecs")
    start = 6 - is_single + (0, 1, 2, 4)[descriptor & 3]
    return int.from_bytes(packed[start : start + width], "little") + (256 if width == 2 else 0)


def _lz4(packed: Buffer, num_bytes: int) -> Buffer:
    _check_size("lz4", int.from_bytes(packed[:4], "little"), num_bytes)
    return _into("lz4", packed, num_bytes)


def _into(codec: str, packed: Buffer, num_bytes: int) -> Buffer:
    """Unpack into a buffer of the right size."""
    buffer = np.empty(num_bytes, np.uint8)
    import_module("numcodecs").get_codec({"id": codec}).decode(packed, out=buffer)
    return buffer.data


def _zlib(packed: Buffer, num_bytes: int) -> Buffer:
    either_header = 32 + zlib.MAX_WBITS  # zlib's or gzip's
    return _stream("zlib", zlib.decompressobj(either_header), packed, num_bytes)


def _bz2(packed: Buffer, num_bytes: int) -> Buffer:
    return _stream("bz2", bz2.BZ2Decompressor(), packed, num_bytes)


def _lzma(packed: Buffer, num_bytes: int) -> Buffer:
    decompressor = lzma.LZMADecompressor(memlimit=MAX_CHUNK_BYTES)
    return _stream("lzma", decompressor, packed, num_bytes)


def _stream(codec: str, decompressor: Any, packed: Buffer, num_bytes: int) -> Buffer:
    """Unpack no more than one byte too many."""
    found: bytes = decompressor.decompress(packed, num_bytes + 1)
    _check_size(codec, len(found), num_bytes)
    if not decompressor.eof:
        raise ValueError(f"{codec}: it is cut short")
    return found


def _without_checksum(packed: Buffer) -> Buffer:
    from google_crc32c import value

    content, checksum = bytes(packed[:-CHECKSUM_BYTES]), packed[-CHECKSUM_BYTES:]
    if len(packed) < CHECKSUM_BYTES or value(content) != int.from_bytes(checksum, "little"):
        raise ValueError(f"{CHECKSUM}: the checksum is wrong")
    return content


def _jpegxl(packed: Buffer, chunk: np.ndarray) -> Buffer:
    pictures = chunk.reshape([n for n in chunk.shape if n != 1])
    import_module("imagecodecs").jpegxl_decode(packed, numthreads=1, out=pictures)
    return chunk.data.cast("B")


def _check_size(codec: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{codec}: it holds {found} bytes, expected {expected}")


_COMPRESSORS: dict[str, Callable[[Buffer, int], Buffer]] = {
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
    "gzip": _zlib,
    "zlib": _zlib,
    "bz2": _bz2,
    "lzma": _lzma,
}
KNOWN_CODECS = (*_COMPRESSORS, CHECKSUM, IMAGE_CODEC)
