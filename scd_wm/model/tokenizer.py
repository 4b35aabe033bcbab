"""Between packed frames and tokens: patches and vectors in, predictions for them out.

Axes: N tokens of a frame, M values of a packed frame, D width; leading axes are free.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from scd_wm.model.layout import FrameLayout


class FrameEmbedding(nn.Module):
    """Turns packed frames into tokens, with a learned type and place for each token.

    A token without data becomes a learned vector, so a frame of nothing but those is the start
    token.
    """

    def __init__(self, layout: FrameLayout, dim: int) -> None:
        super().__init__()
        self.segments = layout.segments
        self.projections = nn.ModuleList(nn.Linear(s.token_len, dim) for s in layout.segments)
        self.place = nn.Parameter(torch.randn(layout.num_tokens, dim) * 0.02)
        self.missing = nn.Parameter(torch.zeros(layout.num_tokens, dim))

    def forward(self, packed: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return tokens.

        Args:
            packed: (..., M).
            valid: Which tokens hold data, (..., N) bool; None means all.

        Returns:
            (..., N, D).
        """
        parts = []
        for segment, projection in zip(self.segments, self.projections, strict=True):
            values = packed[..., segment.values]
            tokens = rearrange(values, "... (n v) -> ... n v", v=segment.token_len)
            parts.append(projection(tokens))
        tokens = torch.cat(parts, dim=-2)
        if valid is not None:
            tokens = torch.where(valid[..., None], tokens, self.missing)
        return tokens + self.place


class FrameHead(nn.Module):
    """Turns tokens, (..., N, D), into packed values, (..., M); starts at zero."""

    def __init__(self, layout: FrameLayout, dim: int) -> None:
        super().__init__()
        self.segments = layout.segments
        self.projections = nn.ModuleList(nn.Linear(dim, s.token_len) for s in layout.segments)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the prediction for every value of the frame."""
        parts = [
            rearrange(projection(tokens[..., segment.tokens, :]), "... n v -> ... (n v)")
            for segment, projection in zip(self.segments, self.projections, strict=True)
        ]
        return torch.cat(parts, dim=-1)
