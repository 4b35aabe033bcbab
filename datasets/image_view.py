"""What is seen of a camera's images: a part cut out of them, at another size.

Axes: N images, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from scd_wm.datasets.resize import resize_images


class Box(NamedTuple):
    """A part of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


Crop: TypeAlias = Literal["center"] | tuple[int, int, int, int]
"""A box, or the largest centred part with the sides' ratio of the size that follows."""


class ImageView(NamedTuple):
    """A crop and a size. Works on images of any size that the crop fits in."""

    crop: Box | Literal["center"] | None
    size: tuple[int, int]  # height and width of the result

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Return images, (N, H, W, C) uint8, as (N, *size, C)."""
        if self.crop is not None:
            box = self._box((images.shape[1], images.shape[2]))
            images = images[:, box.top : box.top + box.height, box.left : box.left + box.width]
        return resize_images(images, self.size)

    def _box(self, shape: tuple[int, int]) -> Box:
        return centre_box(shape, self.size) if self.crop == "center" else _as_box(self.crop)


def check_crop(crop: object) -> None:
    """Raise ValueError unless a crop is "center", None, or a box with sides above 0."""
    if crop is None or crop == "center":
        return
    numbers = list(crop) if isinstance(crop, Sequence) and not isinstance(crop, str) else []
    if len(numbers) != 4 or not all(isinstance(x, int) for x in numbers):
        raise ValueError(f"crop must be 'center' or (top, left, height, width), got {crop!r}")
    top, left, height, width = numbers
    if min(top, left) < 0 or min(height, width) < 1:
        raise ValueError(
            f"crop must have top and left from 0 on, height and width above 0, got {numbers}"
        )


def check_fits(crop: Box, shape: Sequence[int], where: str) -> None:
    """Raise ValueError if a box is not inside images of a shape, (H, W, ...)."""
    if crop.top + crop.height > shape[0] or crop.left + crop.width > shape[1]:
        raise ValueError(
            f"crop {tuple(crop)} (top, left, height, width) is not inside {where}, whose images "
            f"are {shape[0]}x{shape[1]}"
        )


def centre_box(shape: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return the largest centred part of an image of `shape` with the sides' ratio of `size`."""
    scale = min(shape[0] / size[0], shape[1] / size[1])
    height, width = (min(side, round(scale * x)) for side, x in zip(shape, size, strict=True))
    return Box((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def _as_box(crop: Box | str | None) -> Box:
    assert isinstance(crop, Box)
    return crop
