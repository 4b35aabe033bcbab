"""The rival: a causal diffusion transformer, all of whose layers see the history at every step.

It is what SCD replaces, on the same blocks, tokens, cache, window, loss and sampler, and as fast as
we know how to make it: keys and values of clean frames are cached, and the clean pass over the last
frame rides with the first step of the next, as in FAR (Gu et al. 2025, "Long-Context Autoregressive
Video Modeling with Next-Frame Prediction", arXiv:2503.19325).

Axes: B batch, T frames, N tokens in a frame, M values of a packed frame, D width, H heads, K width
of a head.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from scd_wm.model import attention_flex, flow, noise
from scd_wm.model.attention import attend_all, attend_banded
from scd_wm.model.blocks import Attend, Blocks
from scd_wm.model.cache import RingCache
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.denoiser import DenoiserContext, FrameDenoiser, FrameTokens, Modulation
from scd_wm.model.frames import Base, Frame, NextFrame, Noised, Sequence
from scd_wm.model.layout import FrameLayout
from scd_wm.model.rope import FrameRotation
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec

KeysAndValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ClipContext:
    """Keys and values of the clean frames of clips, and who of the next frames sees which."""

    action: Tensor  # (B T, D)
    last: Tensor  # (B T, M)
    table: Tensor  # (2, B T, N + 1, K)
    window: int
    kept: list[KeysAndValues] = field(default_factory=list)  # per layer, (B, T, N, H, K)
    is_one_copy: bool = False  # frames after the first are noisy ones, from this very pass

    def join(self, noisy: Tensor) -> Tensor:
        """Return the noisy tokens: the history is seen by attention only."""
        return noisy

    def attend(self, layer: int) -> Attend:
        """Return how noisy frames, (B T, N, H, K), attend in a layer."""
        keys, values = self.kept[layer]
        how = attend_among if self.is_one_copy else attend_history
        return partial(how, keys, values, self.window)


@dataclass(frozen=True)
class StepContext:
    """A rollout's cache as the noisy tokens of one frame see it."""

    action: Tensor  # (B, D)
    last: Tensor  # (B, M)
    table: Tensor  # (2, B or 1, N + 1, K)
    cache: RingCache
    kept: tuple[Attend, ...] = ()  # per layer; made when the frame before has been read

    def join(self, noisy: Tensor) -> Tensor:
        """Return the noisy tokens: the history is seen by attention only."""
        return noisy

    def attend(self, layer: int) -> Attend:
        """Return how noisy tokens, (B, N, H, K), attend in a layer."""
        return self.kept[layer]


