"""Keep decoded and resized video on disk, so that training does not wait for a video decoder.

Axes: T frames of an episode, H height, W width. One entry, (T, H, W, 3) uint8, holds one camera of
one episode in one view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scd_wm.datasets.disk_cache import DiskCache
from scd_wm.datasets.image_batches import stacked
from scd_wm.datasets.image_view import ImageView
from scd_wm.datasets.reader import VideoReader
from scd_wm.progress import progress_bar

WRITE_FRAMES = 64  # decoded frames in memory at a time; a multiple of chunks
LAYOUT = "3"  # of an entry; another text makes old entries unused


class ImageCache:
    """Images of a data set whose reader decodes video.

    An entry belongs to a part of a file with that path, size and modification time, the number of
    frames and the view: a video that changes, or in which an episode begins elsewhere than it did,
    is decoded again; a camera that is renamed or opened in a mixture is not.

    Args:
        reader: Decodes what is not in the cache.
        folder: Where to keep it; None is the environment variable SCD_WM_CACHE, or ~/.cache/scd_wm.
    """

    def __init__(self, reader: VideoReader, folder: str | Path | None = None) -> None:
        self._disk = DiskCache("images", folder)
        self._reader = reader

    @property
    def folder(self) -> Path:
        """Where entries are."""
        return self._disk.folder

    def covers(self, episode: int, camera: str) -> bool:
        """Return whether the images of an episode's camera are decoded from a video."""
        return self._reader.image_source(episode, camera) is not None

    def read(self, episode: int, camera: str, view: ImageView, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop - 1`, (stop - start, H, W, 3) uint8; decode if needed."""
        entry = self._entry(episode, camera, view)
        if not entry.exists():
            self._write(entry, episode, camera, view)
        return self._disk.read(entry, start, stop)

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
        with progress_bar(
            missing, desc=f"decoding video into {self.folder}", unit="video"
        ) as progress:
            for entry, episode, camera, view in progress:
                self._write(entry, episode, camera, view)

    def _entry(self, episode: int, camera: str, view: ImageView) -> Path:
        source = self._reader.image_source(episode, camera)
        assert source is not None  # the caller has asked `covers`
        path, stat = source.path.resolve(), source.path.stat()
        num_frames = self._reader.info.episodes[episode].num_observations
        file = (path, stat.st_size, stat.st_mtime_ns)
        return self._disk.entry((LAYOUT, *file, source.part, num_frames, *view))

    def _write(self, entry: Path, episode: int, camera: str, view: ImageView) -> None:
        """Decode one video into `entry`; on an error leave nothing."""
        shape = (self._reader.info.episodes[episode].num_observations, *view.size, 3)
        images = stacked(self._reader.decode(episode, camera), WRITE_FRAMES)
        self._disk.write(entry, shape, "uint8", map(view.apply, images))
