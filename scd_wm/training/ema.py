"""An exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EMA:
    """Averaged weights, in float32 beside the model.

    The decay warms up, or a short run's average would be mostly its initial weights.

    Args:
        model: Whose parameters are averaged; the average starts equal to them.
        decay: Target decay of an update.

    Attributes:
        weights: The averages by parameter name.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = [parameter for _, parameter in model.named_parameters()]
        self.weights: dict[str, Tensor] = {
            name: parameter.detach().clone().float() for name, parameter in model.named_parameters()
        }

    def decay_at(self, step: int) -> float:
        """Return the decay of the update after a step, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the parameters as they are after a step, counted from 0."""
        averages = list(self.weights.values())
        torch._foreach_lerp_(
            averages, [p.float() for p in self._parameters], 1 - self.decay_at(step)
        )
