"""Model predictive path integral control (Williams et al. 2017, arXiv:1707.02342).

Axes: B environments, N candidates, H actions of a plan, A values of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scd_wm.policies.icem import coloured_noise
from scd_wm.policies.planner import ActionLimits, Costs, Plan, check_sizes, first_mean

TINY = 1e-8  # below which costs that differ by nothing are not divided by


@dataclass(frozen=True, kw_only=True)
class MPPI:
    """Draws plans around a mean, which becomes their average weighted by exp(-cost / temperature).

    Raises:
        ValueError: If a size is below 1 or a width not above 0.
    """

    horizon: int = 10
    candidates: int = 300
    iterations: int = 5
    std: float = 0.5  # of the draws, in halves of the range of actions
    temperature: float = 0.1  # in standard deviations of the candidates' costs
    colour: float = 0.0  # of the noise in time; see `coloured_noise`

    def __post_init__(self) -> None:
        check_sizes(self, "horizon", "candidates", "iterations")
        if not (self.std > 0 and self.temperature > 0):
            raise ValueError(
                f"std and temperature must be above 0, got {self.std} and {self.temperature}"
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
        least = mean.new_zeros(batch)
        for _ in range(self.iterations):
            shape = (batch, self.candidates, *mean.shape[1:])
            noise = coloured_noise(shape, self.colour, mean, random)
            plans = limits.clamp(mean[:, None] + self.std * limits.half_range * noise)
            found = costs(plans)  # (B, N)
            least = found.amin(1)
            spread = found.std(1, correction=0, keepdim=True).clamp(min=TINY)
            weight = torch.softmax(-found / (self.temperature * spread), dim=1)
            mean = (weight[:, :, None, None] * plans).sum(1)
        return Plan(mean, least, mean, self.candidates * self.iterations)
