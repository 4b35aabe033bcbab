"""Features to look at: their principal components, as colours and as points.

Axes: L layers, S sampler steps, B clips, F frames, N tokens, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.probe.redundancy import principal_parts
from scd_wm.report.drawing import film_strip
from scd_wm.report.items import Picture
from scd_wm.report.video import encode_png

STEPS_SHOWN = 10  # at most
FRAMES_SHOWN = 12  # of points, at most
TAIL = 0.02  # of values beyond either end of the colours


def some_steps(num_steps: int) -> list[int]:
    """Return steps to be shown, the first and the last among them."""
    shown = np.linspace(0, num_steps - 1, min(num_steps, STEPS_SHOWN))
    return [round(step) for step in shown]


def colour_maps(
    features: Tensor, grid: tuple[int, int] | None, levels: list[float], frames_per_clip: int
) -> list[Picture]:
    """Return pictures of the features of an image's tokens, layers by steps, of two frames.

    The first three principal components of a layer's tokens, over the steps of the frame, are red,
    green and blue, so colours can be compared within a row.

    Args:
        features: (L, S, F, N, D).
        grid: Rows and columns of the image that the first tokens are; None: there is none.
        levels: Noise level at each step.
        frames_per_clip: Frames of a clip, so that the two are of different clips.
    """
    if grid is None:
        return []
    rows, columns = grid
    steps = some_steps(features.shape[1])
    labels = [f"s = {levels[step]:.2f}" for step in steps]
    pictures = []
    for number, frame in enumerate((0, frames_per_clip)):
        coloured = [_colours(layer[:, frame, : rows * columns])[steps] for layer in features]
        named = [
            (f"layer {i}", colours.reshape(len(steps), rows, columns, 3))
            for i, colours in enumerate(coloured)
        ]
        png = encode_png(film_strip(named, labels, width=88))
        pictures.append(Picture(f"features_{number}", f"Frame {'AB'[number]}", png))
    return pictures


def _colours(tokens: Tensor) -> NDArray[np.uint8]:
    """Return colours, (S, N, 3) uint8, of tokens (S, N, D)."""
    parts, _ = principal_parts(tokens, 3)
    ends = torch.quantile(parts.flatten(0, 1), torch.tensor([TAIL, 1 - TAIL]).double(), dim=0)
    unit = (parts - ends[0]) / (ends[1] - ends[0]).clamp(min=1e-12)
    return (unit.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def frame_points(features: Tensor, frames_per_clip: int) -> tuple[list[NDArray[np.float64]], list]:
    """Return for each layer frames as points, (frames, S, 2), and the share of variance of each.

    The first two principal components of all tokens of a frame as one vector, over frames and
    steps: where a layer gives the same at all steps, the points of a frame fall on one another.

    Args:
        features: (L, S, F, N, D).
        frames_per_clip: One frame of each clip is taken.
    """
    chosen = features[:, :, ::frames_per_clip][:, :, :FRAMES_SHOWN].flatten(-2)  # (L, S, f, N D)
    found = [principal_parts(layer, 2) for layer in chosen]
    points = [parts.transpose(0, 1).numpy() for parts, _ in found]
    return points, [share.tolist() for _, share in found]
