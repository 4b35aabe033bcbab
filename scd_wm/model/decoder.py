"""The diffusion decoder: renders one frame from its context; sees no other frame.

Axes: B frames (batch, time and noise draws flattened), N tokens in a frame, M values of a packed
frame, D width, H heads, K width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from scd_wm.model.attention import attend_all
from scd_wm.model.blocks import Attend
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.denoiser import FrameDenoiser
from scd_wm.model.layout import FrameLayout
from scd_wm.model.rope import rotate, rotation


class PrefixReader(nn.Module):
    """Projects the context to keys and values for one decoder layer, once per frame.

    c gets its own norm and weights; it is not updated and not modulated by the noise level.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.key_norm = nn.RMSNorm(dim // num_heads)

    def forward(self, context: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotated keys and values, (B, N, H, K) each, of a context (B, N, D)."""
        k, v = rearrange(
            self.kv(self.norm(context)), "b n (s h k) -> s b n h k", s=2, h=self.num_heads
        )
        return rotate(self.key_norm(k), table), v


@dataclass(frozen=True)
class DecoderContext:
    """What the sampler's steps reuse: the action's embedding and the context as layers read it."""

    action: Tensor  # (B, D)
    last: Tensor  # (B, M) the frame before, packed
    tokens: Tensor  # (B, N, D): joined to the noisy tokens (token_concat) or added (prefix)
    prefix: list[tuple[Tensor, Tensor]]  # keys and values per layer; empty in token_concat
    table: Tensor  # (2, ..., K) rotary angles of the sequence

    def attend(self, layer: int) -> Attend:
        """Return how tokens attend in a layer: to each other, and to the context's prefix."""
        return partial(attend_prefix, self.prefix[layer]) if self.prefix else attend_all

    def join(self, noisy: Tensor) -> Tensor:
        """Return [context; noisy] (token_concat) or their sum (prefix)."""
        if self.prefix:
            return noisy + self.tokens
        return torch.cat([self.tokens, noisy], dim=1)


class DiffusionDecoder(FrameDenoiser):
    """The denoiser of SCD; it reads one context, made once per frame.

    Context modes: `token_concat` (the paper's) runs [context; noisy] through every layer; `prefix`
    lets the noisy tokens attend to keys and values of the context made once per frame, and adds a
    projection of the context to the noisy token of the same place.
    """

    def __init__(self, layout: FrameLayout, config: WorldModelConfig) -> None:
        super().__init__(layout, config, config.decoder_layers)
        is_prefix = config.context_mode == "prefix"
        self.readers = nn.ModuleList(
            PrefixReader(config.dim, config.num_heads) for _ in self.blocks if is_prefix
        )
        self.join = nn.Linear(config.dim, config.dim) if is_prefix else None
        place = self._place_table(layout)
        self.register_buffer("table", self._sequence_table(place), persistent=False)
        self.table: Tensor  # (2, ..., K) rotary angles of the sequence, its first N those of places

    def context(
        self, context: Tensor, last: Tensor, action: Tensor, action_valid: Tensor
    ) -> DecoderContext:
        """Prepare what is the same at every noise level.

        Args:
            context: c, (B, N, D).
            last: The frame that c was read from, packed, zero where it has no data, (B, M).
            action: Normalised action of the frame, (B, A).
            action_valid: (B,) bool.
        """
        embedded = self.action(action, action_valid)
        if self.join is None:
            return DecoderContext(embedded, last, context, [], self.table)
        place = self.table[:, : self.num_tokens]
        prefix = [reader(context, place) for reader in self.readers]
        return DecoderContext(embedded, last, self.join(context), prefix, self.table)

    def _place_table(self, layout: FrameLayout) -> Tensor:
        """Return the table of the tokens of a frame, (2, N, K); all are of one time."""
        positions = torch.cat([torch.zeros(layout.num_tokens, 1), layout.positions()], dim=1)
        c, dtype = self.config, torch.get_default_dtype()
        return rotation(positions, c.dim // c.num_heads, c.rope_theta, dtype)

    def _sequence_table(self, place: Tensor) -> Tensor:
        """Return the table of the whole sequence: both tokens of a place have its angles."""
        query = place.new_zeros(2, len(self.query), place.shape[-1])
        query[0] = 1.0  # the outcome query has no place: angle 0
        parts = [place, query] if self.join is not None else [place, place, query]
        return torch.cat(parts, dim=1)


def attend_prefix(prefix: tuple[Tensor, Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend to the context's keys and values and to the own ones; all (B, N, H, K)."""
    return attend_all(q, torch.cat([prefix[0], k], dim=1), torch.cat([prefix[1], v], dim=1))
