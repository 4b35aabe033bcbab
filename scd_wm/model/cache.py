"""What a rollout remembers: keys and values of the last W frames, in a ring.

Axes: L layers, B batch, G histories that branches share, N tokens in a frame, S tokens kept, H
heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from scd_wm.model.attention import attend_all, attend_part, merge_parts
from scd_wm.model.blocks import Attend
from scd_wm.model.config import WorldModelConfig

MANY_TOKENS = 2048  # of a row


@dataclass(frozen=True)
class SharedFrames:
    """The frames before a fork: kept once, read by all branches of a row, in order of time."""

    keys: Tensor  # (L, G, S, H, K), the newest frame last
    values: Tensor  # (L, G, S, H, K)
    num_frames: list[int]  # frames that each history had seen at the fork
    branches: int  # of each history; row i of a batch belongs to history i // branches


@dataclass
class RingCache:
    """Keys and values of every layer that sees the past; memory does not grow with the rollout.

    Keys are stored rotated, so a frame can overwrite any slot and the order of slots is free. Rows
    count their frames apart: one row can start anew while the others go on. Behind the slots there
    may be room for tokens that are attended to but not kept: those of a frame being denoised.

    After `fork` the frames so far are shared by all branches of a row, and the ring holds what each
    branch adds.
    """

    keys: Tensor  # (L, B, slots N + scratch, H, K)
    values: Tensor  # (L, B, slots N + scratch, H, K)
    num_frames: list[int]  # frames seen by each row, shared ones included
    window: int  # frames W that are attended to
    num_tokens: int  # N
    num_scratch: int  # tokens of room behind the slots
    shared: SharedFrames | None = None

    @classmethod
    def empty(
        cls,
        config: WorldModelConfig,
        num_layers: int,
        batch: int,
        num_tokens: int,
        like: Tensor,
        num_scratch: int = 0,
    ) -> RingCache:
        """Return a cache of no frames; dtype and device are those of `like`."""
        num_kept = config.window * num_tokens + num_scratch
        heads = (config.num_heads, config.dim // config.num_heads)
        keys = _room(like.detach(), (num_layers, batch, num_kept, *heads))
        counts = [0] * batch
        return cls(keys, keys.clone(), counts, config.window, num_tokens, num_scratch)

    @property
    def batch(self) -> int:
        """Rows B."""
        return len(self.num_frames)

    @property
    def slots(self) -> int:
        """Frames that the ring has room for: W, or fewer in branches that are still short."""
        return (self.keys.shape[2] - self.num_scratch) // self.num_tokens

    @property
    def num_bytes(self) -> int:
        """Memory of all keys and values."""
        tensors = [self.keys, self.values]
        if self.shared is not None:
            tensors += [self.shared.keys, self.shared.values]
        return sum(x.numel() * x.element_size() for x in tensors)

    def own_frames(self) -> list[int]:
        """Return how many frames each row has put into the ring."""
        if self.shared is None:
            return self.num_frames
        n = self.shared.branches
        return [c - self.shared.num_frames[i // n] for i, c in enumerate(self.num_frames)]

    def next_frames(self) -> Tensor:
        """Return the number of the frame that each row reads next, (B,) int; (1,) if all agree."""
        counts = self.num_frames[:1] if _all_equal(self.num_frames) else self.num_frames
        return torch.tensor(counts, device=self.keys.device)

    def advance(self) -> None:
        """Count the frame just written by all layers."""
        self.num_frames = [count + 1 for count in self.num_frames]

    # Attention.

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new frame's keys and values of `layer` and attend to all frames kept.

        Args:
            layer: Which.
            q: Rotated queries of the new frame, (B, N, H, K).
            k: Its rotated keys, (B, N, H, K).
            v: Its values, (B, N, H, K).

        Returns:
            (B, N, H, K).
        """
        own = self._store(layer, k, v)
        return self._mix(layer, q, own, self.num_tokens * min(max(own), self.slots))

    def attend_passing(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to all frames kept and to passing tokens, which are not; axes as in `attend`."""
        own = self.own_frames()
        return self._mix(layer, q, own, self._pass(layer, own, k, v))

    def passing(self, num_tokens: int) -> tuple[Attend, ...]:
        """Return `attend_passing` of each layer until the next frame is kept.

        All that is the same for the steps of a frame is done here, once.

        Args:
            num_tokens: Passing tokens of a row.
        """
        layers = range(len(self.keys))
        own = self.own_frames()
        if self.shared is not None and self.window > own[0]:
            return tuple(partial(self.attend_passing, layer) for layer in layers)
        end = self._passing_place(own) + num_tokens
        mask = None if _all_equal(own) else self._held(own, end)
        parts = zip(self.keys[:, :, :end], self.values[:, :, :end], strict=True)
        return tuple(partial(attend_behind, keys, values, mask) for keys, values in parts)

    def attend_both(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Do `attend` for the first N tokens and then `attend_passing` for the rest."""
        n = self.num_tokens
        own = self._store(layer, k[:, :n], v[:, :n])
        kept = n * min(max(own), self.slots)
        end = self._pass(layer, own, k[:, n:], v[:, n:])
        parts = [self._mix(layer, q[:, :n], own, kept), self._mix(layer, q[:, n:], own, end)]
        return torch.cat(parts, dim=1)

    def _store(self, layer: int, k: Tensor, v: Tensor) -> list[int]:
        """Put a frame into its slot; return each row's frames in the ring, this one included."""
        own = self.own_frames()
        if own[0] >= self.slots < self.window:
            self._grow()
        for ring, new in ((self.keys[layer], k), (self.values[layer], v)):
            kept = ring[:, : self.slots * self.num_tokens]
            slots = rearrange(kept, "b (f n) h k -> b f n h k", n=self.num_tokens)  # a view
            if _all_equal(own):
                slots[:, own[0] % self.slots] = new
            else:
                rows = torch.arange(self.batch, device=ring.device)
                slots[rows, torch.tensor(own, device=ring.device) % self.slots] = new
        return [count + 1 for count in own]

    def _pass(self, layer: int, own: list[int], k: Tensor, v: Tensor) -> int:
        """Put passing tokens behind the frames kept; return where they end."""
        first = self._passing_place(own)
        end = first + k.shape[1]
        self.keys[layer, :, first:end] = k
        self.values[layer, :, first:end] = v
        return end

    def _passing_place(self, own: list[int]) -> int:
        """Return where passing tokens begin: behind the frames kept."""
        return self.num_tokens * (min(own[0], self.slots) if _all_equal(own) else self.slots)

    def _mix(self, layer: int, q: Tensor, own: list[int], end: int) -> Tensor:
        """Attend to the first `end` tokens of the ring and to the shared frames still in sight."""
        if not _all_equal(own):
            end = max(end, self.slots * self.num_tokens)
        keys, values = self.keys[layer, :, :end], self.values[layer, :, :end]
        mask = None if _all_equal(own) else self._held(own, end)
        in_sight = self.window - own[0]
        if self.shared is None or in_sight <= 0 or self.shared.keys.shape[2] == 0:
            return attend_all(q, keys, values, mask)
        return merge_parts(attend_part(q, keys, values), self._mix_shared(layer, q, in_sight))

    def _held(self, own: list[int], end: int) -> Tensor:
        """Return which of the first `end` tokens hold something, (B, 1, 1, end) bool."""
        token = torch.arange(end, device=self.keys.device)
        kept = torch.tensor(own, device=token.device)[:, None] * self.num_tokens
        is_passing = token >= self.slots * self.num_tokens
        return ((token < kept) | is_passing)[:, None, None, :]

    def _mix_shared(self, layer: int, q: Tensor, in_sight: int) -> tuple[Tensor, Tensor]:
        """Attend to the newest shared frames: the queries of all branches of a row at once."""
        shared = self.shared
        assert shared is not None
        length = min(in_sight * self.num_tokens, shared.keys.shape[2])
        part = slice(shared.keys.shape[2] - length, None)
        keys, values = shared.keys[layer, :, part], shared.values[layer, :, part]
        joint = rearrange(q, "(g b) n h k -> g (b n) h k", b=shared.branches)
        missing = [length - count * self.num_tokens for count in shared.num_frames]
        if max(missing) <= 0:
            mix, log_sum = attend_part(joint, keys, values)
        else:
            absent = torch.tensor(missing, device=q.device)[:, None]
            held = torch.arange(length, device=q.device) >= absent  # (G, S)
            held[:, -1] = True  # a row needs a key; one without any frame is taken out below
            mix, log_sum = attend_part(joint, keys, values, held[:, None, None, :])
            log_sum = log_sum.masked_fill((absent >= length)[..., None, None], -torch.inf)
        apart = "g (b n) h k -> (g b) n h k"
        return (
            rearrange(mix, apart, b=shared.branches),
            rearrange(log_sum, apart, b=shared.branches),
        )

    def _grow(self) -> None:
        """Make room for twice as many frames, at most W."""
        more = (min(2 * self.slots, self.window) - self.slots) * self.num_tokens
        self.keys, self.values = (
            torch.cat([x, x.new_zeros(*x.shape[:2], more, *x.shape[3:])], dim=2)
            for x in (self.keys, self.values)
        )

    # Rows.

    def clone(self) -> RingCache:
        """Return a copy that shares nothing that changes."""
        return replace(
            self,
            keys=self.keys.clone(),
            values=self.values.clone(),
            num_frames=list(self.num_frames),
        )

    def fork(self, branches: int, horizon: int | None = None) -> RingCache:
        """Return a cache in which each row goes on as `branches` rows, one after the other.

        What was seen so far is kept once for all of them; branches hold only what they add.

        Args:
            branches: How many of each row.
            horizon: Frames that a branch has room for at first; None for all W. It grows.
        """
        joined = self.joined()
        slots = self.window if horizon is None else min(max(horizon, 1), self.window)
        num_kept = slots * self.num_tokens + self.num_scratch
        shape = (joined.keys.shape[0], self.batch * branches, num_kept, *joined.keys.shape[3:])
        keys = _room(joined.keys, shape)
        shared = joined._in_order(branches)
        counts = [count for count in joined.num_frames for _ in range(branches)]
        return replace(
            joined, keys=keys, values=torch.zeros_like(keys), num_frames=counts, shared=shared
        )

    def select(self, index: Sequence[int]) -> RingCache:
        """Return a cache of the rows at `index`, in that order; rows may repeat.

        Branches go on sharing where each shared history keeps equally many, side by side.
        """
        rows = torch.tensor(index, device=self.keys.device)
        shared = self.shared
        if shared is not None:
            groups = [i // shared.branches for i in index]
            branches = len(index) // len(shared.num_frames)
            if groups != [g for g in range(len(shared.num_frames)) for _ in range(branches)]:
                return self.joined().select(index)
            shared = replace(shared, branches=branches)
        return replace(
            self,
            keys=self.keys[:, rows],
            values=self.values[:, rows],
            num_frames=[self.num_frames[i] for i in index],
            shared=shared,
        )

    def put(self, index: Sequence[int], other: RingCache) -> RingCache:
        """Return a cache whose rows at `index` are those of `other`; no other row changes."""
        mine, other = self.joined(), other.joined()
        rows = torch.tensor(index, device=self.keys.device)
        counts = list(mine.num_frames)
        for i, count in zip(index, other.num_frames, strict=True):
            counts[i] = count
        return replace(
            mine,
            keys=mine.keys.index_copy(1, rows, other.keys),
            values=mine.values.index_copy(1, rows, other.values),
            num_frames=counts,
        )

    def joined(self) -> RingCache:
        """Return a cache of the same frames that shares none: each row has all of its own."""
        if self.shared is None:
            return self
        shape = list(self.keys.shape)
        shape[2] = self.window * self.num_tokens + self.num_scratch
        keys, values = _room(self.keys, shape), _room(self.values, shape)
        whole = replace(self, keys=keys, values=values, shared=None)
        counts, own = torch.tensor(self.num_frames), torch.tensor(self.own_frames())
        first = (counts - own)[:, None]  # (B, 1) the first frame that the ring holds
        frame = counts[:, None] - torch.arange(1, self.window + 1)  # (B, W) the newest first
        rows = torch.arange(self.batch)[:, None].expand_as(frame)
        length = self.shared.keys.shape[2] // self.num_tokens
        is_own, is_shared = frame >= first, (frame >= 0) & (frame < first)
        for to, ring, shared in (
            (whole.keys, self.keys, self.shared.keys),
            (whole.values, self.values, self.shared.values),
        ):
            to, ring, shared = (self._by_frame(x) for x in (to, ring, shared))
            self._copy(to, ring, rows, rows, frame, (frame - first) % self.slots, is_own)
            histories, places = rows // self.shared.branches, length - first + frame
            self._copy(to, shared, rows, histories, frame, places, is_shared)
        return whole

    def _by_frame(self, x: Tensor) -> Tensor:
        """Return keys or values with frames apart, (L, B, frames, N, H, K), a view."""
        length = x.shape[2] // self.num_tokens * self.num_tokens
        return rearrange(x[:, :, :length], "l b (f n) h k -> l b f n h k", n=self.num_tokens)

    def _copy(
        self,
        to: Tensor,
        source: Tensor,
        rows: Tensor,
        source_rows: Tensor,
        frames: Tensor,
        places: Tensor,
        chosen: Tensor,
    ) -> None:
        """Copy chosen frames to their slots; the last five are (B, W)."""
        index = (x[chosen].to(to.device) for x in (rows, frames % self.window, source_rows, places))
        row, slot, source_row, place = index
        to[:, row, slot] = source[:, source_row, place]

    def _in_order(self, branches: int) -> SharedFrames:
        """Return the frames of the ring in order of time, to be shared."""
        length = min(self.window, max(self.num_frames))
        back = torch.arange(length, 0, -1, device=self.keys.device)  # the newest frame is 1 back
        counts = torch.tensor(self.num_frames, device=self.keys.device)
        slot = (counts[:, None] - back).remainder(self.window)  # (B, length); absent ones wrap
        token = slot[..., None] * self.num_tokens + torch.arange(self.num_tokens).to(slot)
        rows = torch.arange(self.batch, device=self.keys.device)[:, None]
        index = (slice(None), rows, token.flatten(1))
        return SharedFrames(self.keys[index], self.values[index], list(self.num_frames), branches)


def _room(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return zeros, (L, B, S, H, K); if they are many with a head's tokens side by side in memory.

    Attention reads a head at a time; over thousands of tokens it is faster by a third that way, of
    few tokens writing and reading cost more.
    """
    layers, batch, tokens, heads, width = shape
    if tokens < MANY_TOKENS:
        return like.new_zeros(*shape)
    return like.new_zeros(layers, batch, heads, tokens, width).transpose(2, 3)


def attend_behind(
    keys: Tensor, values: Tensor, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Put keys and values at the end of those kept and attend to all.

    Args:
        keys: Of a layer, (B, S + N, H, K); the last N change.
        values: Of a layer, (B, S + N, H, K); the last N change.
        mask: Which may be seen, (B, 1, 1, S + N) bool; None means all.
        q: Queries of the new tokens, (B, N, H, K).
        k: Their keys, (B, N, H, K).
        v: Their values, (B, N, H, K).
    """
    keys[:, -k.shape[1] :] = k
    values[:, -v.shape[1] :] = v
    return attend_all(q, keys, values, mask)


def _all_equal(counts: list[int]) -> bool:
    return counts.count(counts[0]) == len(counts)
