"""What every network that renders a frame has: noisy tokens in, blocks, a prediction out.

Axes: B frames (batch, time and noise draws flattened), S noise levels, N tokens in a frame,
M values of a packed frame, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scd_wm.model.blocks import ActionEmbedding, Attend, Blocks, FinalNorm, NoiseLevelEmbedding
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.layout import FrameLayout
from scd_wm.model.refiner import PixelRefiner
from scd_wm.model.tokenizer import FrameEmbedding, FrameHead

# Modulations of a schedule are made this many rows at a time: enough rows to use the machine, few
# enough that a large batch does not hold them for all levels.
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Modulation:
    """Shifts, scales and gates of one evaluation, which depend on noise level and action only."""

    blocks: tuple[Tensor, ...]  # per layer, (B, 1, 6 D)
    final: Tensor  # (B, 1, 2 D)

    def split(self, num_levels: int) -> list[Modulation]:
        """Return those of each level from the joint ones of all, whose rows are (S B)."""
        blocks = zip(*(x.chunk(num_levels) for x in self.blocks), strict=True)
        finals = self.final.chunk(num_levels)
        return [Modulation(b, f) for b, f in zip(blocks, finals, strict=True)]


class DenoiserContext(Protocol):
    """What a denoiser knows of a frame's past: the same at every noise level."""

    @property
    def action(self) -> Tensor:
        """Embedding of the action that leads to the frame, (B, D)."""

    @property
    def last(self) -> Tensor:
        """The frame before, packed, zero where it has no data, (B, M)."""

    @property
    def table(self) -> Tensor:
        """Rotary angles of the sequence of the blocks, (2, ..., N, K)."""

    def attend(self, layer: int) -> Attend:
        """Return how tokens attend in a layer."""

    def join(self, noisy: Tensor) -> Tensor:
        """Return the first tokens of the sequence of the blocks from noisy ones, (B, N, D)."""


class FrameTokens(nn.Module):
    """Makes tokens of a noisy frame, and of its noise level and action what modulates them."""

    def __init__(self, layout: FrameLayout, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.num_tokens = layout.num_tokens
        self.embed = FrameEmbedding(layout, config.dim)
        self.action = ActionEmbedding(layout.spec.action.dim, config.dim, config.action_layers)
        self.noise_level = NoiseLevelEmbedding(config.dim)
        num_queries = min(len(layout.spec.outcomes), 1)
        self.query = nn.Parameter(torch.randn(num_queries, config.dim) * 0.02)

    def condition(self, noise_level: Tensor, action: Tensor) -> Tensor:
        """Return what modulates all tokens of a frame, (..., 1, D).

        Args:
            noise_level: s in [0, 1], (...).
            action: Embedded, (..., D).
        """
        return F.silu(self.noise_level(noise_level) + action).unsqueeze(-2)

    def with_query(self, tokens: Tensor) -> Tensor:
        """Return tokens, (B, ..., D), and behind them the outcome query, if there is one."""
        return torch.cat([tokens, self.query.expand(len(tokens), -1, -1)], dim=1)


class FrameDenoiser(FrameTokens):
    """Embeds a noisy frame, runs DiT blocks over it and predicts what the frame is.

    The outcome is read at a query token of its own; large patches get detail from a convolutional
    head.
    """

    def __init__(self, layout: FrameLayout, config: WorldModelConfig, num_layers: int) -> None:
        super().__init__(layout, config)
        num_outcomes = len(layout.spec.outcomes)
        self.outcome = nn.Linear(config.dim, num_outcomes) if num_outcomes else None
        self.blocks = Blocks(config, num_layers)
        self.final = FinalNorm(config.dim)
        self.head = FrameHead(layout, config.dim)
        self.refiners = nn.ModuleList(
            PixelRefiner(layout, s, config.dim, config.refine_channels)
            for s in layout.segments
            if s.is_image and config.refine_channels
        )

    def modulate(self, condition: Tensor) -> Modulation:
        """Return the modulations of all blocks for a condition, (..., D)."""
        blocks = tuple(block.modulation(condition) for block in self.blocks)
        return Modulation(blocks, self.final.modulation(condition))

    def schedule(self, levels: Sequence[float], action: Tensor) -> Iterator[Modulation]:
        """Yield the modulations at each of a sampler's levels, made for many at once.

        At batch 1 this reads the weights of all modulations, half as many as an MLP's, once and not
        at every step.

        Args:
            levels: Noise levels.
            action: Embedded, (B, D).
        """
        group = max(1, ROWS_AT_ONCE // len(action))
        for first in range(0, len(levels), group):
            some = action.new_tensor(levels[first : first + group])
            condition = self.condition(some[:, None], action)  # (S, B, 1, D)
            yield from self.modulate(condition.flatten(0, 1)).split(len(some))

    def forward(
        self, noisy: Tensor, modulation: Modulation, context: DenoiserContext
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the network once.

        Args:
            noisy: Packed noisy frame x_s, (B, M).
            modulation: At its noise level and action.
            context: Of the frame.

        Returns:
            Raw prediction, (B, M), and outcome logits, (B, number of outcomes).
        """
        x = self.sequence(noisy, context)
        for layer, block in enumerate(self.blocks):
            x = block(x, modulation.blocks[layer], context.table, context.attend(layer))
        return self.predict(x, noisy, modulation.final, context.last)

    def sequence(self, noisy: Tensor, context: DenoiserContext) -> Tensor:
        """Return what the blocks work on: joined tokens, then the outcome query, (B, ..., D)."""
        return self.with_query(context.join(self.embed(noisy)))

    def predict(
        self, x: Tensor, noisy: Tensor, modulation: Tensor, last: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read raw prediction and outcome logits from the last tokens of `x`, (B, ..., D)."""
        x = self.final(x[:, -(self.num_tokens + len(self.query)) :], modulation)
        prediction = self.head(x[:, : self.num_tokens])
        for refiner in self.refiners:
            prediction[:, refiner.segment.values] += refiner(x, last, noisy)
        if self.outcome is None:
            return prediction, prediction.new_zeros(len(x), 0)
        return prediction, self.outcome(x[:, -1])
