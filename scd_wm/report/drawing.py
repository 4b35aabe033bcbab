"""Panels of images with captions, put together into one picture a frame.

Axes: T frames, H height, W width; images are uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Images = NDArray[np.uint8]
Colour = tuple[int, int, int]

BACKGROUND: Colour = (20, 23, 28)
TEXT: Colour = (226, 230, 236)
QUIET: Colour = (128, 136, 148)
REAL: Colour = (150, 158, 170)  # edge of real frames
IMAGINED: Colour = (79, 143, 255)  # edge of imagined frames
HEADER = 24  # height of a caption
GAP = 8  # around panels
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
EDGE = 3  # below a panel, coloured by whether the frame is real or imagined


@dataclass(frozen=True)
class Panel:
    """One camera's frames with a caption."""

    caption: str
    frames: Images  # (T, H, W, 3)
    imagined_from: int | None = None  # first imagined frame; None if all are real


def compose(panels: Sequence[Panel], columns: int, given: int, width: int) -> Images:
    """Put panels side by side: a caption, a clock, and an edge that says real or imagined.

    Args:
        panels: At least one; all with as many frames.
        columns: Panels in a row.
        given: Frames of history; the clock counts from the last of them.
        width: Pixels that a panel is about wide.

    Returns:
        (T, H, W, 3) with even H and W, as video wants.
    """
    blocks = [_block(panel, given, width) for panel in panels]
    rows = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    height = sum(max(b.shape[1] for b in row) + GAP for row in rows) + GAP
    total = max(sum(b.shape[2] + GAP for b in row) for row in rows) + GAP
    canvas = np.empty((len(panels[0].frames), height + height % 2, total + total % 2, 3), np.uint8)
    canvas[:] = BACKGROUND
    top = GAP
    for row in rows:
        left = GAP
        for block in row:
            canvas[:, top : top + block.shape[1], left : left + block.shape[2]] = block
            left += block.shape[2] + GAP
        top += max(b.shape[1] for b in row) + GAP
    return canvas


def film_strip(
    rows: Sequence[tuple[str, Images]], labels: Sequence[str], width: int = 176
) -> Images:
    """Lay frames out as a table: a row a sequence, a column a time.

    Args:
        rows: Caption and frames, (T, H, W, 3), of each row.
        labels: Of the T columns.
        width: Pixels that a frame is about wide.

    Returns:
        One picture, (H, W, 3).
    """
    pictures = [resize(frames, width) for _, frames in rows]
    _, height, width, _ = pictures[0].shape
    margin = 84
    canvas = np.empty(
        (HEADER + len(rows) * (height + GAP) + GAP, margin + len(labels) * (width + GAP), 3),
        np.uint8,
    )
    canvas[:] = BACKGROUND
    for r, frames in enumerate(pictures):
        for c, frame in enumerate(frames):
            top, left = HEADER + r * (height + GAP), margin + c * (width + GAP)
            canvas[top : top + height, left : left + width] = frame
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for c, label in enumerate(labels):
        centre = margin + c * (width + GAP) + width // 2
        draw.text((centre, HEADER // 2), label, QUIET, font(13), anchor="mm")
    for r, (caption, _) in enumerate(rows):
        draw.text(
            (margin - 10, HEADER + r * (height + GAP) + height // 2), caption, TEXT, font(13), "rm"
        )
    return np.asarray(image)


def resize(frames: Images, width: int) -> Images:
    """Return frames about `width` wide: each pixel repeated, or blocks of pixels averaged.

    Factors are whole, so that the pixels of a small image stay square and sharp.

    Args:
        frames: (T, H, W, 3).
        width: Pixels wanted.
    """
    factor = max(1, round(width / frames.shape[2]))
    if factor > 1 or frames.shape[2] < 2 * width:
        return frames.repeat(factor, axis=1).repeat(factor, axis=2)
    block = frames.shape[2] // width
    size = (frames.shape[2] // block, frames.shape[1] // block)
    return np.stack(
        [np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BOX)) for f in frames]
    )


def difference(imagined: Images, real: Images) -> Images:
    """Return how far images are apart, on black: absolute difference, doubled and cut at white."""
    apart = np.abs(imagined.astype(np.int16) - real.astype(np.int16)) * 2
    return apart.clip(max=255).astype(np.uint8)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of captions."""
    return ImageFont.load_default(size)


def _block(panel: Panel, given: int, width: int) -> Images:
    """Return a panel with caption and edge, (T, H, W, 3)."""
    pictures = resize(panel.frames, width)
    num_frames, height, width, _ = pictures.shape
    block = np.empty((num_frames, HEADER + height + EDGE, width, 3), np.uint8)
    block[:] = BACKGROUND
    block[:, HEADER : HEADER + height] = pictures
    for t in range(num_frames):
        imagined = panel.imagined_from is not None and t >= panel.imagined_from
        block[t, :HEADER] = _header(panel.caption, _clock(t, given), width, imagined)
        block[t, HEADER + height :] = IMAGINED if imagined else REAL
    return block


def shortened(text: str, width: float) -> str:
    """Return a caption cut so that it is at most `width` pixels wide, with an ellipsis if cut."""
    if font(13).getlength(text) <= width:
        return text
    kept = text
    while kept and font(13).getlength(kept + ELLIPSIS) > width:
        kept = kept[:-1]
    return kept.rstrip() + ELLIPSIS


def _clock(t: int, given: int) -> str:
    """Return how far frame `t` is from the last one given."""
    return f"+{t - given + 1}" if t >= given else "given"


@cache
def _header(caption: str, clock: str, width: int, imagined: bool) -> Images:
    """Return caption and clock as a strip, (HEADER, W, 3)."""
    image = Image.new("RGB", (width, HEADER), BACKGROUND)
    draw = ImageDraw.Draw(image)
    clock_width = draw.textlength(clock, font(12))
    shown = shortened(caption, width - clock_width - GAP)
    draw.text((1, HEADER // 2), shown, IMAGINED if imagined else TEXT, font(13), anchor="lm")
    draw.text((width - 1, HEADER // 2), clock, QUIET, font(12), anchor="rm")
    return np.asarray(image)
