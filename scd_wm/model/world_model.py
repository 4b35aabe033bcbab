"""What every world model is: a training loss, a sampler, and frame by frame rollouts.

How history is read and how a frame is denoised are up to the architectures, `scd.py` and
`entangled.py`.

Axes: B batch, T frames, K noise draws, N tokens in a frame, M values of a packed frame, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from scd_wm.clip import Clip
from scd_wm.model import draws, flow, losses, noise
from scd_wm.model.cache import RingCache
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.denoiser import DenoiserContext, FrameDenoiser, Modulation
from scd_wm.model.familiarity import Familiarity
from scd_wm.model.few_steps import FewSteps
from scd_wm.model.frames import Base, Frame, NextFrame, Noised, Sequence
from scd_wm.model.layout import FrameLayout
from scd_wm.model.own_history import noisy_history, own_history
from scd_wm.spec import Spec

Evaluate = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""Maps (number of the noise level, x_s) to the raw prediction and outcome logits."""

_HISTORY_NOISE = 32  # purpose of the keys of the noise on history; others count from 0


class WorldModel(nn.Module, ABC):
    """Learns p(o_t+1 | o_<=t, a_<=t) by flow matching, all cameras and vectors of a frame jointly.

    Args:
        spec: What a frame holds.
        config: Sizes and choices.

    Raises:
        ValueError: If a camera's sides are not multiples of the patch size.
    """

    def __init__(self, spec: Spec, config: WorldModelConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.layout = FrameLayout(spec, config.patch_size)
        self.few_steps: FewSteps | None = None  # set to also learn from a teacher's many steps
        self.familiarity: Familiarity | None = None  # set where the model knows its training data

    @property
    @abstractmethod
    def denoiser(self) -> FrameDenoiser:
        """The network that is evaluated at every sampler step."""

    @abstractmethod
    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train at the encoder's rate."""

    @abstractmethod
    def decoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that train at the decoder's rate."""

    @abstractmethod
    def contexts(
        self,
        sequence: Sequence,
        history: Tensor,
        keys: Tensor | None,
        eps: Tensor | None = None,
    ) -> DenoiserContext:
        """Read all history frames of clips at once, to denoise the frame after each.

        Args:
            sequence: The clips, of T frames.
            history: Frames 0 to T - 2 as they are to be read, (B, T - 1, M).
            keys: Of noise on what is read, for training, (B,); None means none.
            eps: Noise from which a sampler starts the frames after, (B (T - 1), M); it is shown to
                an encoder that is fed, unless `keys` are given; None means zeros.

        Returns:
            The context of B (T - 1) frames.
        """

    @abstractmethod
    def empty_cache(self, batch: int) -> RingCache:
        """Return the memory of `batch` rollouts that have seen no frame."""

    @abstractmethod
    def read(self, frame: Frame, cache: RingCache) -> Tensor:
        """Read one more frame into `cache`, which changes, without imagining the next.

        Returns:
            Context features, (B, N, D): what the next frame would be imagined from.
        """

    @abstractmethod
    def next_frame(
        self, frame: Frame, cache: RingCache, eps: Tensor, sampler: flow.Sampler
    ) -> NextFrame:
        """Read one more frame into `cache`, which changes, and sample the next.

        Args:
            frame: The frame and the action taken at it.
            cache: Of the frames before.
            eps: Standard normal noise, (B, M).
            sampler: Its steps, solver and guidance.

        Returns:
            The next frame, and the context features that `read` would have returned.
        """

    def forward(
        self,
        clip: Clip,
        seeds: Tensor,
        staged: bool = True,
        average: losses.Average | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the training loss of a batch of clips.

        All randomness comes from `seeds`, so the loss does not depend on how rows are batched.

        Args:
            clip: Batched clips of T >= 2 frames.
            seeds: One int64 per row, (B,).
            staged: Differentiate each of K > 1 draws as it is made: the memory of one draw, the
                same gradient, but none of second order.
            average: Where several processes share a batch, the mean of a tensor over them. The mean
                of their losses, and of their gradients, is then that of the whole batch.

        Returns:
            The loss, a scalar, and its parts by name, which have no gradient.
        """
        sequence = self.sequence(clip)
        history = own_history(self, sequence, noise.derive(seeds, 0))
        history = noisy_history(self, sequence, history, noise.derive(seeds, _HISTORY_NOISE))
        context = self.contexts(sequence, history, noise.derive(seeds, 1))
        shared, count = (clip, sequence, history, context), self.config.draws
        learned = self.config
        if self.few_steps is not None:
            # The ordinary loss teaches the mean of what noise hides, which is not where one way of
            # the teacher's leads; of it the outcomes are left.
            learned = replace(learned, image_weight=0.0, vector_weight=0.0)

        def one(
            shared: tuple[Clip, Sequence, Tensor, DenoiserContext], draw: int
        ) -> tuple[Tensor, dict[str, Tensor]]:
            parts = self.draw_losses(*shared, seeds, draw, average)
            return losses.total(parts, learned), parts

        if staged and count > 1 and torch.is_grad_enabled():
            parameters = self.denoiser.parameters()
            loss, parts = draws.staged_mean_loss(one, count, shared, parameters)
        else:
            loss, parts = draws.mean_loss(one, count, shared)
        if self.few_steps is not None:
            few = self.few_steps.losses(self, sequence, history, context, seeds, average)
            loss = loss + self.few_steps.weight * losses.total(few, self.config)
            parts |= {f"few_steps_{name}": part.detach() for name, part in few.items()}
        return loss, parts

    def draw_losses(
        self,
        clip: Clip,
        sequence: Sequence,
        history: Tensor,
        context: DenoiserContext,
        seeds: Tensor,
        draw: int,
        average: losses.Average | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses by name at one of K draws of noise level and noise for every frame."""
        base = self.base(history, sequence.valid[:, :-1]).flatten()
        noised = self.draw(sequence, history, context, base, seeds, draw)
        raw, logits = self.evaluate(
            noised.frames, noised.level[:, None], self.denoiser.modulate(noised.condition), context
        )
        error = self._error(raw, sequence.packed[:, 1:].flatten(0, 1), noised, base)
        valid = self.layout.value_valid(sequence.valid[:, 1:]).flatten(0, 1)
        valid = valid & noised.counts[:, None]
        parts = losses.frame_losses(self.layout, error, valid, average)
        return parts | losses.outcome_losses(self.spec, logits, clip, noised.counts, average)

    def draw(
        self,
        sequence: Sequence,
        history: Tensor,
        context: DenoiserContext,
        base: Base,
        seeds: Tensor,
        draw: int,
    ) -> Noised:
        """Return the frames that follow `history` at random noise levels."""
        level, eps = self._draw_noise(seeds, history, draw)
        frames = base.encode(self._visible(sequence).flatten(0, 1))
        frames = flow.interpolate(frames, eps, level)
        condition = self.denoiser.condition(level, context.action)
        return Noised(frames, level, eps, condition, torch.ones_like(level, dtype=torch.bool))

    def _visible(self, sequence: Sequence) -> Tensor:
        """Return the frames that the decoder sees through noise, (B, T - 1, M).

        They are the frames to predict; what such a frame lacks is taken from the frame before.
        Formats that store no last observation keep its outcome, often the only success of the
        episode: noise on zeros would give that frame away, and no sampler would ever see the like.
        """
        seen = self.layout.value_valid(sequence.valid[:, 1:])
        return torch.where(seen, sequence.packed[:, 1:], sequence.packed[:, :-1])

    def _draw_noise(self, seeds: Tensor, history: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        """Return noise levels, (B T,), and noise, (B T, M), to follow `history`, (B, T, M)."""
        num_frames = history.shape[1]
        index = torch.arange(draw * num_frames, (draw + 1) * num_frames).to(seeds)
        fraction = self.config.full_noise_fraction
        size = self.config.draws * num_frames
        level = flow.draw_noise_levels(noise.derive(seeds, 2), size, fraction)[:, index]
        keys = noise.derive(noise.derive(seeds, 3)[:, None], index)
        eps = noise.normal(keys, self.layout.num_values)
        return level.flatten().to(history.dtype), eps.flatten(0, 1).to(history.dtype)

    def evaluate(
        self,
        noisy: Tensor,
        level: Tensor | float,
        modulation: Modulation,
        context: DenoiserContext,
    ) -> tuple[Tensor, Tensor]:
        """Run the denoiser once on noisy frames, (B, M), at levels that broadcast with them."""
        return self.denoiser(self.visible_noisy(noisy, level), modulation, context)

    def visible_noisy(self, noisy: Tensor, level: Tensor | float) -> Tensor:
        """Return what the denoiser sees of noisy frames, (B, M).

        x_s tells of the sample in proportion to 1 - s: at s = 1 it is noise alone, which a sample
        prediction would have to learn to ignore. (A velocity is eps - x, so there the noise must be
        seen.) A model that learns to sample in few steps should see it: `least_visible`.
        """
        if self.config.prediction == "velocity":
            return noisy
        least = self.config.least_visible
        seen = 1 - level
        return noisy * (seen.clamp(min=least) if isinstance(seen, Tensor) else max(seen, least))

    def needs_noise(self, sampler: flow.Sampler) -> bool:
        """Return whether a frame depends on its noise; one step of a sample prediction sees none.

        At s = 1 the noise is hidden from the network, but for `least_visible`, and the only step
        ends at its prediction. Guidance draws its noise on the context from it.
        """
        is_blind = self.config.prediction == "sample" and self.config.least_visible == 0
        return sampler.num_steps > 1 or sampler.guidance != 1 or not is_blind

    def _error(self, raw: Tensor, target: Tensor, noised: Noised, base: Base) -> Tensor:
        """Return the weighted squared error of every value, (F, M)."""
        coded = base.encode(target)
        if self.config.prediction == "velocity":
            return (raw - (noised.eps - coded)).square()
        residual = (coded - base.value) / base.scale
        weight = flow.sample_loss_weight(noised.level[:, None], base.scale)
        return weight * (raw - residual).square()

    def sequence(self, clip: Clip) -> Sequence:
        """Return batched clips as the model computes with them."""
        action = self.layout.normalise_vector("action", clip.actions)
        # A NaN where there is no action would reach the weights: its gradient is 0 times NaN.
        action = action.masked_fill(~clip.action_valid[..., None], 0.0)
        return Sequence(
            self.layout.pack(clip), self.layout.token_valid(clip.valid), action, clip.action_valid
        )

    def base(self, last: Tensor, valid: Tensor) -> Base:
        """Return what the prediction of the next frame is relative to.

        Args:
            last: The frame before it, packed, (..., M).
            valid: Which of its tokens hold data, (..., N) bool.
        """
        held = self.layout.value_valid(valid)
        zero, one = torch.zeros_like(last), torch.ones_like(last)
        before = torch.where(held, last, zero)
        change = torch.where(held, self.layout.delta_std, one)
        is_change = ~self.layout.is_image & (self.config.vector_noise == "change")  # (M,)
        is_residual = ~is_change & (self.config.residual and self.config.prediction == "sample")
        return Base(
            value=torch.where(is_residual, before, zero),
            scale=torch.where(is_residual, change, one),
            origin=torch.where(is_change, before, zero),
            unit=torch.where(is_change, change, one),
        )

    def sample(
        self,
        context: DenoiserContext,
        base: Base,
        eps: Tensor,
        sampler: flow.Sampler,
        blurred: DenoiserContext | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sample the frames that follow.

        Args:
            context: Of B frames.
            base: Of these frames, (B, M).
            eps: Standard normal noise, (B, M).
            sampler: Its steps, solver and guidance.
            blurred: Of the same frames, what guidance leads away from; None without guidance.

        Returns:
            Packed frames, (B, M), and outcome logits at the last step, (B, number of outcomes).

        Raises:
            ValueError: If the steps are below 1, or there is no such solver.
        """
        assert (sampler.guidance != 1) == (blurred is not None), "guidance goes with what it leaves"
        levels = flow.levels(sampler.num_steps)
        modulations = list(self.denoiser.schedule(levels[:-1], context.action))

        def evaluate(index: int, noisy: Tensor) -> tuple[Tensor, Tensor]:
            raw, logits = self.evaluate(noisy, levels[index], modulations[index], context)
            if blurred is not None:
                away, _ = self.evaluate(noisy, levels[index], modulations[index], blurred)
                raw = torch.lerp(away, raw, sampler.guidance)
            return raw, logits

        return self.integrate(evaluate, base, eps, levels, sampler.solver)

    def integrate(
        self,
        evaluate: Evaluate,
        base: Base,
        eps: Tensor,
        levels: list[float],
        solver: str = "euler",
    ) -> tuple[Tensor, Tensor]:
        """Follow the probability flow from noise to a frame; see `sample`."""
        logits = eps.new_zeros(0)

        def denoise(index: int, noisy: Tensor) -> Tensor:
            nonlocal logits
            raw, logits = evaluate(index, noisy)
            return self.predicted(raw, noisy, levels[index], base)

        sample = flow.solver(solver)(denoise, eps, levels)
        return self.layout.clamp(base.decode(sample)), logits

    def predicted(self, raw: Tensor, noisy: Tensor, level: float, base: Base) -> Tensor:
        """Return the sample z^, (B, M), that a raw prediction at one noise level means; see `Base`.

        Pixels are within their range.
        """
        is_velocity = self.config.prediction == "velocity"
        sample = noisy - level * raw if is_velocity else torch.addcmul(base.value, base.scale, raw)
        return self.layout.clamp(sample)

    def raw_of(self, sample: Tensor, noisy: Tensor, level: float, base: Base) -> Tensor:
        """Return the raw prediction, (B, M), that means the sample z^: undoes `predicted`."""
        if self.config.prediction == "velocity":
            return (noisy - sample) / level
        return (sample - base.value) / base.scale
