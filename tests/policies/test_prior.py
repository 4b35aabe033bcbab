"""A policy's own plans, imagined with noise and ranked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm import imagination, testing
from scd_wm.imagination import Frames
from scd_wm.policies.batched import FromFunction
from scd_wm.policies.mpc import ImaginedCosts, MPCConfig
from scd_wm.policies.planner import ActionLimits
from scd_wm.policies.prior import PolicyPrior

STATE = testing.state_spec()
LIMITS = ActionLimits(-torch.ones(2), torch.ones(2))
B, N, H = 2, 5, 3


def follows(seen: dict[str, Tensor]) -> Tensor:
    return (0.3 * seen["a"]).clamp(-0.5, 0.5)


def costs(goal: float = 0.0, action_repeat: int = 1) -> ImaginedCosts:
    model = testing.untied(testing.model(STATE), seed=0).eval()
    state = imagination.begin(model, testing.clip(STATE, B, 3), torch.tensor([5, 6]))

    def cost(frames: Frames) -> Tensor:
        return (frames.vectors["a"] - goal).square().sum(-1)

    return ImaginedCosts(model, state, cost, MPCConfig(action_repeat=action_repeat))


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("action_repeat", [1, 2])
def test_without_noise_the_plan_is_what_the_policy_does_in_imagination(action_repeat: int) -> None:
    own = costs(action_repeat=action_repeat)
    prior = PolicyPrior(policy=FromFunction(follows), horizon=H, candidates=N, std=0.0)
    plan = prior.plan(own, LIMITS, B, random())
    state, seen, expected = own.state.clone(), None, []
    layout = own.model.layout
    seen = layout.unpack_vectors(state.last)
    for _ in range(H):
        expected.append(follows(seen))
        for _ in range(action_repeat):
            seen = imagination.step(own.model, state, expected[-1]).observation
    torch.testing.assert_close(plan.actions, torch.stack(expected, 1))
    assert plan.num_costed == N


def test_noise_finds_plans_that_are_no_worse_and_each_row_gets_its_own() -> None:
    own = costs(goal=2.0)
    plain, noisy = (
        PolicyPrior(policy=FromFunction(follows), horizon=H, candidates=N, std=std).plan(
            own, LIMITS, B, random()
        )
        for std in (0.0, 0.5)
    )
    assert (noisy.cost <= plain.cost + 1e-6).all()
    assert (noisy.cost < plain.cost - 1e-4).any()
    torch.testing.assert_close(own(noisy.actions[:, None])[:, 0], noisy.cost)
    assert (noisy.actions.abs() <= 1).all()


def test_a_policy_is_not_made_to_stand_still_by_what_is_left_of_the_last_plan() -> None:
    own = costs()  # zero is the best that there is
    prior = PolicyPrior(
        policy=FromFunction(lambda seen: torch.ones(B * N, 2)), horizon=H, candidates=N, std=0.0
    )
    best = prior.plan(own, LIMITS, B, random(), start=torch.zeros(B, H, 2))
    torch.testing.assert_close(best.actions, torch.ones(B, H, 2))
    assert best.num_costed == N


def test_costs_that_nothing_imagines_and_bad_sizes_are_refused() -> None:
    prior = PolicyPrior(policy=FromFunction(follows), horizon=H, candidates=N)
    with pytest.raises(TypeError, match="costs must be"):
        prior.plan(lambda plans: plans.sum((2, 3)), LIMITS, B, random())
    for changes in ({"horizon": 0}, {"candidates": 0}, {"std": -0.1}):
        with pytest.raises(ValueError, match="must be"):
            PolicyPrior(policy=FromFunction(follows), **changes)


def test_a_policy_sees_what_the_data_has() -> None:
    shapes = {}

    def looks(seen: dict[str, Tensor]) -> Tensor:
        shapes.update({name: (tuple(v.shape), v.dtype) for name, v in seen.items()})
        return torch.zeros(len(seen["top"]), 2)

    spec = testing.image_spec()
    model = testing.model(spec).eval()
    state = imagination.begin(model, testing.clip(spec, 1, 2))
    own = ImaginedCosts(model, state, lambda f: f.outcome["reward"], MPCConfig())
    limits = ActionLimits(-torch.ones(spec.action.dim), torch.ones(spec.action.dim))
    PolicyPrior(policy=FromFunction(looks), horizon=2, candidates=3).plan(own, limits, 1, random())
    assert shapes["top"] == ((3, 16, 24, 3), torch.uint8)
    assert np.prod(shapes["proprio"][0]) == 3 * 3
