"""How a zarr array is stored, versions 2 and 3: shape, dtype, chunks, compression.

What the metadata claims is checked before anything is allocated. Only dtypes of plain numbers and
codecs that unpack bytes are known: objects, pickles and JSON inside arrays are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scd_wm.datasets.limits import check_chunk
from scd_wm.datasets.zarr_codecs import CHECKSUM, KNOWN_CODECS
from scd_wm.datasets.zarr_files import ZarrFiles, read_json

MAX_AXES = 8
V3_DTYPES = {
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
}


@dataclass(frozen=True)
class Layout:
    """Where and how the values of one array lie."""

    where: str  # file and array, for messages
    shape: tuple[int, ...]
    dtype: np.dtype  # with the byte order on disk
    chunks: tuple[int, ...]  # values that are unpacked together
    axes: tuple[int, ...]  # order of a chunk's axes on disk, slowest first
    codecs: tuple[str, ...]  # in the order in which they are undone
    file_chunks: tuple[int, ...]  # values of one file: `chunks`, or those of a shard
    separator: str  # between the indices in the name of a file
    prefix: str  # of that name
    index_first: bool = False  # of a shard: its index is at the start of the file

    @property
    def chunk_bytes(self) -> int:
        """Bytes of an unpacked chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def is_sharded(self) -> bool:
        """Whether a file holds several chunks and an index of them."""
        return self.file_chunks != self.chunks or self.index_first

    def file_name(self, position: Sequence[int]) -> str:
        """Return the name of the file at a position of the grid of files."""
        return self.prefix + self.separator.join(map(str, position))


def read_layout(files: ZarrFiles, name: str) -> Layout | None:
    """Read the metadata of an array; None where there is none of that name.

    Raises:
        ValueError: If it is damaged, claims more than fits in memory, or is of a kind not known.
    """
    where = f"{files.path}: {name}"
    old = read_json(files, f"{name}/.zarray")
    if old is not None:
        return _layout(where, lambda: _version_2(where, old))
    new = read_json(files, f"{name}/zarr.json")
    if new is None or new.get("node_type") == "group":
        return None
    return _layout(where, lambda: _version_3(where, new))


def _layout(where: str, parse: Any) -> Layout:
    """Check what both versions have in common."""
    try:
        layout: Layout = parse()
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where} has damaged metadata ({error!r})") from error
    sizes = {len(layout.shape), len(layout.chunks), len(layout.file_chunks), len(layout.axes)}
    if len(sizes) != 1 or not 0 < len(layout.shape) <= MAX_AXES:
        raise ValueError(
            f"{where} has shape {layout.shape} and chunks {layout.chunks}; expected as many of one "
            f"as of the other, 1 to {MAX_AXES}"
        )
    check_chunk(where, layout.chunks, layout.dtype.itemsize)
    pairs = zip(layout.file_chunks, layout.chunks, strict=True)
    if any(outer % inner for outer, inner in pairs):
        raise ValueError(
            f"{where} has shards of {layout.file_chunks}, no multiple of its chunks {layout.chunks}"
        )
    if len(layout.codecs) - layout.codecs.count(CHECKSUM) > 1:
        raise ValueError(f"{where} is compressed twice, by {layout.codecs}; once can be read")
    num_chunks = math.prod(layout.file_chunks) // math.prod(layout.chunks)
    if layout.is_sharded:
        check_chunk(f"{where}: the index of a shard", (num_chunks, 2), 8)
    return layout


def _version_2(where: str, found: Mapping[str, Any]) -> Layout:
    """See https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html."""
    _expect(where, "zarr_format", found["zarr_format"], (2,))
    _expect(where, "filters", found.get("filters") or None, (None,))
    _expect(where, "order", found["order"], ("C", "F"))
    text, compressor = found["dtype"], found.get("compressor")
    if not isinstance(text, str) or not re.fullmatch(r"[<>|][biuf]\d{1,2}", text):
        raise ValueError(f"{where} has dtype {text!r}; expected plain numbers, such as '<f4'")
    shape, chunks = _sizes(where, "shape", found["shape"], 0), _chunks(where, found["chunks"])
    axes = tuple(range(len(chunks)))
    return Layout(
        where=where,
        shape=shape,
        dtype=np.dtype(text),
        chunks=chunks,
        axes=axes if found["order"] == "C" else axes[::-1],
        codecs=(_known(where, compressor["id"]),) if compressor is not None else (),
        file_chunks=chunks,
        separator=_expect(
            where, "dimension_separator", found.get("dimension_separator", "."), (".", "/")
        ),
        prefix="",
    )