class CausalReading(FrameTokens):
    """Blocks that read clean frames (noise level 0), kept as history, and noisy frames after them.

    Whoever has this as a base makes the blocks.
    """

    blocks: Blocks

    def place(self, layout: FrameLayout) -> None:
        """Make the rotations of clean and of noisy frames."""
        c, place = self.config, layout.positions()
        self.rotation = FrameRotation(place, c.dim // c.num_heads, c.rope_theta)
        # The outcome query is of the frame and has no place.
        place = torch.cat([place, place.new_zeros(len(self.query), 2)])
        self.noisy_rotation = FrameRotation(place, c.dim // c.num_heads, c.rope_theta)

    def read_clip(
        self, packed: Tensor, valid: Tensor, action: Tensor, action_valid: Tensor
    ) -> list[KeysAndValues]:
        """Run the clean pass over frames of clips.

        Args:
            packed: (B, T, M).
            valid: (B, T, N) bool.
            action: Normalised action taken at each, (B, T, A).
            action_valid: (B, T) bool.

        Returns:
            Rotated keys and values of each layer, (B, T, N, H, K) each.
        """
        table = self.rotation(torch.arange(packed.shape[1]).to(packed.device), packed.dtype)
        clean = self.condition(action.new_zeros(()), self.action(action, action_valid))
        x = self.embed(packed, valid)
        kept: list[KeysAndValues] = []

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            kept.append((k, v))
            return attend_banded(q, k, v, self.config.window)

        for block in self.blocks:
            x = block(x, block.modulation(clean), table, attend)
        return kept

    def read(self, frame: Frame, action: Tensor, cache: RingCache) -> Tensor:
        """Run the clean pass over one more frame of rollouts; `action` is embedded, (B, D).

        Returns:
            The tokens that enter the last layer, (B, N, D). What leaves it is read by nothing.
        """
        table = self.rotation(cache.next_frames(), action.dtype)
        clean = self.condition(action.new_zeros(()), action)
        x = self.embed(frame.packed, frame.valid)
        for layer, block in enumerate(self.blocks):
            context = x
            x = block(x, block.modulation(clean), table, partial(cache.attend, layer))
        cache.advance()
        return context

    def read_and_run(
        self, frame: Frame, noisy: Tensor, modulations: Iterable[Tensor], context: StepContext
    ) -> tuple[Tensor, Tensor]:
        """Run the clean pass over a frame and, in the same pass, all blocks over the next.

        Args:
            frame: To be read.
            noisy: The next frame as the network sees it, (B, M).
            modulations: Of the blocks at its noise level and action, (B or 1, 1, 6 D) each.
            context: Of the next frame; its cache takes in `frame`.

        Returns:
            The tokens of the next frame and its outcome query after the last block, (B, N', D), and
            as `read`.
        """
        cache, n = context.cache, self.num_tokens
        clean_table = self.rotation(cache.next_frames(), noisy.dtype)
        clean_table = clean_table.expand(-1, context.table.shape[1], -1, -1)
        table = torch.cat([clean_table, context.table], dim=2)
        clean = self.condition(noisy.new_zeros(()), context.action)
        x = self.with_query(context.join(self.embed(noisy)))
        num_noisy = x.shape[1]
        x = torch.cat([self.embed(frame.packed, frame.valid), x], dim=1)
        for layer, (block, modulation) in enumerate(zip(self.blocks, modulations, strict=True)):
            read = x
            parts = (
                block.modulation(clean).expand(-1, n, -1),
                modulation.expand(-1, num_noisy, -1),
            )
            x = block(x, torch.cat(parts, dim=1), table, partial(cache.attend_both, layer))
        cache.advance()
        return x[:, n:], read[:, :n]


class CausalDiffuser(CausalReading, FrameDenoiser):
    """All layers, for clean frames and for noisy ones."""

    def __init__(self, layout: FrameLayout, config: WorldModelConfig) -> None:
        super().__init__(layout, config, config.encoder_layers + config.decoder_layers)
        self.place(layout)

    def read_and_denoise(
        self, frame: Frame, noisy: Tensor, modulation: Modulation, context: StepContext
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the clean pass over a frame and, in the same pass, the first step of the next.

        Args:
            frame: To be read.
            noisy: The next frame as the network sees it, (B, M).
            modulation: At its noise level and action.
            context: Of the next frame; its cache takes in `frame`.

        Returns:
            As `forward`, and as `read`.
        """
        x, read = self.read_and_run(frame, noisy, modulation.blocks, context)
        return *self.predict(x, noisy, modulation.final, context.last), read


class EntangledWorldModel(WorldModel):
    """Reasoning and denoising in the same layers: the whole network runs at every sampler step.

    Args:
        spec: What a frame holds.
        config: Sizes and choices; the depth is encoder_layers + decoder_layers.

    Raises:
        ValueError: If a camera's sides are not multiples of the patch size.
    """

    def __init__(self, spec: Spec, config: WorldModelConfig) -> None:
        super().__init__(spec, config)
        self.network = CausalDiffuser(self.layout, config)

    @property
    def denoiser(self) -> CausalDiffuser:
        """The network."""
        return self.network

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return no parameters: nothing is for reading alone."""
        return []

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Return all parameters."""
        return list(self.network.parameters())

    def contexts(
        self,
        sequence: Sequence,
        history: Tensor,
        keys: Tensor | None,
        eps: Tensor | None = None,
    ) -> ClipContext:
        """Run the clean pass over all history frames of clips; see `WorldModel.contexts`.

        Nothing is noised here: the interface that SCD perturbs does not exist.
        """
        read = (history, sequence.valid[:, :-1], sequence.action, sequence.action_valid)
        if self.config.one_copy and keys is not None:
            return self._context(sequence, history, self.network.read_clip(*_first(read)), True)
        return self._context(sequence, history, self.network.read_clip(*read), False)

    def _context(
        self, sequence: Sequence, history: Tensor, kept: list[KeysAndValues], is_one_copy: bool
    ) -> ClipContext:
        batch, num_frames = history.shape[:2]
        next_frames = torch.arange(1, num_frames + 1).to(history.device)
        table = self.network.noisy_rotation(next_frames, history.dtype)
        action = self.network.action(sequence.action, sequence.action_valid).flatten(0, 1)
        table = table.repeat(1, batch, 1, 1)
        last, window = history.flatten(0, 1), self.config.window
        return ClipContext(action, last, table, window, kept, is_one_copy)

    def draw(
        self,
        sequence: Sequence,
        history: Tensor,
        context: DenoiserContext,
        base: Base,
        seeds: Tensor,
        draw: int,
    ) -> Noised:
        """Return noised frames; in `one_copy` some are clean, as the history of a rollout is.

        A clean frame is as `contexts` reads it, with the action taken at it, but that it sees its
        outcome query and, like a noisy frame, W frames before itself; it is not in the loss.
        """
        noised = super().draw(sequence, history, context, base, seeds, draw)
        if not self.config.one_copy:
            return noised
        batch, num_frames = history.shape[:2]
        chance = noise.uniform(noise.derive(seeds, 4 + draw), num_frames)
        clean = (chance < self.config.clean_fraction) & sequence.valid[:, 1:].all(-1)
        clean[:, -1] = False  # the last frame is nobody's history
        frames, action = noised.frames.clone(), context.action
        after = rearrange(action, "(b t) d -> b t d", b=batch).roll(-1, 1).flatten(0, 1)
        is_clean = clean.flatten()
        frames[is_clean] = history.roll(-1, 1).flatten(0, 1)[is_clean]
        level = noised.level.masked_fill(is_clean, 0.0)
        condition = self.network.condition(level, torch.where(is_clean[:, None], after, action))
        return Noised(frames, level, noised.eps, condition, ~is_clean)

    def empty_cache(self, batch: int) -> RingCache:
        """Return the memory of `batch` rollouts that have seen no frame."""
        net = self.network
        num_noisy = net.num_tokens + len(net.query)
        like = net.embed.place
        return RingCache.empty(self.config, len(net.blocks), batch, net.num_tokens, like, num_noisy)

    def read(self, frame: Frame, cache: RingCache) -> Tensor:
        """Read one more frame into `cache`; see `WorldModel.read`."""
        return self.network.read(
            frame, self.network.action(frame.action, frame.action_valid), cache
        )

    def next_frame(
        self, frame: Frame, cache: RingCache, eps: Tensor, sampler: flow.Sampler
    ) -> NextFrame:
        """Read one more frame and sample the next; see `WorldModel.next_frame`."""
        assert sampler.guidance == 1, "there is no context to blur"
        action = self.network.action(frame.action, frame.action_valid)
        table = self.network.noisy_rotation(cache.next_frames() + 1, eps.dtype)
        context = StepContext(action, frame.packed, table, cache)
        levels = flow.levels(sampler.num_steps)
        modulations = list(self.network.schedule(levels[:-1], action))
        read = frame.packed  # until the first step

        def evaluate(index: int, noisy: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal context, read
            seen = self.visible_noisy(noisy, levels[index])
            if index == 0:
                first = self.network.read_and_denoise(frame, seen, modulations[0], context)
                read = first[2]
                return first[:2]
            if not context.kept:
                context = replace(context, kept=cache.passing(context.table.shape[2]))
            return self.network(seen, modulations[index], context)

        base = self.base(frame.packed, frame.valid)
        packed, logits = self.integrate(evaluate, base, eps, levels, sampler.solver)
        return NextFrame(packed, logits, read)


def attend_history(
    keys: Tensor, values: Tensor, window: int, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Noisy frames attend to the clean frames before them and to themselves.

    Args:
        keys: Of the clean frames, (B, T, N, H, K); noisy frame t follows clean frame t.
        values: Of the clean frames.
        window: Clean frames W that are seen.
        q: Queries of the noisy frames, (B T, N', H, K).
        k: Their keys.
        v: Their values.
    """
    if attention_flex.is_chosen(q):
        return attention_flex.attend_history(keys, values, window, q, k, v)
    num_frames = keys.shape[1]
    q, k, v = (rearrange(x, "(b t) n h k -> b t n h k", t=num_frames) for x in (q, k, v))
    frames = []
    for t in range(num_frames):
        seen = slice(max(0, t - window + 1), t + 1)
        own = (
            torch.cat([past[:, seen].flatten(1, 2), new[:, t]], dim=1)
            for past, new in ((keys, k), (values, v))
        )
        frames.append(attend_all(q[:, t], *own))
    return torch.stack(frames, dim=1).flatten(0, 1)


def attend_among(
    keys: Tensor, values: Tensor, window: int, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Noisy frames attend to the first clean frame, to the noisy ones before and to themselves.

    Args:
        keys: Of the first frame, (B, 1, N, H, K).
        values: Of the first frame.
        window: Earlier frames W that are seen.
        q: Queries of the frames after it, (B T, N', H, K), the N tokens of a frame first.
        k: Their keys.
        v: Their values.
    """
    batch, _, n = keys.shape[:3]
    past = (rearrange(x, "(b t) n h k -> b t n h k", b=batch)[:, :-1, :n] for x in (k, v))
    keys, values = (torch.cat(x, dim=1) for x in zip((keys, values), past, strict=True))
    return attend_history(keys, values, window, q, k, v)


def _first(read: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x[:, :1] for x in read)
