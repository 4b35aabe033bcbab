"""Differences between imagined and real frames, computed on tensors and never on videos.

Axes: B clips, T frames, H height, W width, C channels, D values of a vector. Every metric is (B, T)
float64, one number for each clip and frame; NaN where it does not apply.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

WHITE = 255.0  # largest pixel value
PSNR_CAP_DB = 60.0  # given to frames that differ by less: a quarter of a grey level, invisible
MOVING_THRESHOLD = 16.0  # grey levels a pixel must change by to have moved; video noise is below
MOVING_MARGIN = 1  # pixels by which the moving region is widened on every side
PROBABILITY_FLOOR = 1e-3  # so that one certain and wrong prediction does not make log loss infinite
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # Wang et al. 2004


def psnr(imagined: Tensor, real: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of every frame in dB, at most `PSNR_CAP_DB`.

    Args:
        imagined: Images, (B, T, H, W, C) uint8.
        real: Images, (B, T, H, W, C) uint8.
        mask: Pixels that count, (B, T, H, W) bool; None for all. An empty mask gives NaN.

    Returns:
        Decibels, (B, T).
    """
    squares = (imagined.double() - real.double()).square().mean(dim=-1)  # (B, T, H, W)
    weight = torch.ones_like(squares) if mask is None else mask.double()
    error = (squares * weight).sum(dim=(-2, -1)) / weight.sum(dim=(-2, -1))
    floor = WHITE**2 / 10 ** (PSNR_CAP_DB / 10)
    return 10 * torch.log10(WHITE**2 / error.clamp(min=floor))


def moving_region(real: Tensor, last: Tensor) -> Tensor:
    """Pixels where the real frames differ from the last frame of the history, with a margin.

    Args:
        real: Images, (B, T, H, W, C) uint8.
        last: The last frame that the model was given, (B, H, W, C) uint8.

    Returns:
        (B, T, H, W) bool.
    """
    change = (real.float() - last[:, None].float()).abs().amax(dim=-1)  # (B, T, H, W)
    moved = (change > MOVING_THRESHOLD).float()
    return F.max_pool2d(moved, 2 * MOVING_MARGIN + 1, stride=1, padding=MOVING_MARGIN) > 0


def sharpness(imagined: Tensor, real: Tensor, last: Tensor) -> Tensor:
    """Mean squared gradient of imagined frames over that of real ones, where either has moved.

    The energy of the gradient is a measure of focus (Tenengrad; Pertuz et al. 2013, "Analysis of
    focus measure operators for shape-from-focus"); here it is that of the grey image, by
    differences of neighbouring pixels. It must be squared: an edge that is spread over more pixels
    keeps the sum of its gradient. 1 is as sharp as reality, less is blur. Noise and strange shapes
    add to it, so this number does not stand alone.

    Args:
        imagined: Images, (B, T, H, W, C) uint8.
        real: Images, (B, T, H, W, C) uint8.
        last: The last frame that the model was given, (B, H, W, C) uint8.

    Returns:
        Ratios, (B, T); NaN where nothing has moved, or the real frame is flat there.
    """
    moved = moving_region(real, last) | moving_region(imagined, last)
    edges = [(_gradient_energy(x) * moved).sum(dim=(-2, -1)) for x in (imagined, real)]
    return torch.where(edges[1] > 0, edges[0] / edges[1], torch.nan)


def _gradient_energy(images: Tensor) -> Tensor:
    """Return the gradient's square in grey images, 0 beyond the border, (B, T, H, W)."""
    grey = images.double().mean(dim=-1)  # (B, T, H, W)
    down = F.pad(grey.diff(dim=-2), (0, 0, 0, 1))
    right = F.pad(grey.diff(dim=-1), (0, 1))
    return down.square() + right.square()


def ssim(imagined: Tensor, real: Tensor) -> Tensor:
    """Structural similarity of every frame (Wang et al. 2004), 1 for equal images.

    The Gaussian window is separable, so blurring is a matrix product on either side of an image.
    Images are mirrored at their borders; where they are too small for that, the window shrinks.

    Args:
        imagined: Images, (B, T, H, W, C) uint8.
        real: Images, (B, T, H, W, C) uint8.

    Returns:
        (B, T).
    """
    rows, columns = (_blur_matrix(n).to(imagined.device) for n in imagined.shape[2:4])
    x, y = (rearrange(v.float(), "b t h w c -> b t c h w") for v in (imagined, real))
    mean_x, mean_y = rows @ x @ columns.T, rows @ y @ columns.T
    var_x = (rows @ (x * x) @ columns.T - mean_x**2).clamp(min=0)
    var_y = (rows @ (y * y) @ columns.T - mean_y**2).clamp(min=0)
    covariance = rows @ (x * y) @ columns.T - mean_x * mean_y
    c1, c2 = (0.01 * WHITE) ** 2, (0.03 * WHITE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).double().mean(dim=(2, 3, 4))


def _blur_matrix(size: int) -> Tensor:
    """Return the matrix that blurs a line of `size` pixels by the window, mirrored at its ends.

    Returns:
        (size, size), rows summing to 1.
    """
    reach = min(SSIM_WINDOW // 2, size - 1)
    offset = torch.arange(-reach, reach + 1)
    weight = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    source = torch.arange(size)[:, None] + offset  # (size, window)
    source = (size - 1) - ((size - 1) - source.abs()).abs()
    matrix = torch.zeros(size, size)
    return matrix.scatter_add(1, source, (weight / weight.sum()).expand(size, -1))


def rmse(imagined: Tensor, real: Tensor) -> Tensor:
    """Root of the mean squared difference over the values of a vector, in its units.

    Args:
        imagined: (B, T, D).
        real: (B, T, D).

    Returns:
        (B, T).
    """
    return (imagined.double() - real.double()).square().mean(dim=-1).sqrt()


def mean_abs_error(imagined: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference over the values of a vector, in its units; shapes as in `rmse`."""
    return (imagined.double() - real.double()).abs().mean(dim=-1)


def distance(imagined: Tensor, real: Tensor, num_coordinates: int) -> Tensor:
    """Euclidean distance between the positions that two vectors begin with.

    Args:
        imagined: (B, T, D).
        real: (B, T, D).
        num_coordinates: How many leading values are the position.

    Returns:
        (B, T).
    """
    difference = imagined.double() - real.double()
    return difference[..., :num_coordinates].norm(dim=-1)


def brier_score(probability: Tensor, happened: Tensor) -> Tensor:
    """Squared difference between a probability and what happened (0 or 1), both (B, T)."""
    return (probability.double() - happened.double()).square()


def log_loss(probability: Tensor, happened: Tensor) -> Tensor:
    """Negative log probability, in nats, of what happened (0 or 1), both (B, T).

    Probabilities are kept `PROBABILITY_FLOOR` away from 0 and 1.
    """
    p = probability.double().clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return -torch.where(happened > 0.5, p.log(), (1 - p).log())
