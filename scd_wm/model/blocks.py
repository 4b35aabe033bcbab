"""Building blocks of the encoder and the decoder: the DiT block and its parts.

Axes: B batch, T frames, N tokens, D width, H heads, K width of a head (D = H K). Leading axes are
written `...`: the encoder has (B, T), the decoder has frames only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from scd_wm.model.config import WorldModelConfig
from scd_wm.model.rope import rotate

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes rotated queries and keys, and values, each (..., N, H, K); returns the mix, same shape."""


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return `x`, (..., N, D), scaled and shifted by (..., 1 or N, D)."""
    return torch.addcmul(shift, x, 1 + scale)


class Attention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys; who sees whom is up to the caller.

    Args:
        dim: Width D.
        num_heads: Heads H; must divide `dim`.

    Raises:
        ValueError: If `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim} and num_heads={num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.query_norm = nn.RMSNorm(dim // num_heads)
        self.key_norm = nn.RMSNorm(dim // num_heads)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, table: Tensor, attend: Attend) -> Tensor:
        """Mix tokens.

        Args:
            x: Tokens, (..., N, D).
            table: Rotary angles of the tokens, (2, ..., N, K).
            attend: Does the attention on (..., N, H, K).

        Returns:
            The update, (..., N, D).
        """
        q, k, v = rearrange(self.qkv(x), "... (s h k) -> s ... h k", s=3, h=self.num_heads)
        q, k = rotate(self.query_norm(q), table), rotate(self.key_norm(k), table)
        return self.out(attend(q, k, v).flatten(-2))


class Block(nn.Module):
    """DiT block with adaLN-Zero (Peebles and Xie 2023, arXiv:2212.09748).

    The modulation is an input, from `modulation` of the condition: it is the same for all tokens of
    a frame, and a sampler can make those of its whole schedule at once.

    Args:
        dim: Width D.
        num_heads: Heads H.
        mlp_ratio: Hidden width of the MLP over D.
        open_gates: Let attention and MLP through from the start; otherwise the block starts as the
            identity.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int, open_gates: bool) -> None:
        super().__init__()
        self.attention = Attention(dim, num_heads)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(mlp_ratio * dim, dim),
        )
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(dim, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        if open_gates:
            _, _, gate_a, _, _, gate_m = self.modulation.bias.data.chunk(6)
            gate_a.fill_(1.0)
            gate_m.fill_(1.0)

    def forward(self, x: Tensor, modulation: Tensor, table: Tensor, attend: Attend) -> Tensor:
        """Return the tokens after attention and MLP, (..., N, D).

        Args:
            x: Tokens, (..., N, D).
            modulation: Shifts, scales and gates, (..., 1 or N, 6 D).
            table: Rotary angles, (2, ..., N, K).
            attend: Does the attention.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, -1)
        update = self.attention(modulate(self.norm(x), shift_a, scale_a), table, attend)
        x = torch.addcmul(x, gate_a, update)
        return torch.addcmul(x, gate_m, self.mlp(modulate(self.norm(x), shift_m, scale_m)))


class Blocks(nn.ModuleList):
    """DiT blocks, one after the other.

    Args:
        config: Sizes.
        num_layers: How many.
    """

    def __init__(self, config: WorldModelConfig, num_layers: int) -> None:
        sizes = (config.dim, config.num_heads, config.mlp_ratio, config.open_gates)
        super().__init__(Block(*sizes) for _ in range(num_layers))

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        return cast("Iterator[Block]", super().__iter__())


class FinalNorm(nn.Module):
    """LayerNorm without affine, then scale and shift by the condition.

    `norm` and `scale_shift` are apart because interface noise goes between them, where the
    variance is one.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(dim, 2 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def scale_shift(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Return normed tokens `x`, (..., N, D), modulated by (..., 1 or N, 2 D)."""
        shift, scale = modulation.chunk(2, dim=-1)
        return modulate(x, shift, scale)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Return tokens normed and modulated, (..., N, D)."""
        return self.scale_shift(self.norm(x), modulation)


class NoiseLevelEmbedding(nn.Module):
    """Sinusoidal features of a noise level in [0, 1], then a small MLP, (...) to (..., D)."""

    frequencies: Tensor

    def __init__(self, dim: int, num_features: int = 256) -> None:
        super().__init__()
        # Levels are scaled to 0..1000, the range these frequencies were made for.
        exponent = torch.arange(num_features // 2, dtype=torch.float64) / (num_features // 2)
        frequencies = 1000.0 * torch.exp(-math.log(10_000.0) * exponent)
        self.register_buffer("frequencies", frequencies, persistent=False)
        first = nn.Linear(num_features, dim)
        self.mlp = nn.Sequential(first, nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, noise_level: Tensor) -> Tensor:
        """Return the embedding of each level."""
        angle = noise_level[..., None].double() * self.frequencies.double()
        features = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


class ActionEmbedding(nn.Module):
    """Normalised action, (..., A), to (..., D), with a learned vector where there is no action.

    One layer is a table of embeddings for one-hot actions; two suit continuous ones.
    """

    def __init__(self, action_dim: int, dim: int, num_layers: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(action_dim, dim)]
        for _ in range(num_layers - 1):
            layers += [nn.SiLU(), nn.Linear(dim, dim)]
        self.mlp = nn.Sequential(*layers)
        self.null = nn.Parameter(torch.zeros(dim))

    def forward(self, action: Tensor, valid: Tensor) -> Tensor:
        """Return embeddings; `valid`, (...) bool, tells where there is an action."""
        return torch.where(valid[..., None], self.mlp(action), self.null)
