"""SCD whose encoder is fed the frame to come: what a causal diffuser's own layers expect.

The layers of a trained causal diffuser work on the noisy frame, which looks back at clean ones. An
encoder made of them is given such a frame once, at a high noise level, where there is next to
nothing to be seen of it; their features hardly change with the level, so the steps after can do
with these (Bai et al. 2026, arXiv:2602.10095, on post-training):

    c_t   = Encoder(x_s', s' | o_<=t, a_<=t)     once per frame, s' high in training, 1 in a rollout
    o_t+1 ~ Decoder(x_s, s | c_t, a_t)           T steps, s from 1 to 0

Axes: B batch, T frames, F = B T frames flattened, N tokens in a frame, N' those and the outcome
query, M values of a packed frame, D width.
"""

from __future__ import annotations

from collections.abc import Sequence as Series
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from scd_wm.model import flow, guidance, noise
from scd_wm.model.attention import attend_all
from scd_wm.model.blocks import Attend, Blocks
from scd_wm.model.cache import RingCache
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.decoder import DiffusionDecoder
from scd_wm.model.denoiser import DenoiserContext, FrameDenoiser, Modulation
from scd_wm.model.entangled import CausalReading, ClipContext, StepContext
from scd_wm.model.frames import Frame, NextFrame, Sequence
from scd_wm.model.layout import FrameLayout
from scd_wm.model.rope import rotation
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec


@dataclass(frozen=True)
class Feed:
    """The frame to come, as an encoder is shown it."""

    frames: Tensor  # (F, M) what is seen of it
    level: Tensor  # (F,) its noise level


class FedEncoder(CausalReading):
    """c_t = Encoder(x_s', s' | o_<=t, a_<=t): clean frames as history, and one noisy frame.

    c is the residual stream itself, not normed: what the next layer would have gone on from.
    """

    def __init__(self, layout: FrameLayout, config: WorldModelConfig) -> None:
        super().__init__(layout, config)
        self.blocks = Blocks(config, config.encoder_layers)
        self.place(layout)

    def empty_cache(self, batch: int) -> RingCache:
        """Return a cache for `batch` rows that have seen no frame."""
        num_noisy = self.num_tokens + len(self.query)
        size = (len(self.blocks), batch, self.num_tokens)
        return RingCache.empty(self.config, *size, self.embed.place, num_noisy)

    def forward(self, sequence: Sequence, history: Tensor, feed: Feed) -> Tensor:
        """Encode the frame after each frame of a history.

        Args:
            sequence: The clips, of T + 1 frames.
            history: Frames 0 to T - 1 as they are to be read, (B, T, M).
            feed: The frames after them, F = B T.

        Returns:
            Contexts c, (F, N', D).
        """
        batch, num_frames = history.shape[:2]
        taken = (sequence.action, sequence.action_valid)
        kept = self.read_clip(history, sequence.valid[:, :-1], *taken)
        table = self.noisy_rotation(
            torch.arange(1, num_frames + 1).to(history.device), history.dtype
        )
        table = table.repeat(1, batch, 1, 1)
        action = self.action(*taken).flatten(0, 1)
        context = ClipContext(action, history.flatten(0, 1), table, self.config.window, kept)
        condition = self.condition(feed.level, action)
        x = self.with_query(self.embed(feed.frames))
        for layer, block in enumerate(self.blocks):
            x = block(x, block.modulation(condition), table, context.attend(layer))
        return x

    def step(self, frame: Frame, noisy: Tensor, cache: RingCache) -> tuple[Tensor, Tensor]:
        """Read one more frame into `cache`, which changes, and encode the next.

        Args:
            frame: The frame and the action taken at it.
            noisy: What is seen at s = 1 of the next, (B, M).
            cache: Of the frames before.

        Returns:
            Context c, (B, N', D), and what `read` returns.
        """
        action = self.action(frame.action, frame.action_valid)
        table = self.noisy_rotation(cache.next_frames() + 1, noisy.dtype)
        condition = self.condition(action.new_ones(()), action)
        modulations = [block.modulation(condition) for block in self.blocks]
        context = StepContext(action, frame.packed, table, cache)
        return self.read_and_run(frame, noisy, modulations, context)


