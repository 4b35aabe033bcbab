"""The encoder's memory in a rollout: keys and values of the last W frames, in a ring.

Axes: B batch, W frames in the window, N tokens in a frame, H heads, K width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from scd_wm.model.blocks import attend_all


@dataclass
class RingCache:
    """Keys and values of every encoder layer; memory does not grow with the rollout.

    Keys are stored rotated, so frame f can overwrite slot f mod W and the order of slots is free.
    Rows count their frames apart: one row can start anew while the others go on.
    """

    keys: Tensor  # (layers, B, W, N, H, K)
    values: Tensor  # (layers, B, W, N, H, K)
    num_frames: list[int]  # frames seen by each row

    @classmethod
    def empty(
        cls,
        num_layers: int,
        batch: int,
        window: int,
        num_tokens: int,
        heads: tuple[int, int],
        like: Tensor,
    ) -> RingCache:
        """Return a cache of no frames; `heads` is (H, K); dtype and device are those of `like`."""
        shape = (num_layers, batch, window, num_tokens, *heads)
        return cls(like.new_zeros(shape), like.new_zeros(shape), [0] * batch)

    @property
    def window(self) -> int:
        """Frames W that are kept."""
        return self.keys.shape[2]

    @property
    def in_step(self) -> bool:
        """Whether all rows have seen the same number of frames."""
        return len(set(self.num_frames)) == 1

    def clone(self) -> RingCache:
        """Return a copy that shares nothing."""
        return RingCache(self.keys.clone(), self.values.clone(), list(self.num_frames))

    def reset_rows(self, rows: list[int]) -> None:
        """Forget the frames of `rows`; other rows do not change."""
        for row in rows:
            self.num_frames[row] = 0

    def advance(self) -> None:
        """Count the frame just written by all layers."""
        self.num_frames = [count + 1 for count in self.num_frames]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new frame's keys and values of `layer` and attend to all frames kept.

        Args:
            layer: Encoder layer.
            q: Rotated queries of the new frame, (B, N, H, K).
            k: Its rotated keys, (B, N, H, K).
            v: Its values, (B, N, H, K).

        Returns:
            (B, N, H, K).
        """
        keys, values = self.keys[layer], self.values[layer]
        if self.in_step:
            count = self.num_frames[0]
            keys[:, count % self.window] = k
            values[:, count % self.window] = v
            kept, mask = slice(0, min(count + 1, self.window)), None
        else:
            rows = torch.arange(len(self.num_frames), device=q.device)
            counts = torch.tensor(self.num_frames, device=q.device)
            keys[rows, counts % self.window] = k
            values[rows, counts % self.window] = v
            kept, mask = slice(0, self.window), self._mask(counts)
        flat = [rearrange(x[:, kept], "b f n h k -> b (f n) h k") for x in (keys, values)]
        return attend_all(q, flat[0], flat[1], mask)

    def _mask(self, counts: Tensor) -> Tensor:
        """Return which keys hold a frame, (B, 1, 1, W N) bool."""
        slots = torch.arange(self.window, device=counts.device)
        held = slots <= counts[:, None]  # (B, W); all, once a row has seen W frames
        return held.repeat_interleave(self.keys.shape[3], dim=1)[:, None, None, :]
