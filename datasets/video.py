"""Look into video files and decode them with PyAV.

Axes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np


@dataclass(frozen=True)
class VideoFile:
    """What the header of a video says."""

    height: int
    width: int
    num_frames: int  # 0 where the header does not say


def probe(path: Path) -> VideoFile:
    """Read the header of a video.

    Raises:
        ValueError: If the file is no video or is cut short.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return VideoFile(stream.height, stream.width, stream.frames)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is no video or is damaged ({error})") from error


def decode(path: Path, num_frames: int) -> Iterator[np.ndarray]:
    """Yield the first `num_frames` images of a video in order, (H, W, 3) uint8 each.

    Raises:
        ValueError: If the video ends or breaks sooner.
    """
    count = 0
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                if count == num_frames:
                    break
                yield frame.to_ndarray(format="rgb24")
                count += 1
    except av.FFmpegError as error:
        raise ValueError(f"{path} is damaged after {count} frames ({error})") from error
    if count < num_frames:
        raise ValueError(f"{path} ends after {count} frames, its episode has {num_frames}")