@dataclass(frozen=True)
class ResumedContext:
    """What takes the decoder's tokens to where the encoder has come."""

    action: Tensor  # (B, D)
    last: Tensor  # (B, M) the frame before, packed
    table: Tensor  # (2, N', K) rotary angles of the sequence
    shift: Tensor  # (B, N', D) c, less the tokens that the decoder makes of what the encoder saw

    def attend(self, layer: int) -> Attend:
        """Return how tokens attend in a layer: to each other."""
        return attend_all

    def join(self, noisy: Tensor) -> Tensor:
        """Return the noisy tokens: the context joins later."""
        return noisy


class ResumingDecoder(FrameDenoiser):
    """Goes on where the encoder has stopped: c, changed by what has changed in the noisy frame.

    Its first layers, `resume_layer` of them, see the noisy frame x_s alone, and have once seen the
    frame x_s' that the encoder was fed. The others begin at c + first(x_s) - first(x_s'). At s = s'
    that is c itself, so they do what the layers after the encoder's would have done, but for
    looking at the past.
    """

    def __init__(self, layout: FrameLayout, config: WorldModelConfig) -> None:
        super().__init__(layout, config, config.decoder_layers)
        place = torch.cat([layout.positions(), layout.positions().new_zeros(len(self.query), 2)])
        # All tokens are of one time; the outcome query has no place.
        place = torch.cat([place.new_zeros(len(place), 1), place], dim=1)
        sizes = (config.dim // config.num_heads, config.rope_theta, torch.get_default_dtype())
        self.register_buffer("table", rotation(place, *sizes), persistent=False)
        self.table: Tensor  # (2, N', K)

    def context(
        self, context: Tensor, feed: Feed, last: Tensor, action: Tensor, action_valid: Tensor
    ) -> ResumedContext:
        """Prepare what is the same at every noise level.

        Args:
            context: c, (B, N', D).
            feed: What the encoder has seen of the frame to come.
            last: The frame before it, packed, zero where it has no data, (B, M).
            action: Normalised action of that frame, (B, A).
            action_valid: (B,) bool.
        """
        embedded = self.action(action, action_valid)
        condition = self.condition(feed.level, embedded)
        first = islice(self.blocks, self.config.resume_layer)
        modulations = [block.modulation(condition) for block in first]
        shift = context - self._first(feed.frames, modulations)
        return ResumedContext(embedded, last, self.table, shift)

    def forward(
        self, noisy: Tensor, modulation: Modulation, context: DenoiserContext
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the network once; see `FrameDenoiser.forward`."""
        assert isinstance(context, ResumedContext), "of `ResumingDecoder.context`"
        x = self._first(noisy, modulation.blocks[: self.config.resume_layer]) + context.shift
        for layer in range(self.config.resume_layer, len(self.blocks)):
            x = self.blocks[layer](x, modulation.blocks[layer], self.table, attend_all)
        return self.predict(x, noisy, modulation.final, context.last)

    def _first(self, noisy: Tensor, modulations: Series[Tensor]) -> Tensor:
        """Return the tokens of a frame, (B, M), after the layers before the context."""
        x = self.with_query(self.embed(noisy))
        for layer, modulation in enumerate(modulations):
            x = self.blocks[layer](x, modulation, self.table, attend_all)
        return x


class FedWorldModel(WorldModel):
    """SCD with an encoder that is fed the frame to come at a high noise level.

    Args:
        spec: What a frame holds.
        config: Sizes and choices; `fed_level` is given.

    Raises:
        ValueError: If a camera's sides are not multiples of the patch size.
    """

    def __init__(self, spec: Spec, config: WorldModelConfig) -> None:
        super().__init__(spec, config)
        self.encoder = FedEncoder(self.layout, config)
        kind = ResumingDecoder if config.context_mode == "resume" else DiffusionDecoder
        self.decoder: ResumingDecoder | DiffusionDecoder = kind(self.layout, config)

    @property
    def denoiser(self) -> ResumingDecoder | DiffusionDecoder:
        """The decoder."""
        return self.decoder

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train at the encoder's rate."""
        return list(self.encoder.parameters())

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train at the decoder's rate."""
        return list(self.decoder.parameters())

    def contexts(
        self,
        sequence: Sequence,
        history: Tensor,
        keys: Tensor | None,
        eps: Tensor | None = None,
    ) -> DenoiserContext:
        """Encode the frames after all history frames of clips; see `WorldModel.contexts`."""
        feed = self._feed(sequence, history, keys, eps)
        c = self.encoder(sequence, history, feed)
        if keys is not None and self.config.interface_noise > 0:
            # As on a normed context, whose variance is one, and then scaled back.
            scale = c.detach().std(-1, correction=0, keepdim=True) * self.config.interface_noise
            size = c[0].numel() * history.shape[1]
            c = c + scale * noise.normal(keys, size, c.dtype).reshape(c.shape)
        last, action = history.flatten(0, 1), sequence.action.flatten(0, 1)
        return self._context(c, feed, last, action, sequence.action_valid.flatten())

    def _feed(
        self, sequence: Sequence, history: Tensor, keys: Tensor | None, eps: Tensor | None
    ) -> Feed:
        """Return the frames to come: noise alone as in a rollout, or for training (with `keys`).

        Training hides them by noise of its own. By that of the denoiser's x_s, both would be points
        of one line to the frame to come, which two points give away, at any level; the denoiser
        would learn to read it off, and a sampler would stay where its first step has led to.
        """
        if keys is None:
            frames = torch.zeros_like(history).flatten(0, 1) if eps is None else eps
            level = frames.new_ones(len(frames))
        else:
            frames, level = self._hidden(sequence, history, keys)
        return Feed(self.visible_noisy(frames, level[:, None]), level)

    def _hidden(self, sequence: Sequence, history: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames to come at levels from `fed_level` to 1, (F, M), and these, (F,)."""
        least, num_frames = self.config.fed_level, history.shape[1]
        assert least is not None, "an encoder is fed from some level on"
        share = noise.uniform(noise.derive(keys, 0), num_frames, history.dtype)
        level = (least + (1 - least) * share).flatten()
        frame_keys = noise.derive(noise.derive(keys, 1)[:, None], torch.arange(num_frames).to(keys))
        eps = noise.normal(frame_keys, self.layout.num_values, history.dtype).flatten(0, 1)
        frames = self.base(history, sequence.valid[:, :-1]).encode(self._visible(sequence))
        return flow.interpolate(frames.flatten(0, 1), eps, level), level

    def _context(
        self, c: Tensor, feed: Feed, last: Tensor, action: Tensor, action_valid: Tensor
    ) -> DenoiserContext:
        if isinstance(self.decoder, ResumingDecoder):
            return self.decoder.context(c, feed, last, action, action_valid)
        return self.decoder.context(c[:, : self.layout.num_tokens], last, action, action_valid)

    def empty_cache(self, batch: int) -> RingCache:
        """Return the memory of `batch` rollouts that have seen no frame."""
        return self.encoder.empty_cache(batch)

    def read(self, frame: Frame, cache: RingCache) -> Tensor:
        """Read one more frame into `cache`, without a frame to come; see `WorldModel.read`."""
        action = self.encoder.action(frame.action, frame.action_valid)
        return self.encoder.read(frame, action, cache)

    def next_frame(
        self, frame: Frame, cache: RingCache, eps: Tensor, sampler: flow.Sampler
    ) -> NextFrame:
        """Read one more frame and sample the next; see `WorldModel.next_frame`."""
        feed = Feed(self.visible_noisy(eps, 1.0), eps.new_ones(len(eps)))
        c, read = self.encoder.step(frame, feed.frames, cache)
        rest = (feed, frame.packed, frame.action, frame.action_valid)
        found = guidance.contexts(
            lambda c: self._context(c, *rest), c, eps, sampler, self.config.guidance_noise
        )
        base = self.base(frame.packed, frame.valid)
        return NextFrame(*self.sample(found[0], base, eps, sampler, found[1]), read)
