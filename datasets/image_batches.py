"""Images of an episode in order, a few of them in memory at a time.

Axes: n images of a batch, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from scd_wm.datasets.reader import Reader, VideoReader


def video_file(reader: Reader, episode: int, camera: str) -> Path | None:
    """Return the file of a camera's images, if they must be decoded one after the other."""
    source = reader.image_source(episode, camera) if isinstance(reader, VideoReader) else None
    return source.path if source else None


def image_batches(
    reader: Reader, episode: int, camera: str, span: tuple[int, int], length: int
) -> Iterator[np.ndarray]:
    """Yield images of an episode's camera, at most `length` at a time, (n, H, W, 3) uint8.

    Args:
        reader: Of the data set.
        episode: Index of the reader's episodes.
        camera: Which camera.
        span: First frame and one past the last. Of a video that ends before, fewer images come.
        length: Images of a batch; the last may have fewer.
    """
    start, stop = span
    if isinstance(reader, VideoReader) and video_file(reader, episode, camera) is not None:
        yield from stacked(islice(reader.decode(episode, camera), start, stop), length)
        return
    for first in range(start, stop, length):
        yield reader.read(episode, camera, first, min(first + length, stop))


def stacked(images: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Yield stacks of at most `length` images."""
    remaining = iter(images)
    while batch := list(islice(remaining, length)):
        yield np.stack(batch)
