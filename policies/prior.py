"""Plans that a policy would carry out, imagined with noise on its actions and ranked by the model.

What a learned policy proposes is where it was taught to go; of many such ways the model chooses the
one that its goal likes best (as in policy-guided planning, Hansen et al. 2022, arXiv:2203.04955).

Axes: B environments, N candidates, H actions of a plan, A values of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from scd_wm import imagination
from scd_wm.policies.mpc import ImaginedCosts
from scd_wm.policies.planner import ActionLimits, Costs, Plan, check_sizes, normal
from scd_wm.policies.proposals import RankedProposals
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

        Raises:
            TypeError: If the costs are not those of imagined plans.
        """
        if not isinstance(costs, ImaginedCosts):
            raise TypeError(f"a policy's plans are imagined, so costs must be, got {costs!r}")

        def propose(batch: int, count: int, horizon: int, random: torch.Generator) -> Tensor:
            return self._imagine(costs, limits, random)

        ranked = RankedProposals(propose=propose, horizon=self.horizon, candidates=self.candidates)
        best = ranked.plan(costs, limits, batch, random, start)
        # Proposing imagines each candidate once more.
        return Plan(best.actions, best.cost, best.mean, best.num_costed + self.candidates)

    def _imagine(
        self, costs: ImaginedCosts, limits: ActionLimits, random: torch.Generator
    ) -> Tensor:
        """Return what the policy does in imagination, (B, N, H, A)."""
        model, config = costs.model, costs.config
        state = costs.state.fork(
            self.candidates, self.horizon * config.action_repeat, common_noise=True
        )
        self.policy.reset(int(torch.randint(SEEDS, (), generator=random, device=random.device)))
        layout = model.layout
        seen = {**layout.unpack_images(state.last), **layout.unpack_vectors(state.last)}
        is_noisy = torch.arange(len(state.last), device=state.last.device) % self.candidates != 0
        plans = []
        for _ in range(self.horizon):
            wanted = self.policy.act({name: value.cpu().numpy() for name, value in seen.items()})
            action = torch.as_tensor(wanted).to(limits.low)
            noise = self.std * limits.half_range * normal(tuple(action.shape), action, random)
            action = limits.clamp(action + is_noisy[:, None] * noise)
            plans.append(action)
            for _ in range(config.action_repeat):
                frames = imagination.step(model, state, action, config.num_steps)
            seen = frames.observation
        return rearrange(torch.stack(plans, dim=1), "(b n) h a -> b n h a", n=self.candidates)
