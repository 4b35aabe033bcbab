"""Rotary positions on three axes: frame, row, column (Su et al. 2021, arXiv:2104.09864).

Axes: B batch, T frames, N tokens in a frame, H heads, K width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def axis_split(head_dim: int) -> tuple[int, int, int]:
    """Return how many of `head_dim` channels turn with frame, row and column: 1/4, 3/8, 3/8.

    Raises:
        ValueError: If `head_dim` is not a multiple of 16, so that the parts would not be even.
    """
    if head_dim % 16:
        raise ValueError(f"head width must be a multiple of 16, got {head_dim}; change num_heads")
    return head_dim // 4, head_dim * 3 // 8, head_dim * 3 // 8


def rotation(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> Tensor:
    """Return cosines and sines of the angles of tokens at `positions`.

    Angles are computed in float64: a bfloat16 frame number is already wrong at 257.

    Args:
        positions: Frame, row, column, (..., 3).
        head_dim: Width of a head K.
        theta: Base of the frequencies.
        dtype: Of the result.

    Returns:
        (2, ..., K): cosines, and sines signed as `rotate` needs them.
    """
    angles = []
    for axis, dim in enumerate(axis_split(head_dim)):
        exponent = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float64) / dim
        angles.append(positions[..., axis, None].double() * theta**-exponent)
    angle = torch.cat(angles, dim=-1)  # (..., K / 2)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)]).to(dtype)


def frame_rotation(
    frames: Tensor, places: Tensor, head_dim: int, theta: float, dtype: torch.dtype
) -> Tensor:
    """Return cosines and sines for all tokens of some frames.

    Args:
        frames: Numbers of the frames, (F,) int.
        places: Row and column of each token, (N, 2).
        head_dim: Width of a head K.
        theta: Base of the frequencies.
        dtype: Of the result.

    Returns:
        (2, F, N, K).
    """
    grid = (len(frames), len(places))
    frame = frames.to(torch.float64)[:, None, None].expand(*grid, 1)
    positions = torch.cat([frame, places.to(torch.float64).expand(*grid, 2)], dim=-1)
    return rotation(positions, head_dim, theta, dtype)


class FrameRotation(nn.Module):
    """Makes the rotary tables of frames whose tokens are always at the same places.

    Args:
        places: Row and column of each token, (N, 2).
        head_dim: Width of a head K.
        theta: Base of the frequencies.
    """

    places: Tensor

    def __init__(self, places: Tensor, head_dim: int, theta: float) -> None:
        super().__init__()
        self.register_buffer("places", places, persistent=False)
        self.head_dim, self.theta = head_dim, theta

    def forward(self, frames: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the table of `frames`, (F,) int: (2, F, N, K)."""
        return frame_rotation(frames, self.places, self.head_dim, self.theta, dtype)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn the channel pairs of `x` by the angles of `table`; channel i pairs with i + K / 2.

    Args:
        x: Queries or keys, (..., N, H, K).
        table: From `rotation`, (2, ..., N, K).

    Returns:
        As `x`.
    """
    cos, sin = table.unsqueeze(-2).unbind(0)  # (..., N, 1, K)
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
