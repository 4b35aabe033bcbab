"""Images as others store them, brought to the one form that readers give: (T, H, W, 3) uint8.

Axes: T images, H height, W width.
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


def to_uint8(where: str, images: np.ndarray, scale: float) -> np.ndarray:
    """Return images with their values rounded to 0 to 255, which loses nothing that was uint8.

    Args:
        where: File and key, for the message.
        images: Any shape; uint8 is returned as it is.
        scale: What float values are multiplied by: 255 for those from 0 to 1, 1 for 0 to 255.

    Raises:
        ValueError: If a value is not finite or lies outside 0 to 255.
    """
    if images.dtype == np.uint8:
        return images
    values = np.rint(images.astype(np.float32, copy=False) * np.float32(scale))
    if not ((values >= 0) & (values <= 255)).all():
        raise ValueError(
            f"{where} has values from {images.min():g} to {images.max():g}; expected 0 to "
            f"{255 / scale:g}: scale the images, or leave the camera out"
        )
    return values.astype(np.uint8)


def to_rgb(images: np.ndarray, layout: str) -> np.ndarray:
    """Return images, (T, H, W, 3), of those in another layout; grey is repeated three times.

    Args:
        images: (T, ...) with axes as in `layout`.
        layout: "HWC", "CHW" or "HW", C being 1 or 3.
    """
    if layout == "HW":
        images = images[..., None]
    elif layout == "CHW":
        images = np.moveaxis(images, 1, -1)
    grey = images.shape[-1] == 1
    return np.ascontiguousarray(np.repeat(images, 3, axis=-1) if grey else images)
