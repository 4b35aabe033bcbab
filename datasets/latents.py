"""A data set whose images are the latents of a frozen autoencoder, encoded once and kept on disk.

Axes: T frames of an episode, N images, H height and W width in pixels, h and w in latent cells,
C channels of a latent. One entry on disk, (T, h, w, C) float16, holds one camera of one episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from scd_wm.datasets.dataset import RobotDataset
from scd_wm.datasets.disk_cache import CHUNK_FRAMES, DiskCache
from scd_wm.datasets.measure import MIN_DELTA, Moments
from scd_wm.datasets.reader import VideoReader
from scd_wm.progress import progress_bar
from scd_wm.spec import CameraSpec

LAYOUT = "2"  # of an entry; another text makes old entries unused
PROBES = 3  # images of an episode that help to tell it from others


class ImageEncoder(Protocol):
    """What is needed of an autoencoder; `scd_wm.autoencoder.base.FrameAutoencoder` has it."""

    @property
    def identity(self) -> str:
        """Text that no other autoencoder has."""

    @property
    def downscale(self) -> int:
        """Pixels along a side of a latent cell."""

    @property
    def channels(self) -> int:
        """Channels C of a latent."""

    def latent_size(self, height: int, width: int, what: str = ...) -> tuple[int, int]:
        """Return height and width of latents; raises ValueError where images do not fit."""

    def encode(self, images: Tensor) -> Tensor:
        """Return latents, (N, h, w, C) float32, of images, (N, H, W, 3) uint8."""


class LatentDataset(RobotDataset):
    """The episodes of a data set with latents in place of images.

    An entry on disk belongs to the file that holds the images (its path, size and modification
    time) and, unless it is a video, to some of the images themselves; to the camera, the view, the
    frame skip and the autoencoder. What was read is kept in the memory of the data set.

    Args:
        pixels: The data set; what either has read is shared.
        encoder: Encodes what is not on disk.
        folder: Where to keep latents; None is the environment variable SCD_WM_CACHE, or
            ~/.cache/scd_wm.

    Raises:
        ValueError: If the autoencoder cannot encode images of the size of a camera.
    """

    def __init__(
        self, pixels: RobotDataset, encoder: ImageEncoder, folder: str | Path | None = None
    ) -> None:
        vars(self).update(vars(pixels))
        self._disk = DiskCache("latents", folder)
        self._encoder, self._identity = encoder, encoder.identity
        self.latent_sizes = {
            name: encoder.latent_size(*size, f"images of {name!r}")
            for name, size in self.image_sizes.items()
        }
        self._entries: dict[tuple[int, str], Path] = {}

    def images(self, episode: int, camera: str, start: int, stop: int) -> np.ndarray:
        """Return latents of frames `start` to `stop - 1`, (stop - start, h, w, C) float32."""
        shape = (*self.latent_sizes[camera], self._encoder.channels)
        if start >= stop:
            return np.zeros((0, *shape), np.float32)
        num_frames = self.episodes[episode].num_observations
        whole = self._image_memory.get(
            (self.indices[episode], camera, self._identity),
            2 * num_frames * int(np.prod(shape)),
            lambda: self._read_latents(episode, camera, 0, num_frames),
        )
        rows = (
            self._read_latents(episode, camera, start, stop) if whole is None else whole[start:stop]
        )
        return rows.astype(np.float32)

    def _read_latents(self, episode: int, camera: str, start: int, stop: int) -> np.ndarray:
        """Read latents from disk as float16, after encoding them if they are not there."""
        entry = self._entry(episode, camera)
        if not entry.exists():
            self._write(entry, episode, camera)
        return self._disk.read(entry, start, stop)

    def prepare(self) -> None:
        """Decode and encode all that is not on disk yet, showing progress."""
        every = [(e, c) for c in self.cameras for e in range(len(self.episodes))]
        missing = [job for job in every if not self._entry(*job).exists()]
        if not missing:  # then no video is needed either
            return
        super().prepare()
        total = sum(self.episodes[episode].num_observations for episode, _ in missing)
        name = f"encoding images into {self._disk.folder}"
        with progress_bar(total=total, desc=name, unit="frame") as progress:
            for episode, camera in missing:
                self._write(self._entry(episode, camera), episode, camera, progress)

    def camera_spec(self, camera: str) -> CameraSpec:
        """Measure mean and deviation of each channel, and the change between frames, by streaming.

        The change is the RMS over all channels, each in units of its own deviation.
        """
        channels, (height, width) = self._encoder.channels, self.latent_sizes[camera]
        cells, pair_squares, num_pairs = Moments(channels), np.zeros(channels), 0
        for index, episode in enumerate(self.episodes):
            latents = self.images(index, camera, 0, episode.num_observations)
            cells.add(latents.reshape(-1, channels))
            changes = np.diff(latents.astype(np.float64), axis=0)
            pair_squares += (changes**2).sum(axis=(0, 1, 2))
            num_pairs += changes[..., 0].size
        statistics = cells.vector_spec()
        scaled = pair_squares / max(num_pairs, 1) / np.square(statistics.std)
        return CameraSpec(
            height=height,
            width=width,
            channels=channels,
            kind="latent",
            delta_std=max(float(np.sqrt(scaled.mean())), MIN_DELTA),
            mean=statistics.mean,
            std=statistics.std,
            downscale=self._encoder.downscale,
        )

    def _entry(self, episode: int, camera: str) -> Path:
        key = (self.indices[episode], camera)
        if key not in self._entries:
            skip, num_frames = self.options.frame_skip, self.episodes[episode].num_observations
            made = (LAYOUT, self._identity, camera, *self.selection.views[camera], skip, num_frames)
            self._entries[key] = self._disk.entry((*made, *self._source(episode, camera)))
        return self._entries[key]

    def _source(self, episode: int, camera: str) -> Iterator[Any]:
        """Yield what tells the pixels of an episode's camera from all others."""
        index, path = self.indices[episode], self.info.path
        yield self.info.episodes[index].name
        reader, video = self._reader, None
        if isinstance(reader, VideoReader):
            video = reader.image_source(index, camera)
        if video is not None:
            path = video.path
            yield video.part
        if path.is_file():
            stat = path.stat()
            yield from (path.resolve(), stat.st_size, stat.st_mtime_ns)
        if video is None:
            last = self.episodes[episode].num_observations - 1
            for frame in np.linspace(0, last, PROBES).round().astype(int):
                image = self._read_images(episode, camera, int(frame), int(frame) + 1)
                yield hashlib.sha256(image.tobytes()).hexdigest()

    def _write(
        self, entry: Path, episode: int, camera: str, progress: tqdm[Any] | None = None
    ) -> None:
        """Encode one camera of an episode into `entry`; on an error leave nothing."""
        num_frames = self.episodes[episode].num_observations
        shape = (num_frames, *self.latent_sizes[camera], self._encoder.channels)

        def parts() -> Iterator[np.ndarray]:
            for row in range(0, num_frames, CHUNK_FRAMES):
                images = self._read_images(
                    episode, camera, row, min(row + CHUNK_FRAMES, num_frames)
                )
                latents = self._encoder.encode(torch.from_numpy(np.ascontiguousarray(images)))
                yield self._as_float16(latents, episode, camera)
                if progress is not None:
                    progress.update(len(images))

        self._disk.write(entry, shape, "float16", parts())

    def _as_float16(self, latents: Tensor, episode: int, camera: str) -> np.ndarray:
        values = latents.half()
        if not values.isfinite().all():
            raise ValueError(
                f"the autoencoder gives latents that are not finite in float16 for images of "
                f"{camera!r} in {self.episodes[episode].name}; use another autoencoder"
            )
        return values.numpy()
