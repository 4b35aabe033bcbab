"""Probe A: how alike the features of a frame are at all denoising steps, layer by layer.

After Bai et al. 2026 (arXiv:2602.10095), who find a cosine above 0.95 between the steps of a frame
in early and middle layers and about 0.6 between frames. The raw cosine misleads where the residual
stream is mostly one vector that all tokens share, so the same is measured with that vector taken
away, and as a distance, which it does not enter.

Axes: L layers, S sampler steps, B clips, K frames of a clip, F = B K, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

Measure = Callable[[Tensor, Tensor], Tensor]

MEASURES = ("raw", "centred", "distance")


@dataclass(frozen=True)
class Alike:
    """A measure of one layer: cosines, or relative distances."""

    steps: Array  # (F, S, S) between the steps of a frame
    next_frame: Array  # (B, K - 1, S) between a frame and the next of its clip, at the same step
    other_clip: Array  # (B, K, S) between frames of two clips, at the same step

    def between_steps(self) -> Array:
        """Return the mean over pairs of different steps of each frame, (F,)."""
        num_steps = self.steps.shape[1]
        apart = ~np.eye(num_steps, dtype=bool)
        return self.steps[:, apart].mean(1)


def compare(features: Tensor, num_clips: int) -> dict[str, Alike]:
    """Compare the features of a layer between steps, and as a control between frames.

    Cosines are means over the tokens of a frame of h h' / (|h| |h'|), raw, and with the mean of h
    over tokens, steps and frames subtracted. The distance is relative, over all tokens of a frame:
    |h - h'| / sqrt((|h|^2 + |h'|^2) / 2), 0 where they are equal, sqrt 2 where they are orthogonal.

    Args:
        features: Of one layer, (S, F, N, D).
        num_clips: B, at least 2; frames are clip by clip.

    Returns:
        By name of `MEASURES`.
    """
    h = features.double()
    return {
        "raw": _alike(_unit(h), num_clips, _mean_product),
        "centred": _alike(_unit(h - h.mean((0, 1, 2))), num_clips, _mean_product),
        "distance": _alike(h, num_clips, _distance),
    }


def _unit(h: Tensor) -> Tensor:
    return torch.nn.functional.normalize(h, dim=-1)


def _mean_product(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean over tokens of the products of vectors, (...), from (..., N, D)."""
    return (a * b).sum(-1).mean(-1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the relative distance, (...), of features (..., N, D)."""
    size = (a.square() + b.square()).sum((-2, -1)) / 2
    apart = (a - b).square().sum((-2, -1))
    return (apart / size.clamp(min=torch.finfo(size.dtype).tiny)).sqrt()


def _alike(h: Tensor, num_clips: int, measure: Measure) -> Alike:
    by_clip = rearrange(h, "s (b k) n d -> s b k n d", b=num_clips)
    steps = torch.stack([measure(h, step[None]) for step in h])  # (S, S, F)
    after = measure(by_clip[:, :, :-1], by_clip[:, :, 1:])
    other = measure(by_clip, by_clip.roll(1, 1))
    return Alike(
        steps.permute(2, 0, 1).cpu().numpy(),
        after.permute(1, 2, 0).cpu().numpy(),
        other.permute(1, 2, 0).cpu().numpy(),
    )


def principal_parts(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first principal components of vectors, and the share of variance of each.

    Pearson 1901. Signs are such that the largest value of each is positive.

    Args:
        features: (..., D).
        count: How many.

    Returns:
        (..., count), and (count,); zero beyond the rank of the features.
    """
    rows = features.flatten(0, -2).double()
    rows = rows - rows.mean(0)
    u, s, _ = torch.linalg.svd(rows, full_matrices=False)
    count_found = min(count, len(s))
    parts = rows.new_zeros(len(rows), count)
    parts[:, :count_found] = u[:, :count_found] * s[:count_found]
    largest = parts.gather(0, parts.abs().argmax(0, keepdim=True))
    parts = parts * torch.where(largest < 0, -1.0, 1.0)
    share = rows.new_zeros(count)
    share[:count_found] = s[:count_found].square() / s.square().sum().clamp(min=1e-300)
    return parts.reshape(*features.shape[:-1], count), share
