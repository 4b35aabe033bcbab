"""Separable Causal Diffusion as a world model.

After "Causality in Video Diffusers is Separable from Denoising", Bai et al. 2026, arXiv:2602.10095:

    c_t   = Encoder(o_<=t, a_<=t)                once per frame
    o_t+1 ~ Decoder(x_s, s | c_t, a_t)           T steps, s from 1 to 0

Axes: B batch, T frames, K noise draws, N tokens in a frame, M values of a packed frame, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from scd_wm.clip import Clip
from scd_wm.model import flow, losses, noise
from scd_wm.model.config import SCDConfig
from scd_wm.model.decoder import DecoderContext, DiffusionDecoder
from scd_wm.model.encoder import CausalEncoder
from scd_wm.model.layout import FrameLayout
from scd_wm.spec import Spec


@dataclass(frozen=True)
class Base:
    """What a sample prediction is relative to: x^ = value + scale * network output."""

    value: Tensor  # (..., M) the last frame, or 0 where there is none
    scale: Tensor  # (..., M) deviation of the residual, or 1

    def flatten(self) -> Base:
        """Join all leading axes into one."""
        return Base(self.value.flatten(0, -2), self.scale.flatten(0, -2))

    def repeat(self, num_draws: int) -> Base:
        """Return the base, (B, T, M), for `num_draws` noise draws of every frame, (K B T, M)."""
        return Base(_repeat(self.value, num_draws), _repeat(self.scale, num_draws))


@dataclass(frozen=True)
class _Sequence:
    """A batch of clips inside the model: T - 1 transitions, each from a frame to the next."""

    packed: Tensor  # (B, T, M)
    valid: Tensor  # (B, T, N) bool
    action: Tensor  # (B, T - 1, A) normalised
    action_valid: Tensor  # (B, T - 1) bool

    def rows(self, index: Tensor) -> _Sequence:
        """Return the rows at `index`, (R,) int."""
        return _Sequence(
            self.packed[index], self.valid[index], self.action[index], self.action_valid[index]
        )


class SCDWorldModel(nn.Module):
    """A causal encoder that reads history once per frame and a light decoder that renders the next.

    Args:
        spec: What a frame holds.
        config: Sizes and choices.

    Raises:
        ValueError: If a camera's sides are not multiples of the patch size.
    """

    def __init__(self, spec: Spec, config: SCDConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.layout = FrameLayout(spec, config.patch_size)
        self.encoder = CausalEncoder(self.layout, config)
        self.decoder = DiffusionDecoder(self.layout, config)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train at the encoder's rate."""
        return list(self.encoder.parameters())

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train at the decoder's rate."""
        return list(self.decoder.parameters())

    def forward(self, clip: Clip, seeds: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the training loss of a batch of clips.

        All randomness comes from `seeds`, so the loss does not depend on how rows are batched.

        Args:
            clip: Batched clips of T >= 2 frames.
            seeds: One int64 per row, (B,).

        Returns:
            The loss, a scalar, and its parts by name.
        """
        sequence = self._sequence(clip)
        history = self._own_history(sequence, noise.derive(seeds, 0))
        context, base = self._encode(sequence, history, noise.derive(seeds, 1))
        num_draws = self.config.draws
        level, eps = self._draw_noise(seeds, history)
        target = _repeat(sequence.packed[:, 1:], num_draws)
        noisy = flow.interpolate(_repeat(self._visible(sequence), num_draws), eps, level)
        raw, logits = self._evaluate(noisy, level, context.repeat(num_draws))
        error = self._error(raw, target, eps, level, base.repeat(num_draws))
        valid = _repeat(self.layout.value_valid(sequence.valid[:, 1:]), num_draws)
        parts = losses.frame_losses(self.layout, error, valid)
        parts |= losses.outcome_losses(self.spec, logits, clip, num_draws)
        return losses.total(parts, self.config), parts

    def _visible(self, sequence: _Sequence) -> Tensor:
        """Return the frames that the decoder sees through noise, (B, T - 1, M).

        They are the frames to predict; what such a frame lacks is taken from the frame before.
        Formats that store no last observation keep its outcome, often the only success of the
        episode: noise on zeros would give that frame away, and no sampler would ever see the like.
        """
        seen = self.layout.value_valid(sequence.valid[:, 1:])
        return torch.where(seen, sequence.packed[:, 1:], sequence.packed[:, :-1])

    def _draw_noise(self, seeds: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Return noise levels, (K B T,), and noise, (K B T, M), to follow `history`, (B, T, M)."""
        num_draws = self.config.draws
        size = num_draws * history.shape[1]
        fraction = self.config.full_noise_fraction
        level = flow.draw_noise_levels(noise.derive(seeds, 2), size, fraction)
        keys = noise.derive(noise.derive(seeds, 3)[:, None], torch.arange(size).to(seeds))
        eps = noise.normal(keys, self.layout.num_values)
        by_draw = "b (k t) ... -> (k b t) ..."
        level, eps = (rearrange(x, by_draw, k=num_draws) for x in (level, eps))
        return level.to(history.dtype), eps.to(history.dtype)

    def _evaluate(
        self, noisy: Tensor, level: Tensor, context: DecoderContext
    ) -> tuple[Tensor, Tensor]:
        """Run the decoder once on noisy frames, (F, M), at levels (F,)."""
        if self.config.prediction == "sample":
            # x_s tells of the sample in proportion to 1 - s: at s = 1 it is noise alone, which the
            # network would have to learn to ignore. (A velocity is eps - x, so there the noise must
            # be seen.)
            noisy = noisy * (1 - level[:, None])
        return self.decoder(noisy, level, context)

    def _error(self, raw: Tensor, target: Tensor, eps: Tensor, level: Tensor, base: Base) -> Tensor:
        """Return the weighted squared error of every value, (F, M)."""
        if self.config.prediction == "velocity":
            return (raw - (eps - target)).square()
        residual = (target - base.value) / base.scale
        weight = flow.sample_loss_weight(level[:, None], base.scale)
        return weight * (raw - residual).square()

    def _sequence(self, clip: Clip) -> _Sequence:
        """Return batched clips as the model computes with them."""
        action = self.layout.normalise_vector("action", clip.actions)
        # A NaN where there is no action would reach the weights: its gradient is 0 times NaN.
        action = action.masked_fill(~clip.action_valid[..., None], 0.0)
        return _Sequence(
            self.layout.pack(clip), self.layout.token_valid(clip.valid), action, clip.action_valid
        )

    def _encode(
        self, sequence: _Sequence, history: Tensor, keys: Tensor | None
    ) -> tuple[DecoderContext, Base]:
        """Encode all T - 1 history frames, (B, T - 1, M), and prepare the decoder for each.

        `keys`, (B,), make the interface noise; None means none.
        """
        valid = sequence.valid[:, :-1]
        interface = None
        if keys is not None and self.config.interface_noise > 0:
            shape = (*valid.shape, self.config.dim)
            size = valid[0].numel() * self.config.dim
            interface = noise.normal(keys, size, history.dtype).reshape(shape)
            interface = interface * self.config.interface_noise
        c = self.encoder(history, valid, sequence.action, sequence.action_valid, interface)
        flat = (history, sequence.action, sequence.action_valid)
        context = self.decoder.context(c.flatten(0, 1), *(x.flatten(0, 1) for x in flat))
        return context, self.base(history, valid)

    def base(self, last: Tensor, valid: Tensor) -> Base:
        """Return what the prediction of the next frame is relative to.

        Args:
            last: The frame before it, packed, (..., M).
            valid: Which of its tokens hold data, (..., N) bool.
        """
        if not self.config.residual or self.config.prediction == "velocity":
            return Base(torch.zeros_like(last), torch.ones_like(last))
        held = self.layout.value_valid(valid)
        one = last.new_ones(())
        return Base(last.masked_fill(~held, 0.0), torch.where(held, self.layout.delta_std, one))

    def _own_history(self, sequence: _Sequence, keys: Tensor) -> Tensor:
        """Return history frames, (B, T - 1, M), some rows with the model's own predictions in it.

        The model must live with its own frames in a rollout, so it trains on them: each row draws
        how many of `self_rollouts` passes it takes part in (none included) and the frame from which
        on its history is imagined. A pass predicts all frames at once from the history of the pass
        before (Mihaylova and Martins 2019, arXiv:1906.07651), so after p passes the frames from the
        p-th imagined one on hold the error of p rollout steps, for p parallel passes and not T
        sequential ones.
        """
        history = sequence.packed[:, :-1]
        num_passes, num_frames = self.config.self_rollouts, history.shape[1]
        if num_passes == 0 or num_frames < 2:
            return history
        draws = noise.uniform(keys, 2)
        passes = (draws[:, 0] * (num_passes + 1)).long()
        first = 1 + (draws[:, 1] * (num_frames - 1)).long()  # (B,) first imagined frame, >= 1
        time = torch.arange(1, num_frames, device=keys.device)
        is_own = (time >= first[:, None])[..., None]  # (B, T - 2, 1)
        is_own = is_own & self.layout.value_valid(sequence.valid[:, 1:-1])  # (B, T - 2, M)
        history = history.clone()
        for index in range(num_passes):
            rows = (passes >= num_passes - index).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            predicted = self._predict_all(sequence.rows(rows), history[rows], keys[rows] + index)
            history[rows, 1:] = torch.where(is_own[rows], predicted[:, :-1], history[rows, 1:])
        return history

    @torch.no_grad()
    def _predict_all(self, sequence: _Sequence, history: Tensor, keys: Tensor) -> Tensor:
        """Return one-step samples of frames 1 to T - 1 from `history`, (R, T - 1, M)."""
        context, base = self._encode(sequence, history, None)
        num_frames = history.shape[1]
        frame_keys = noise.derive(keys[:, None], torch.arange(num_frames).to(keys))
        eps = noise.normal(frame_keys, self.layout.num_values, history.dtype)
        sample, _ = self.sample(context, base.flatten(), eps.flatten(0, 1), num_steps=1)
        return rearrange(sample, "(b t) m -> b t m", t=num_frames)

    def sample(
        self, context: DecoderContext, base: Base, eps: Tensor, num_steps: int
    ) -> tuple[Tensor, Tensor]:
        """Sample the frames that follow.

        Args:
            context: From `decoder.context`, of B frames.
            base: Of these frames, (B, M).
            eps: Standard normal noise, (B, M).
            num_steps: Euler steps T.

        Returns:
            Packed frames, (B, M), and outcome logits at the last step, (B, number of outcomes).
        """
        logits = eps.new_zeros(0)

        def denoise(noisy: Tensor, level: Tensor) -> Tensor:
            nonlocal logits
            raw, logits = self._evaluate(noisy, level.expand(len(noisy)), context)
            if self.config.prediction == "velocity":
                return noisy - level * raw
            return self.layout.clamp(base.value + base.scale * raw)

        sample = flow.euler(denoise, eps, num_steps)
        return self.layout.clamp(sample), logits


def _repeat(x: Tensor, num_draws: int) -> Tensor:
    """Return frames, (B, T, ...), once for every noise draw, (K B T, ...), draw-major."""
    return repeat(x, "b t ... -> (k b t) ...", k=num_draws)
