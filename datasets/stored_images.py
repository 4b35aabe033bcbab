"""Images as others store them: bytes or floats, channels last or first.

Axes: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MIN_SIDE = 8  # pixels; three floats in a row of fewer are a matrix, such as a rotation


def image_shape(shape: Sequence[int], dtype: np.dtype) -> tuple[int, int, int] | None:
    """Return (H, W, 3) if an array is images, else None.

    Args:
        shape: (T, H, W, 3), or (T, 3, H, W) with sides of at least `MIN_SIDE`.
        dtype: uint8 or a float, which also needs sides of at least `MIN_SIDE`.
    """
    if len(shape) != 4 or not (dtype == np.uint8 or dtype.kind == "f"):
        return None
    last = shape[3] == 3
    if not last and shape[1] != 3:
        return None
    height, width = (shape[1], shape[2]) if last else (shape[2], shape[3])
    if min(height, width) < (1 if last and dtype == np.uint8 else MIN_SIDE):
        return None
    return height, width, 3


def white_level(sample: np.ndarray) -> float:
    """Return which value is white in float images: 1 or 255.

    Args:
        sample: Some of the images.

    Raises:
        ValueError: If the values lie in neither range, as those of normalised images.
    """
    low, high = float(sample.min(initial=0)), float(sample.max(initial=0))
    if not (low >= 0 and high <= 255):  # also if they are NaN
        raise ValueError(
            f"float images with values from {low:g} to {high:g}, neither 0 to 1 nor 0 to 255"
        )
    return 1.0 if high <= 1 else 255.0


def to_uint8(images: np.ndarray, white: float | None, where: str) -> np.ndarray:
    """Return images as (T, H, W, 3) uint8; those that are so already stay the same bytes.

    Args:
        images: As `image_shape` describes them.
        white: Of float images, the value of white; they are rounded to the nearest of 256 levels.
        where: File, episode and key, for the message.

    Raises:
        ValueError: If a float is NaN or out of range.
    """
    if images.shape[3] != 3:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    if images.dtype == np.uint8:
        return images
    white = white or 255.0
    if images.size and not (images.min() >= 0 and images.max() <= white):
        raise ValueError(
            f"{where} has values from {images.min():g} to {images.max():g}, where the first images "
            f"lie in 0 to {white:g}; repair the data or leave the camera out"
        )
    return np.rint(images.astype(np.float32) * (255 / white)).astype(np.uint8)
