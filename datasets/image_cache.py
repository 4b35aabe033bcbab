"""Keep decoded and resized video on disk, so that training does not wait for a video decoder.

Axes: T frames of an episode, H height, W width. One zarr v3 array, (T, H, W, 3) uint8, holds one
camera of one episode in one view. It is written under another name and renamed when complete, so an
array that has its name is whole, whatever was interrupted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm

from scd_wm.datasets.image_view import ImageView
from scd_wm.datasets.reader import VideoReader

CHUNK_FRAMES = 16  # about one clip: what is read together is compressed together
WRITE_FRAMES = 64  # decoded frames in memory at a time; a multiple of CHUNK_FRAMES
LAYOUT = "2"  # of an entry; another text makes old entries unused


class ImageCache:
    """Images of a data set whose reader decodes video.

    An entry belongs to a file's path, size and modification time, the camera and the view: a
    video that changes is decoded again. Entries are never deleted; the folder may be, at any time
    when nothing runs.

    Args:
        reader: Decodes what is not in the cache.
        folder: Where to keep it; None is the environment variable SCD_WM_CACHE, or ~/.cache/scd_wm.
    """

    def __init__(self, reader: VideoReader, folder: str | Path | None = None) -> None:
        chosen = folder or os.environ.get("SCD_WM_CACHE") or "~/.cache/scd_wm"
        self.folder = Path(chosen).expanduser() / "images"
        self._reader = reader
        self._arrays: dict[Path, zarr.Array] = {}

    def covers(self, episode: int, camera: str) -> bool:
        """Return whether the images of an episode's camera are decoded from a video."""
        return self._reader.image_source(episode, camera) is not None

    def read(self, episode: int, camera: str, view: ImageView, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop - 1`, (stop - start, H, W, 3) uint8; decode if needed."""
        entry = self._entry(episode, camera, view)
        if entry not in self._arrays:
            if not entry.exists():
                self._write(entry, episode, camera, view)
            self._arrays[entry] = zarr.open_array(entry, mode="r")
        return np.asarray(self._arrays[entry][start:stop])

    def fill(self, episodes: Sequence[int], views: Mapping[str, ImageView]) -> None:
        """Decode whatever of these episodes and cameras is not in the cache yet.

        Args:
            episodes: Indices of the reader's episodes.
            views: What to keep of each camera's images.

        Raises:
            ValueError: If a video is damaged or too short.
        """
        wanted = [
            (self._entry(episode, camera, view), episode, camera, view)
            for camera, view in views.items()
            for episode in episodes
            if self.covers(episode, camera)
        ]
        missing = [job for job in wanted if not job[0].exists()]
        if not missing:
            return
        with tqdm(missing, desc=f"decoding video into {self.folder}", unit="video") as progress:
            for entry, episode, camera, view in progress:
                self._write(entry, episode, camera, view)

    def _entry(self, episode: int, camera: str, view: ImageView) -> Path:
        source = self._reader.image_source(episode, camera)
        assert source is not None  # the caller has asked `covers`
        source, stat = source.resolve(), source.stat()
        name = self._reader.info.episodes[episode].name
        identity = (LAYOUT, source, stat.st_size, stat.st_mtime_ns, name, camera, *view)
        digest = hashlib.sha256("|".join(map(str, identity)).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.zarr"

    def _write(self, entry: Path, episode: int, camera: str, view: ImageView) -> None:
        """Decode one video into `entry`; on an error leave nothing."""
        num_frames = self._reader.info.episodes[episode].num_observations
        aside = entry.with_name(f".{entry.stem}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            shape, chunks = (num_frames, *view.size, 3), (CHUNK_FRAMES, *view.size, 3)
            array = zarr.create_array(aside, shape=shape, chunks=chunks, dtype="uint8")
            row = 0
            for images in _batches(self._reader.decode(episode, camera), WRITE_FRAMES):
                array[row : row + len(images)] = view.apply(images)
                row += len(images)
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


def _batches(images: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Yield stacks of at most `length` images."""
    while batch := list(islice(images, length)):
        yield np.stack(batch)
