"""The diffusion decoder: renders one frame from its context; sees no other frame.

Axes: B frames (batch, time and noise draws flattened), N tokens in a frame, M values of a packed
frame, D width, H heads, K width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scd_wm.model.blocks import (
    ActionEmbedding,
    Block,
    FinalNorm,
    NoiseLevelEmbedding,
    attend_all,
)
from scd_wm.model.config import SCDConfig
from scd_wm.model.layout import FrameLayout
from scd_wm.model.refiner import PixelRefiner
from scd_wm.model.rope import rotate, rotation
from scd_wm.model.tokenizer import FrameEmbedding, FrameHead


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

    def repeat(self, num_draws: int) -> DecoderContext:
        """Return the context for `num_draws` noise draws of every frame, draw-major."""
        if num_draws == 1:
            return self

        def tile(x: Tensor) -> Tensor:
            return x.repeat(num_draws, *[1] * (x.ndim - 1))

        prefix = [(tile(k), tile(v)) for k, v in self.prefix]
        return DecoderContext(tile(self.action), tile(self.last), tile(self.tokens), prefix)


class DiffusionDecoder(nn.Module):
    """One evaluation maps (noisy frame, noise level, context) to a prediction and outcome logits.

    Context modes: `token_concat` (the paper's) runs [context; noisy] through every layer; `prefix`
    lets the noisy tokens attend to keys and values of the context made once per frame, and adds a
    projection of the context to the noisy token of the same place.
    """

    def __init__(self, layout: FrameLayout, config: SCDConfig) -> None:
        super().__init__()
        self.config = config
        self.num_tokens = layout.num_tokens
        self.embed = FrameEmbedding(layout, config.dim)
        self.action = ActionEmbedding(layout.spec.action.dim, config.dim, config.action_layers)
        self.noise_level = NoiseLevelEmbedding(config.dim)
        num_outcomes = len(layout.spec.outcomes)
        self.query = nn.Parameter(torch.randn(min(num_outcomes, 1), config.dim) * 0.02)
        self.outcome = nn.Linear(config.dim, num_outcomes) if num_outcomes else None
        self.blocks = nn.ModuleList(
            Block(config.dim, config.num_heads, config.mlp_ratio, config.open_gates)
            for _ in range(config.decoder_layers)
        )
        is_prefix = config.context_mode == "prefix"
        self.readers = nn.ModuleList(
            PrefixReader(config.dim, config.num_heads) for _ in self.blocks if is_prefix
        )
        self.join = nn.Linear(config.dim, config.dim) if is_prefix else None
        self.final = FinalNorm(config.dim)
        self.head = FrameHead(layout, config.dim)
        self.refiners = nn.ModuleList(
            PixelRefiner(layout, s, config.dim, config.refine_channels)
            for s in layout.segments
            if s.is_image and config.refine_channels
        )
        positions = torch.cat([torch.zeros(layout.num_tokens, 1), layout.positions()], dim=1)
        self.register_buffer("positions", positions, persistent=False)
        self.positions: Tensor

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
            return DecoderContext(embedded, last, context, [])
        table = self._rotation(context.dtype)
        prefix = [reader(context, table) for reader in self.readers]
        return DecoderContext(embedded, last, self.join(context), prefix)

    def forward(
        self, noisy: Tensor, noise_level: Tensor, context: DecoderContext
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the network once.

        Args:
            noisy: Packed noisy frame x_s, (B, M).
            noise_level: s in [0, 1], (B,).
            context: From `context`.

        Returns:
            Raw prediction, (B, M), and outcome logits, (B, number of outcomes).
        """
        condition = F.silu(self.noise_level(noise_level) + context.action)
        x = self._run_blocks(self._join(self.embed(noisy), context), condition, context)
        x = self.final(x[:, -(self.num_tokens + len(self.query)) :], condition)
        prediction = self.head(x[:, : self.num_tokens])
        for refiner in self.refiners:
            detail = refiner(x, context.last, noisy)
            prediction[:, refiner.segment.values] += detail
        if self.outcome is None:
            return prediction, prediction.new_zeros(len(x), 0)
        return prediction, self.outcome(x[:, -1])

    def _join(self, noisy: Tensor, context: DecoderContext) -> Tensor:
        """Return the sequence of the blocks: [context;] noisy tokens, (B, N, D); outcome query."""
        query = self.query.expand(len(noisy), -1, -1)
        if self.join is None:
            return torch.cat([context.tokens, noisy, query], dim=1)
        return torch.cat([noisy + context.tokens, query], dim=1)

    def _run_blocks(self, x: Tensor, condition: Tensor, context: DecoderContext) -> Tensor:
        table = self._sequence_rotation(x.dtype)
        for layer, block in enumerate(self.blocks):
            attend = partial(attend_prefix, context.prefix[layer]) if context.prefix else attend_all
            x = block(x, condition, table, attend)
        return x

    def _sequence_rotation(self, dtype: torch.dtype) -> Tensor:
        """Return the table for `_join`'s sequence: both tokens of a place have its angles."""
        table = self._rotation(dtype)
        query = table.new_zeros(2, len(self.query), table.shape[-1])
        query[0] = 1.0  # the outcome query has no place: angle 0
        parts = [table, query] if self.join is not None else [table, table, query]
        return torch.cat(parts, dim=1)

    def _rotation(self, dtype: torch.dtype) -> Tensor:
        c = self.config
        return rotation(self.positions, c.dim // c.num_heads, c.rope_theta, dtype)


def attend_prefix(prefix: tuple[Tensor, Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend to the context's keys and values and to the own ones; all (B, N, H, K)."""
    return attend_all(q, torch.cat([prefix[0], k], dim=1), torch.cat([prefix[1], v], dim=1))
