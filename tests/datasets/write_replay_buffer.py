"""Write replay buffers with zarr-python, in the variants that exist.

Everything says which episode and step it belongs to, as in `conftest`.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module  # of a package without type information
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore, StoreLike, ZipStore

from tests.datasets.conftest import LENGTHS, images, index_rows

CHUNK_ROWS = 4

Blosc = import_module("numcodecs").Blosc


def buffer_arrays(lengths: Sequence[int] = LENGTHS) -> dict[str, np.ndarray]:
    """Return the arrays below `data`, (N, ...) each."""
    steps = np.concatenate([np.arange(n) for n in lengths])
    last = np.concatenate([np.arange(n) == n - 1 for n in lengths])
    rows = np.concatenate([index_rows(e, n) for e, n in enumerate(lengths)])
    return {
        "img": np.concatenate([images(e, n) for e, n in enumerate(lengths)]),
        "state": rows,
        "action": rows,
        "reward": steps.astype(np.float32),
        "success": last,
    }


def episode_ends(lengths: Sequence[int] = LENGTHS) -> np.ndarray:
    """Return the content of `meta/episode_ends`."""
    return np.cumsum(lengths).astype(np.int64)


def write_replay_buffer(
    path: Path,
    arrays: Mapping[str, np.ndarray] | None = None,
    ends: np.ndarray | None = None,
    zarr_format: Literal[2, 3] = 2,
    **options: Any,
) -> Path:
    """Write a folder, or a zip file where the name ends in ".zip".

    Args:
        path: Where to.
        arrays: Those below `data`.
        ends: The content of `meta/episode_ends`.
        zarr_format: Version of zarr.
        options: For `create_array` of the arrays below `data`.
    """
    arrays = buffer_arrays() if arrays is None else arrays
    store: StoreLike = ZipStore(path, mode="w") if path.suffix == ".zip" else LocalStore(path)
    compressor = Blosc("lz4", 5, Blosc.NOSHUFFLE) if zarr_format == 2 else BloscCodec(cname="lz4")
    with zarr.config.set({"array.write_empty_chunks": True}):
        root = zarr.create_group(store, zarr_format=zarr_format)
        data, meta = root.create_group("data"), root.create_group("meta")
        for name, values in arrays.items():
            settings: dict[str, Any] = {
                "chunks": (CHUNK_ROWS, *values.shape[1:]),
                "compressors": compressor,
            } | options
            array = data.create_array(name, shape=values.shape, dtype=values.dtype, **settings)
            array[:] = values
        ends = episode_ends() if ends is None else ends
        meta.create_array("episode_ends", data=ends, compressors=compressor)
    if isinstance(store, ZipStore):
        store.close()
    return path
