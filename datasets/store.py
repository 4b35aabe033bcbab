"""The store: robot data laid out for training, one file an episode.

    STORE/
      zarr.json                      what the data set is; a zarr v3 group
      index.json                     all episodes, written last
      episodes/000000.zarr.zip       one episode: a zarr v3 group in a zip file, stored as is
        zarr.json                    its name, length, checksums, and the state of its source
        action/                      zarr arrays (T, A), (T,), (K, D) and (K, H, W, 3), one for each
        top_image/                   key, in the dtype of the source: K = T or T + 1 frames

An array is one shard (zarr's codec `sharding_indexed`) of chunks of `CHUNK_FRAMES` images, because
what a clip needs is read and unpacked together, or of about `CHUNK_BYTES` of numbers. Each chunk
is compressed by zstd, unless that is not wanted, and followed by its CRC-32C, so damage is found
when it is read. Images that are not compressed come in smaller chunks, since nothing is gained by
large ones and all of a chunk is read to check it.
`zarr.open_group` with a `zarr.storage.ZipStore` reads an episode.

Why so: a file is written aside, forced to disk and renamed, so an episode is whole or not there
whenever the process dies, and processes write episodes at the same time without talking to each
other. One file an episode is a fifth of the file count of zarr folders and one call to fsync. The
index only saves looking into each file: a store without one, of a conversion that was interrupted,
opens as the episodes that are there.

Axes: T steps of an episode, K stored frames, H height, W width, D values of a vector, A values of
an action.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from scd_wm.datasets.limits import check_chunk

FORMAT = "scd_wm store"
VERSION = 1
GROUP_FILE = "zarr.json"
INDEX_FILE = "index.json"
EPISODE_FOLDER = "episodes"
EPISODE_SUFFIX = ".zarr.zip"

CHUNK_FRAMES = 8  # half of a usual clip: few frames are unpacked in vain, and repetition is found
CHUNK_BYTES = 2**18  # of numbers; most episodes are one chunk
MAX_IMAGE_CHUNK_BYTES = 2**25  # large images come in smaller groups
PLAIN_FRAMES, PLAIN_BYTES = 4, 2**17  # the same where nothing is compressed
MAX_JSON_BYTES = 2**30  # of the index of a million episodes


def is_store(path: Path) -> bool:
    """Return whether `path` is a folder whose zarr.json says it is a store, even if damaged."""
    group = path / GROUP_FILE
    if not group.is_file():
        return False
    with group.open("rb") as file:
        return FORMAT.encode() in file.read(4096)


def episode_file(store: Path, number: int) -> Path:
    """Return the file of an episode, counted as in the source."""
    return store / EPISODE_FOLDER / f"{number:06d}{EPISODE_SUFFIX}"


def array_name(key: str) -> str:
    """Return the name in zarr of an array: the key, its letters escaped that zarr does not allow.

    Raises:
        ValueError: If the key is empty.
    """
    if not key:
        raise ValueError("a key without a name cannot be stored; rename it")
    name = quote(key, safe="")
    if name == GROUP_FILE or not name.strip("."):  # names with a meaning of their own
        return f"%{ord(name[0]):02X}{name[1:]}"
    return name


def chunk_rows(shape: tuple[int, ...], itemsize: int, level: int) -> int:
    """Return how many rows of an array of `shape` are a chunk, compressed at `level`; 0: not."""
    row = max(1, int(np.prod(shape[1:])) * itemsize)
    if len(shape) == 4:
        frames, size = (
            (CHUNK_FRAMES, MAX_IMAGE_CHUNK_BYTES) if level else (PLAIN_FRAMES, PLAIN_BYTES)
        )
        return max(1, min(frames, size // row))
    return max(1, min(shape[0], CHUNK_BYTES // row))


class Layout(NamedTuple):
    """How an array is stored."""

    shape: tuple[int, ...]  # of the array; no entry is 0
    dtype: np.dtype
    rows: int  # of a chunk
    level: int  # of zstd; 0: not compressed

    @property
    def num_chunks(self) -> int:
        """Chunks of the array; the last may be filled up."""
        return -(-self.shape[0] // self.rows)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk when unpacked."""
        return self.rows * math.prod(self.shape[1:]) * self.dtype.itemsize


def array_metadata(layout: Layout) -> dict[str, Any]:
    """Return what zarr wants to know of an array that is one shard."""
    shape, dtype, rows, level = layout
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    checksum = {"name": "crc32c"}
    packing = {"name": "zstd", "configuration": {"level": level, "checksum": False}}
    inner = [little, *([packing] if level else []), checksum]
    sharding = {
        "chunk_shape": [rows, *shape[1:]],
        "codecs": inner,
        "index_codecs": [little, checksum],
        "index_location": "end",
    }
    shard = [layout.num_chunks * rows, *shape[1:]]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if dtype.kind == "b" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "dimension_names": None,
        "storage_transformers": [],
    }


def parse_array_metadata(where: str, data: Any) -> Layout:
    """Return the layout of which `array_metadata` made `data`.

    Args:
        where: File and array, for the message.
        data: The content of the array's zarr.json.

    Raises:
        ValueError: If it is not as this version writes it, or claims more than fits in memory.
    """
    try:
        shape = tuple(int(side) for side in data["shape"])
        dtype = np.dtype(str(data["data_type"]))
        sharding = data["codecs"][0]["configuration"]
        rows = int(sharding["chunk_shape"][0])
        packing = sharding["codecs"][1:-1]
        level = int(packing[0]["configuration"]["level"]) if packing else 0
        layout = Layout(shape, dtype, rows, level)
        sound = rows >= 1 and dtype.kind in "biuf" and min(shape) >= 1
        known = sound and data == array_metadata(layout)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        known = False
    if not known:
        raise ValueError(f"{where} is damaged, or written by another program than `scd-wm convert`")
    check_chunk(where, (rows, *shape[1:]), dtype.itemsize)
    return layout


def group_text(attributes: Mapping[str, Any]) -> str:
    """Return the content of a group's zarr.json."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(group, indent=1) + "\n"


def digest(data: Any) -> str:
    """Return a checksum of JSON data, the same whatever the order of keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def array_hash(shape: tuple[int, ...], dtype: np.dtype) -> hashlib._Hash:
    """Return the start of an array's checksum, to be updated with its bytes, rows in order."""
    return hashlib.sha256(f"{dtype.name}{list(shape)}".encode())


def index_text(content: Mapping[str, Any]) -> str:
    """Return the content of an index with its checksum."""
    return json.dumps({"sha256": digest(content), "content": content}) + "\n"
