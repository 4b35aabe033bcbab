"""Plans that a policy would carry out, imagined with noise on its actions and ranked by the model.

What a learned policy proposes is where it was taught to go; of many such ways the model chooses the
one that its goal likes best (as in policy-guided planning, Hansen et al. 2022, arXiv:2203.04955).

Axes: B environments, N candidates, H actions of a plan, A values of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from scd_wm.policies.mpc import ImaginedCosts
from scd_wm.policies.planner import ActionLimits, Costs, Plan, check_sizes, normal
from scd_wm.policies.protocol import BatchedPolicy

SEEDS = 2**31


@dataclass(frozen=True, kw_only=True)
class PolicyPrior:
    """Lets a policy act in imagination, many times with noise, and takes the best of these plans.

    The first candidate of each environment is without noise, so that no noise can make a plan worse
    than the policy's own, as the model sees it. The policy begins anew with every plan.

    Args:
        policy: Acts on B N rows at once.
        horizon: Actions H of a plan.
        candidates: N of each environment.
        std: Of the noise, in halves of the range of actions.

    Raises:
        ValueError: If a size is below 1 or `std` negative.
    """

    policy: BatchedPolicy
    horizon: int = 10
    candidates: int = 32
    std: float = 0.2

    def __post_init__(self) -> None:
        check_sizes(self, "horizon", "candidates")
        if self.std < 0:
            raise ValueError(f"std must be 0 or more, got {self.std}")

    def plan(
        self,
        costs: Costs,
        limits: ActionLimits,
        batch: int,
        random: torch.Generator,
        start: Tensor | None = None,
    ) -> Plan:
        """Return a plan for each environment; see `Planner.plan`.

        `start` is not used: what is left of the last plan ends in its last action repeated, often
        that of standing still, which costs nothing in sight where the way to the goal is long.

        Raises:
            TypeError: If the costs are not those of imagined plans.
        """
        if not isinstance(costs, ImaginedCosts):
            raise TypeError(f"a policy's plans are imagined, so costs must be, got {costs!r}")
        self.policy.reset(int(torch.randint(SEEDS, (), generator=random, device=random.device)))
        plans, found = costs.follow(
            partial(self._choose, costs, limits, random), self.candidates, self.horizon
        )
        least, index = found.min(dim=1)
        best = plans[torch.arange(batch, device=plans.device), index]
        return Plan(best, least, best, plans.shape[1])

    def _choose(
        self,
        costs: ImaginedCosts,
        limits: ActionLimits,
        random: torch.Generator,
        number: int,
        seen: Mapping[str, Tensor],
    ) -> Tensor:
        """Return what the policy does next, with noise for all but the first candidates."""
        shown = costs.shown(seen)
        wanted = self.policy.act({name: value.cpu().numpy() for name, value in shown.items()})
        action = torch.as_tensor(wanted).to(limits.low)
        is_noisy = torch.arange(len(action), device=action.device) % self.candidates != 0
        noise = self.std * limits.half_range * normal(tuple(action.shape), action, random)
        return limits.clamp(action + is_noisy[:, None] * noise)
