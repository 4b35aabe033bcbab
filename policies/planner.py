"""What all planners share: from costs of plans to a plan, for many environments at once.

A planner knows nothing of the model: it is given a function that costs plans. To add one: a file
like `policies/cem.py` and a line in `policies/planners.py`.

Axes: B environments, N candidates, H actions of a plan, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Costs = Callable[[Tensor], Tensor]
"""Maps plans, (B, N, H, A) within the limits, to their costs, (B, N); lower is better."""


@dataclass(frozen=True)
class ActionLimits:
    """Least and greatest action, (A,) each, in the units of the data.

    Raises:
        ValueError: If they are not finite, or one is not below the other.
    """

    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        finite = bool(torch.isfinite(self.low).all() and torch.isfinite(self.high).all())
        if (
            self.low.shape != self.high.shape
            or not finite
            or not bool((self.low < self.high).all())
        ):
            raise ValueError(
                "a planner needs finite limits of actions, low below high, got "
                f"{self.low.tolist()} and {self.high.tolist()}"
            )

    @property
    def middle(self) -> Tensor:
        """The action halfway, (A,)."""
        return (self.low + self.high) / 2

    @property
    def half_range(self) -> Tensor:
        """Distance of the limits from the middle, (A,)."""
        return (self.high - self.low) / 2

    def clamp(self, actions: Tensor) -> Tensor:
        """Return actions, (..., A), brought within the limits."""
        return torch.maximum(torch.minimum(actions, self.high), self.low)


@dataclass(frozen=True)
class Plan:
    """What a planner found for each environment."""

    actions: Tensor  # (B, H, A) the plan to follow
    cost: Tensor  # (B,) of it, or the least that was seen
    mean: Tensor  # (B, H, A) to start the next plan from
    num_costed: int  # plans that were costed for each environment

    def shifted(self, count: int) -> Tensor:
        """Return what is left of `mean` after `count` actions, its last one repeated, (B, H, A)."""
        left = self.mean[:, min(count, self.mean.shape[1] - 1) :]
        rest = left[:, -1:].expand(-1, self.mean.shape[1] - left.shape[1], -1)
        return torch.cat([left, rest], dim=1)


class Planner(Protocol):
    """Searches for a plan of low cost."""

    @property
    def horizon(self) -> int:
        """Actions H of a plan."""

    def plan(
        self,
        costs: Costs,
        limits: ActionLimits,
        batch: int,
        random: torch.Generator,
        start: Tensor | None = None,
    ) -> Plan:
        """Return a plan for each environment.

        Args:
            costs: Costs plans.
            limits: Of actions.
            batch: Environments B.
            random: Where all randomness comes from.
            start: A plan to start from, (B, H, A), such as what is left of the last one; None is
                the middle of the limits throughout.
        """


def first_mean(start: Tensor | None, limits: ActionLimits, batch: int, horizon: int) -> Tensor:
    """Return what a search starts from, (B, H, A).

    Raises:
        ValueError: If `start` has another shape.
    """
    shape = (batch, horizon, len(limits.low))
    if start is None:
        return limits.middle.expand(shape)
    if start.shape != shape:
        raise ValueError(f"a plan to start from must be {shape}, got {tuple(start.shape)}")
    return start


def normal(shape: tuple[int, ...], like: Tensor, random: torch.Generator) -> Tensor:
    """Return standard normal numbers with the device and dtype of `like`."""
    return torch.randn(shape, generator=random, dtype=like.dtype, device=like.device)


def take(plans: Tensor, index: Tensor) -> Tensor:
    """Return chosen plans of each environment: (B, N, H, A) at (B, K) is (B, K, H, A)."""
    return plans.take_along_dim(index[:, :, None, None], dim=1)


def check_sizes(config: object, *names: str) -> None:
    """Raise ValueError unless fields of a planner are 1 or more."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be 1 or more, got {getattr(config, name)}")
