"""Frames and clips as world models compute with them: packed, normalised, with validities.

Axes: B batch, T frames, F = B (T - 1) frames to predict, N tokens in a frame, M values of a packed
frame, D width, A values of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Base:
    """What frames to come are relative to.

    What is noised and denoised is z = (x - origin) / unit, and a sample prediction of it is
    z^ = value + scale * network output.
    """

    value: Tensor  # (..., M) the last frame; 0 where there is none, or a prediction is no residual
    scale: Tensor  # (..., M) deviation of the residual; 1 there
    origin: Tensor  # (..., M) the last frame where it is changes that are noised; 0 elsewhere
    unit: Tensor  # (..., M) deviation of the change there; 1 elsewhere

    def flatten(self) -> Base:
        """Join all leading axes into one."""
        every = (self.value, self.scale, self.origin, self.unit)
        return Base(*(x.flatten(0, -2) for x in every))

    def encode(self, packed: Tensor) -> Tensor:
        """Return z of packed frames x, (..., M)."""
        return (packed - self.origin) / self.unit

    def decode(self, coded: Tensor) -> Tensor:
        """Return packed frames x of z, (..., M): undoes `encode`."""
        return torch.addcmul(self.origin, self.unit, coded)


@dataclass(frozen=True)
class Sequence:
    """A batch of clips inside the model: T - 1 transitions, each from a frame to the next."""

    packed: Tensor  # (B, T, M)
    valid: Tensor  # (B, T, N) bool
    action: Tensor  # (B, T - 1, A) normalised
    action_valid: Tensor  # (B, T - 1) bool

    def rows(self, index: Tensor) -> Sequence:
        """Return the rows at `index`, (R,) int."""
        return Sequence(
            self.packed[index], self.valid[index], self.action[index], self.action_valid[index]
        )


@dataclass(frozen=True)
class Frame:
    """One frame of a rollout and the action taken at it, as the model computes with them."""

    packed: Tensor  # (B, M)
    valid: Tensor  # (B, N) bool
    action: Tensor  # (B, A) normalised
    action_valid: Tensor  # (B,) bool


@dataclass(frozen=True)
class NextFrame:
    """The frame that a model imagines next, and what it was imagined from."""

    packed: Tensor  # (B, M)
    logits: Tensor  # (B, number of outcomes), at the sampler's last step
    context: Tensor  # (B, N, D) features of the history and of the action at its last frame


@dataclass(frozen=True)
class Noised:
    """Frames to denoise in training, F = B (T - 1) of them."""

    frames: Tensor  # (F, M) z_s, see `Base`
    level: Tensor  # (F,) s
    eps: Tensor  # (F, M)
    condition: Tensor  # (F, 1, D), of modulations
    counts: Tensor  # (F,) bool, whether the frame counts in the loss
