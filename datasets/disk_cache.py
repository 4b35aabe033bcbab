"""Arrays on disk that are whole or not there: what is slow to make of an episode is made once.

Axes: T frames of an episode. One zarr v3 array, (T, ...), is one entry. It is written under another
name and renamed when complete, so an array that has its name is whole, whatever was interrupted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from scd_wm.datasets.zarr_array import ZarrArray
from scd_wm.datasets.zarr_files import FolderFiles

CHUNK_FRAMES = 16  # about one clip: what is read together is compressed together


class DiskCache:
    """Entries by name in one folder. They are never deleted; the folder may be, when nothing runs.

    Args:
        kind: Folder of its own for each kind of entry.
        folder: Where; None is the environment variable SCD_WM_CACHE, or ~/.cache/scd_wm.
    """

    def __init__(self, kind: str, folder: str | Path | None = None) -> None:
        chosen = folder or os.environ.get("SCD_WM_CACHE") or "~/.cache/scd_wm"
        self.folder = Path(chosen).expanduser() / kind
        self._arrays: dict[Path, ZarrArray] = {}

    def entry(self, identity: Iterable[object]) -> Path:
        """Return the path of the entry that all of these together name."""
        digest = hashlib.sha256("|".join(map(str, identity)).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.zarr"

    def read(self, entry: Path, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop - 1` of an entry that is there."""
        if entry not in self._arrays:
            array = ZarrArray.open(FolderFiles(entry.parent), entry.name)
            if array is None:
                raise ValueError(f"{entry} is damaged: it has no metadata; delete it")
            self._arrays[entry] = array
        return self._arrays[entry].read(start, stop)

    def write(
        self, entry: Path, shape: Sequence[int], dtype: str, parts: Iterable[np.ndarray]
    ) -> None:
        """Write an entry; on an error leave nothing.

        Args:
            entry: Its path.
            shape: Of the array, (T, ...).
            dtype: Of the array.
            parts: Consecutive rows, in all T; of a multiple of `CHUNK_FRAMES` but the last, or
                chunks are written more than once.
        """
        aside = entry.with_name(f".{entry.stem}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            chunks = (CHUNK_FRAMES, *shape[1:])
            array = zarr.create_array(
                aside,
                shape=tuple(shape),
                chunks=chunks,
                dtype=dtype,
                config={"write_empty_chunks": True},  # one that is not there is damage
            )
            row = 0
            for part in parts:
                array[row : row + len(part)] = part
                row += len(part)
            _rename(aside, entry)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}}


def _rename(aside: Path, entry: Path) -> None:
    """Give a whole entry its name, unless another process was faster."""
    try:
        aside.rename(entry)
    except OSError:
        if not entry.exists():
            raise
