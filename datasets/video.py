"""Look into video files and decode them with PyAV.

Axes: H height, W width. Seconds are counted on the video's own clock from its first frame, which
stays right where a data set declares another frame rate than its videos have.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from scd_wm.datasets.limits import MAX_IMAGE_BYTES, check_images

MAX_PIXELS = MAX_IMAGE_BYTES // 3
# What PyAV raises on damaged files; AttributeError where FFmpeg knows no decoder for the stream.
DAMAGE = (
    av.FFmpegError,
    ArithmeticError,
    AttributeError,
    EOFError,
    IndexError,
    MemoryError,
    UnicodeError,
)


@dataclass(frozen=True)
class VideoFile:
    """What the header of a video says."""

    height: int
    width: int
    num_frames: int  # 0 where the header does not say
    fps: float = 0.0  # 0 where the header does not say
    duration_s: float = math.inf

    def frames_from(self, start_s: float, stop_s: float) -> float:
        """Return how many frames there are from one time to another; inf where that is open."""
        if start_s == 0 and stop_s == math.inf:
            return self.num_frames or math.inf
        seconds = min(stop_s, self.duration_s) - start_s
        return max(round(seconds * self.fps), 0) if math.isfinite(seconds) else seconds


def probe(path: Path) -> VideoFile:
    """Read the header of a video.

    Raises:
        ValueError: If the file is no video, is cut short, or claims images that cannot be.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            duration_s = math.inf
            if stream.duration is not None and stream.time_base is not None:
                duration_s = float(stream.duration * stream.time_base)
            fps = float(stream.average_rate or 0)
            header = VideoFile(stream.height, stream.width, stream.frames, fps, duration_s)
    except DAMAGE as error:
        raise ValueError(f"{path} is no video or is damaged ({error})") from error
    _check_size(path, header.height, header.width)
    return header


def decode(path: Path, num_frames: int, start_s: float = 0.0) -> Iterator[np.ndarray]:
    """Yield `num_frames` images of a video in order, (H, W, 3) uint8 each.

    Args:
        path: The video.
        num_frames: How many.
        start_s: Time of the first one. What comes before it is decoded from a key frame on only.

    Raises:
        ValueError: If the video ends or breaks sooner, or images change their size or are turned.
    """
    count, shape = 0, None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            _check_size(path, stream.height, stream.width)
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # may grow on the way
            for frame in itertools.islice(_frames_from(container, stream, start_s), num_frames):
                shape = shape or (frame.height, frame.width)
                _check_frame(path, count, frame, shape)
                yield frame.to_ndarray(format="rgb24")
                count += 1
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged after {count} frames ({error})") from error
    if count < num_frames:
        raise ValueError(f"{path} ends after {count} frames, its episode has {num_frames}")


def _frames_from(container: Any, stream: Any, start_s: float) -> Iterator[Any]:
    """Yield the frames from a time on; those from the beginning need no times."""
    if start_s == 0:
        yield from container.decode(stream)
        return
    rate = float(stream.average_rate or 0)
    if "mp4" not in container.format.name or not rate or stream.time_base is None:
        raise ValueError(  # files without an index are sought in by guessing
            f"{container.name} is {container.format.name} at {rate:g} frames a second; the image "
            f"at {start_s:g} s can be found in mp4 files that say their rate"
        )
    wanted_s = float((stream.start_time or 0) * stream.time_base) + start_s - 0.5 / rate
    container.seek(max(int(wanted_s / stream.time_base), 0), stream=stream, backward=True)
    frames = (frame for frame in container.decode(stream) if (frame.time or 0) >= wanted_s)
    first = next(frames, None)
    if first is None:
        return
    if first.time > wanted_s + 1 / rate:
        raise ValueError(
            f"{container.name} is damaged: it has no image at {start_s:g} s, the next one is at "
            f"{first.time:g} s"
        )
    yield first
    yield from frames


def _check_size(path: Path, height: int, width: int) -> None:
    check_images(str(path), (1, height, width, 3))
    if min(height, width) < 1:
        raise ValueError(f"{path} is damaged: its images are of {height}x{width} pixels")


def _check_frame(path: Path, number: int, frame: Any, shape: tuple[int, int]) -> None:
    """Raise ValueError if a frame is no picture like those before it."""
    if (frame.height, frame.width) != shape:
        raise ValueError(
            f"{path}: image {number} has {frame.height}x{frame.width} pixels, the first one has "
            f"{shape[0]}x{shape[1]}"
        )
    if getattr(frame, "rotation", 0):  # PyAV says so from version 13 on
        raise ValueError(
            f"{path} is to be turned by {frame.rotation} degrees when shown; write it upright"
        )
    if frame.is_corrupt:
        raise ValueError(f"{path} is damaged: image {number} is incomplete")
