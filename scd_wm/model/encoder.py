"""The causal encoder: reads observations and actions, once per frame.

Axes: B batch, T frames, N tokens in a frame, D width.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scd_wm.model.attention import attend_banded
from scd_wm.model.blocks import ActionEmbedding, Blocks, FinalNorm, NoiseLevelEmbedding
from scd_wm.model.cache import RingCache
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.layout import FrameLayout
from scd_wm.model.rope import FrameRotation
from scd_wm.model.tokenizer import FrameEmbedding


class CausalEncoder(nn.Module):
    """c_t = Encoder(o_<=t, a_<=t): full attention inside a frame, the last W frames across.

    Two ways to run it give the same result: `forward` on a whole clip, `step` frame by frame with a
    cache.
    """

    def __init__(self, layout: FrameLayout, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = FrameEmbedding(layout, config.dim)
        self.action = ActionEmbedding(layout.spec.action.dim, config.dim, config.action_layers)
        self.noise_level = NoiseLevelEmbedding(config.dim)
        self.blocks = Blocks(config, config.encoder_layers)
        self.final = FinalNorm(config.dim)
        head_dim = config.dim // config.num_heads
        self.rotation = FrameRotation(layout.positions(), head_dim, config.rope_theta)

    def empty_cache(self, batch: int) -> RingCache:
        """Return a cache for `batch` rows that have seen no frame."""
        c = self.config
        return RingCache.empty(c, c.encoder_layers, batch, len(self.embed.place), self.embed.place)

    def forward(
        self,
        packed: Tensor,
        valid: Tensor,
        action: Tensor,
        action_valid: Tensor,
        interface_noise: Tensor | None = None,
    ) -> Tensor:
        """Encode every frame of a clip in one pass.

        Args:
            packed: Frames, (B, T, M).
            valid: Which tokens hold data, (B, T, N) bool.
            action: Normalised action taken at each frame, (B, T, A).
            action_valid: (B, T) bool.
            interface_noise: Added to the normed context before scale and shift, (B, T, N, D).

        Returns:
            Contexts c, (B, T, N, D).
        """
        frames = torch.arange(packed.shape[1], device=packed.device)
        table = self.rotation(frames, packed.dtype)  # (2, T, N, K)
        attend = partial(attend_banded, window=self.config.window)
        condition = self._condition(action, action_valid)
        x = self.embed(packed, valid)
        for block in self.blocks:
            x = block(x, block.modulation(condition), table, attend)
        x = self.final.norm(x)
        if interface_noise is not None:
            x = x + interface_noise
        return self.final.scale_shift(x, self.final.modulation(condition))

    def step(
        self, packed: Tensor, valid: Tensor, action: Tensor, action_valid: Tensor, cache: RingCache
    ) -> Tensor:
        """Encode one more frame and keep its keys and values in `cache`, which changes.

        Args:
            packed: The frame, (B, M).
            valid: (B, N) bool.
            action: Normalised action taken at it, (B, A).
            action_valid: (B,) bool.
            cache: Of the frames before.

        Returns:
            Context c, (B, N, D).
        """
        table = self.rotation(cache.next_frames(), packed.dtype)  # (2, B or 1, N, K)
        condition = self._condition(action, action_valid)
        x = self.embed(packed, valid)
        for layer, block in enumerate(self.blocks):
            x = block(x, block.modulation(condition), table, partial(cache.attend, layer))
        cache.advance()
        return self.final(x, self.final.modulation(condition))

    def _condition(self, action: Tensor, valid: Tensor) -> Tensor:
        """Return what modulates all tokens of a frame, (..., 1, D)."""
        # The frames are clean: the noise level is 0, as the released code's fixed tag.
        clean = self.noise_level(action.new_zeros(()))
        return F.silu(clean + self.action(action, valid)).unsqueeze(-2)