def _version_3(where: str, found: Mapping[str, Any]) -> Layout:
    """See https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html."""
    _expect(where, "zarr_format", found["zarr_format"], (3,))
    _expect(where, "node_type", found["node_type"], ("array",))
    _expect(where, "storage_transformers", found.get("storage_transformers") or None, (None,))
    grid, keys = found["chunk_grid"], found["chunk_key_encoding"]
    _expect(where, "chunk_grid", grid["name"], ("regular",))
    _expect(where, "chunk_key_encoding", keys["name"], ("default", "v2"))
    is_default = keys["name"] == "default"
    separator = keys.get("configuration", {}).get("separator", "/" if is_default else ".")
    _expect(where, "separator", separator, (".", "/"))
    file_chunks = _chunks(where, grid["configuration"]["chunk_shape"])
    codecs, chunks, index_first = list(found["codecs"]), file_chunks, False
    if codecs and codecs[0]["name"] == "sharding_indexed":
        _expect(where, "codecs after sharding_indexed", len(codecs) - 1, (0,))
        shard = codecs[0]["configuration"]
        location = _expect(
            where, "index_location", shard.get("index_location", "end"), ("end", "start")
        )
        codecs, chunks = list(shard["codecs"]), _chunks(where, shard["chunk_shape"])
        index_first = location == "start"
        index = [codec["name"] for codec in shard["index_codecs"]]
        _expect(where, "index_codecs", index, (["bytes", "crc32c"],))
    axes = tuple(range(len(chunks)))
    if codecs and codecs[0]["name"] == "transpose":
        axes = tuple(codecs.pop(0)["configuration"]["order"])
        _expect(where, "transpose", sorted(axes), (list(range(len(chunks))),))
    if not codecs or codecs[0]["name"] != "bytes":
        raise ValueError(f"{where} has codecs {codecs}; expected 'bytes' before compression")
    endian = (codecs.pop(0).get("configuration") or {}).get("endian", "little")
    dtype = _expect(where, "data_type", found["data_type"], sorted(V3_DTYPES))
    return Layout(
        where=where,
        shape=_sizes(where, "shape", found["shape"], 0),
        dtype=np.dtype(dtype).newbyteorder(
            "<" if _expect(where, "endian", endian, ("little", "big")) == "little" else ">"
        ),
        chunks=chunks,
        axes=axes,
        codecs=tuple(_known(where, codec["name"]) for codec in reversed(codecs)),
        file_chunks=file_chunks,
        separator=separator,
        prefix=f"c{separator}" if is_default else "",
        index_first=index_first,
    )


def _known(where: str, codec: Any) -> str:
    name = str(codec).removeprefix("numcodecs.")
    return str(_expect(where, "codec", name, KNOWN_CODECS))


def _chunks(where: str, found: Any) -> tuple[int, ...]:
    return _sizes(where, "chunks", found, 1)


def _sizes(where: str, what: str, found: Any, least: int) -> tuple[int, ...]:
    """Return a list of sizes as a tuple."""
    if not isinstance(found, list) or not all(type(n) is int and n >= least for n in found):
        raise ValueError(
            f"{where} has {what} {str(found)[:60]}; expected whole numbers, at least {least}"
        )
    return tuple(found)


def _expect(where: str, what: str, found: Any, allowed: Sequence[Any]) -> Any:
    """Return `found` if it is allowed.

    Raises:
        ValueError: If it is not.
    """
    if found not in allowed:
        known = allowed[0] if len(allowed) == 1 else f"one of {list(allowed)}"
        raise ValueError(f"{where} has {what} {str(found)[:80]!r}; what can be read is {known}")
    return found
