"""The improved cross-entropy method (Pinneri et al. 2020, arXiv:2008.06389).

Axes: B environments, N candidates, K elites, H actions of a plan, A values of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scd_wm.policies.cem import CEM
from scd_wm.policies.planner import ActionLimits, Costs, Plan, first_mean, normal, take


@dataclass(frozen=True, kw_only=True)
class ICEM(CEM):
    """CEM with noise that is correlated in time, elites that are kept, and fewer candidates later.

    The mean itself is a candidate of the last iteration. What is left of the last plan comes in by
    `start`, as for every planner.

    Raises:
        ValueError: As `CEM`, or if a share is out of range.
    """

    colour: float = 2.0  # beta: the power of frequency f is f^-beta; 0 is white, 2 is Brownian
    kept: float = 0.3  # share of the elites that are candidates again
    shrink: float = 1.25  # candidates of an iteration over those of the next

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.kept <= 1 and self.shrink >= 1 and self.colour >= 0):
            raise ValueError(
                "kept must be in [0, 1], shrink 1 or more and colour 0 or more, got "
                f"{self.kept}, {self.shrink} and {self.colour}"
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
        elites, least, num_costed = mean[:, None][:, :0], mean.new_zeros(batch), 0
        for iteration in range(self.iterations):
            count = max(2 * num_elites, round(self.candidates / self.shrink**iteration))
            noise = coloured_noise((batch, count, *mean.shape[1:]), self.colour, mean, random)
            plans = [limits.clamp(mean[:, None] + std[:, None] * noise), elites]
            if iteration == self.iterations - 1:
                plans.append(mean[:, None])
            every = torch.cat(plans, dim=1)
            found, index = costs(every).topk(num_elites, dim=1, largest=False)
            chosen = take(every, index)  # (B, K, H, A)
            mean, std = self._fit(chosen, limits)
            elites = chosen[:, : round(self.kept * num_elites)]
            least, num_costed = found[:, 0], num_costed + every.shape[1]
        return Plan(chosen[:, 0], least, mean, num_costed)


def coloured_noise(
    shape: tuple[int, ...], colour: float, like: Tensor, random: torch.Generator
) -> Tensor:
    """Return normal noise, (..., H, A), whose power falls with frequency along H as f^-colour.

    Timmer and Koenig 1995. The lowest frequency of a horizon stands for the constant too; variance
    is 1.
    """
    horizon, white = shape[-2], normal(shape, like, random)
    frequency = torch.fft.rfftfreq(horizon, device=like.device, dtype=like.dtype)
    scale = frequency.clamp(min=1 / horizon) ** (-colour / 2)  # (H // 2 + 1,)
    spectrum = torch.fft.rfft(white, dim=-2) * scale[:, None]
    # Each frequency but the constant and, for even H, the highest stands for two of the full sum.
    weight = torch.full_like(scale, 2.0)
    weight[0] = 1.0
    if horizon % 2 == 0:
        weight[-1] = 1.0
    variance = (weight * scale.square()).sum() / horizon
    return torch.fft.irfft(spectrum, n=horizon, dim=-2) / variance.sqrt()
