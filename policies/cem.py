"""The cross-entropy method (Rubinstein 1999; for control as in Chua et al. 2018, arXiv:1805.12114).

Axes: B environments, N candidates, H actions of a plan, A values of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scd_wm.policies.planner import (
    ActionLimits,
    Costs,
    Plan,
    check_sizes,
    first_mean,
    normal,
    take,
)


@dataclass(frozen=True, kw_only=True)
class CEM:
    """Draws plans around a mean, fits mean and deviation to the best of them, and again.

    Raises:
        ValueError: If a size is below 1 or a share is not above 0.
    """

    horizon: int = 10
    candidates: int = 300
    iterations: int = 5
    elites: float = 0.1  # share of the candidates that the next draw is fitted to
    first_std: float = 0.5  # of the first draw, in halves of the range of actions
    least_std: float = 0.05  # below which it does not fall, in the same unit

    def __post_init__(self) -> None:
        check_sizes(self, "horizon", "candidates", "iterations")
        if not (0 < self.elites <= 1 and self.first_std > 0):
            raise ValueError(
                "elites must be in (0, 1] and first_std above 0, got "
                f"{self.elites} and {self.first_std}"
            )

    def plan(
        self,
        costs: Costs,
        limits: ActionLimits,
        batch: int,
        random: torch.Generator,
        start: Tensor | None = None,
    ) -> Plan:
        """Return a plan for each environment; see `Planner.plan`."""
        mean = first_mean(start, limits, batch, self.horizon)
        std = self.first_std * limits.half_range.expand_as(mean)
        num_elites = max(1, round(self.elites * self.candidates))
        best, least = mean, mean.new_full((batch,), torch.inf)
        for _ in range(self.iterations):
            shape = (batch, self.candidates, *mean.shape[1:])
            plans = limits.clamp(mean[:, None] + std[:, None] * normal(shape, mean, random))
            found, index = costs(plans).topk(num_elites, dim=1, largest=False)  # (B, K)
            elites = take(plans, index)  # (B, K, H, A)
            mean, std = self._fit(elites, limits)
            is_better = found[:, 0] < least
            best = torch.where(is_better[:, None, None], elites[:, 0], best)
            least = torch.where(is_better, found[:, 0], least)
        return Plan(best, least, mean, self.candidates * self.iterations)

    def _fit(self, elites: Tensor, limits: ActionLimits) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of the next draw, (B, H, A) each, from elites (B, K, H, A)."""
        std = torch.maximum(elites.std(1, correction=0), self.least_std * limits.half_range)
        return elites.mean(1), std
