"""Bring stored images to the one form that readers give: (T, H, W, 3) uint8.

Axes: T images, H height, W width.
"""

from __future__ import annotations

import numpy as np


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
            f"{where} has values from {images.min()} to {images.max()}; expected 0 to "
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
