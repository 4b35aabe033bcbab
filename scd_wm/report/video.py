"""Frames as mp4 and PNG that every browser shows.

Axes: T frames, H height, W width; images are uint8 RGB.
"""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from scd_wm.report.drawing import Images

QUALITY = "18"  # x264's constant rate factor; 18 looks like the original
HOLD_S = 0.8  # for which the last frame stays before a video starts again


def encode_mp4(frames: Images, fps: float) -> bytes:
    """Encode frames as H.264 in yuv420p, with the last frame held for a moment.

    Args:
        frames: (T, H, W, 3), T at least 1; an odd height or width gets a line of black.
        fps: Frames a second, above 0.

    Raises:
        ValueError: If there are no frames, the shape is another, or `fps` is not above 0.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"a video needs frames of shape (T, H, W, 3), got {frames.shape}")
    if not fps > 0:
        raise ValueError(f"fps must be above 0, got {fps}")
    frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)])
    held = np.concatenate([frames, frames[-1:].repeat(round(HOLD_S * fps), axis=0)])
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Without it x264's AVX-512 code gives other bytes now and then for the same frames.
        independent = {"x264-params": "cpu-independent=1"}
        stream.options = {"crf": QUALITY, "preset": "fast", **independent}
        stream.codec_context.thread_count = 1
        for frame in held:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def decode_mp4(data: bytes) -> Images:
    """Return the frames of a video, (T, H, W, 3)."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(frames).astype(np.uint8, copy=False)


def encode_png(picture: Images) -> bytes:
    """Encode one image, (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png", optimize=True)
    return file.getvalue()
