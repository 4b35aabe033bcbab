"""Plans that something else proposes, such as a learned policy, ranked by the model.

Axes: B environments, N candidates, H actions of a plan, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scd_wm.policies.planner import ActionLimits, Costs, Plan, check_sizes

Propose = Callable[[int, int, int, torch.Generator], Tensor]
"""Maps (B, N, H, random) to plans, (B, N, H, A)."""


@dataclass(frozen=True, kw_only=True)
class RankedProposals:
    """Takes the best of some proposals.

    Raises:
        ValueError: If a size is below 1.
    """

    propose: Propose
    horizon: int = 10
    candidates: int = 64

    def __post_init__(self) -> None:
        check_sizes(self, "horizon", "candidates")

    def plan(
        self,
        costs: Costs,
        limits: ActionLimits,
        batch: int,
        random: torch.Generator,
        start: Tensor | None = None,
    ) -> Plan:
        """Return a plan for each environment; `start`, if given, is one of the candidates.

        Raises:
            ValueError: If the proposals have another shape.
        """
        plans = self.propose(batch, self.candidates, self.horizon, random)
        wanted = (batch, self.candidates, self.horizon, len(limits.low))
        if plans.shape != wanted:
            raise ValueError(f"proposals must be {wanted}, got {tuple(plans.shape)}")
        if start is not None:
            plans = torch.cat([plans, start[:, None]], dim=1)
        plans = limits.clamp(plans)
        found, index = costs(plans).min(dim=1)
        best = plans[torch.arange(batch, device=plans.device), index]
        return Plan(best, found, best, plans.shape[1])
