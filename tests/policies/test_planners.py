"""Planners on costs whose optimum is known, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm.commands.acting import PLANNERS as PLANNER_NAMES
from scd_wm.planning.run import NAMES
from scd_wm.policies.icem import coloured_noise
from scd_wm.policies.planner import ActionLimits, Costs, Plan, Planner
from scd_wm.policies.planners import PLANNERS, make_planner

H, A, B = 6, 2, 3
LIMITS = ActionLimits(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 10.0]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def target(seed: int = 1) -> Tensor:
    """Return another best plan for each environment, well within the limits, (B, H, A)."""
    unit = 1.4 * torch.rand(B, H, A, generator=generator(seed)) - 0.7
    return LIMITS.middle + LIMITS.half_range * unit


def bowl(best: Tensor) -> Costs:
    """Return costs that grow with the squared distance from the best plan."""

    def costs(plans: Tensor) -> Tensor:
        assert (plans >= LIMITS.low).all()
        assert (plans <= LIMITS.high).all()
        return ((plans - best[:, None]) / LIMITS.half_range).square().sum((2, 3))

    return costs


@pytest.fixture(params=PLANNERS)
def planner(request: pytest.FixtureRequest) -> Planner:
    """Every planner, set to find a point rather than to move smoothly."""
    own = {"icem": {"colour": 0.0}, "mppi": {"std": 0.2}}.get(request.param, {})
    return make_planner(request.param, horizon=H, candidates=200, iterations=12, **own)


def distance(plan: Tensor, best: Tensor) -> Tensor:
    return ((plan - best) / LIMITS.half_range).square().mean((1, 2)).sqrt()


def test_each_environment_gets_the_optimum_of_its_own_bowl(planner: Planner) -> None:
    best = target()
    plan = planner.plan(bowl(best), LIMITS, B, generator())
    start = distance(LIMITS.middle.expand(B, H, A), best)
    assert plan.actions.shape == plan.mean.shape == (B, H, A)
    assert (distance(plan.actions, best) < 0.25 * start).all()
    assert plan.cost.shape == (B,)


def test_the_planner_finds_the_optimum_of_a_quadratic() -> None:
    target = torch.tensor([[0.5, -1.0], [1.5, 0.0]])
    limits = ActionLimits(torch.full((2,), -2.0), torch.full((2,), 2.0))

    def costs(plans: Tensor) -> Tensor:
        return (plans - target).square().sum((2, 3))

    def plan(iterations: int) -> Tensor:
        planner = make_planner("cem", horizon=2, candidates=200, iterations=iterations)
        return planner.plan(costs, limits, 1, generator()).mean

    assert (plan(10) - target).abs().max() < 0.05
    assert (plan(1) - target).abs().max() > 0.05  # one iteration does not do


def test_a_plan_to_start_from_is_used(planner: Planner) -> None:
    best = target()
    short = replace(planner, candidates=40, iterations=1)  # type: ignore[type-var]  # dataclasses
    cold = short.plan(bowl(best), LIMITS, B, generator())
    warm = short.plan(bowl(best), LIMITS, B, generator(), start=best)
    assert (distance(warm.mean, best) < distance(cold.mean, best)).all()
    with pytest.raises(ValueError, match=r"must be \(3, 6, 2\), got \(3, 5, 2\)"):
        short.plan(bowl(best), LIMITS, B, generator(), start=best[:, 1:])


def test_the_optimum_outside_the_limits_is_met_at_the_limits(planner: Planner) -> None:
    best = LIMITS.high.expand(B, H, A) + LIMITS.half_range
    plan = planner.plan(bowl(best), LIMITS, B, generator())
    assert ((LIMITS.high - plan.actions) / LIMITS.half_range).mean() < 0.2


def test_the_same_seed_gives_the_same_plan(planner: Planner) -> None:
    first, again, other = (
        planner.plan(bowl(target()), LIMITS, B, generator(seed)) for seed in (4, 4, 5)
    )
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, other.actions)


def test_what_is_costed_is_counted(planner: Planner) -> None:
    seen = 0

    def costs(plans: Tensor) -> Tensor:
        nonlocal seen
        seen += plans.shape[1]
        return bowl(target())(plans)

    assert planner.plan(costs, LIMITS, B, generator()).num_costed == seen


def test_costs_that_are_all_equal_do_no_harm(planner: Planner) -> None:
    plan = planner.plan(lambda plans: torch.ones(plans.shape[:2]), LIMITS, B, generator())
    assert torch.isfinite(plan.actions).all()


@pytest.mark.parametrize("name", ["cem", "icem"])
def test_the_plan_is_the_best_that_was_seen_last(name: str) -> None:
    best = target()
    plan = make_planner(name, horizon=H, candidates=50, iterations=3).plan(
        bowl(best), LIMITS, B, generator()
    )
    torch.testing.assert_close(bowl(best)(plan.actions[:, None])[:, 0], plan.cost)


def test_kept_elites_never_lose_the_best_plan() -> None:
    settings: dict[str, Any] = {"horizon": H, "candidates": 40, "colour": 1.0, "shrink": 1.0}
    costs = [
        make_planner("icem", iterations=n, **settings)
        .plan(bowl(target()), LIMITS, B, generator())
        .cost
        for n in (2, 5, 9)
    ]
    assert (costs[1] <= costs[0]).all()
    assert (costs[2] <= costs[1]).all()


@pytest.mark.parametrize("horizon", [9, 10])
@pytest.mark.parametrize("colour", [0.0, 2.0])
def test_coloured_noise_has_variance_1_and_its_spectrum(horizon: int, colour: float) -> None:
    noise = coloured_noise((20_000, horizon, 1), colour, torch.zeros(1), generator())
    assert abs(float(noise.var()) - 1) < 0.03
    power = torch.fft.rfft(noise[..., 0], dim=1).abs().square().mean(0)[1:]
    frequency = torch.fft.rfftfreq(horizon)[1:]
    ratio = (power[:-1] / power[1:])[: len(frequency) // 2]
    wanted = ((frequency[1:] / frequency[:-1]) ** colour)[: len(ratio)]
    torch.testing.assert_close(ratio, wanted, rtol=0.08, atol=0.0)


def test_the_rest_of_a_plan_goes_on_with_its_last_action() -> None:
    mean = torch.arange(4.0)[None, :, None]
    plan = Plan(mean, torch.zeros(1), mean, 1)
    assert plan.shifted(1)[0, :, 0].tolist() == [1, 2, 3, 3]
    assert plan.shifted(9)[0, :, 0].tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("newton", {}, "unknown planner 'newton'; there are"),
        ("cem", {"horizon": 0}, "horizon must be 1 or more, got 0"),
        ("cem", {"elites": 0.0}, "elites must be in"),
        ("icem", {"shrink": 0.5}, "shrink 1 or more"),
        ("mppi", {"temperature": 0.0}, "temperature must be above 0"),
        ("mppi", {"elites": 0.1}, "planner 'mppi': .*elites"),
    ],
)
def test_impossible_planners_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_planner(name, **settings)


@pytest.mark.parametrize("high", [[1.0, float("inf")], [1.0, -1.0]])
def test_limits_are_finite_and_in_order(high: list[float]) -> None:
    with pytest.raises(ValueError, match="finite limits of actions, low below high"):
        ActionLimits(torch.tensor([0.0, 0.0]), torch.tensor(high))


def test_the_command_line_names_all_planners() -> None:
    assert PLANNER_NAMES == NAMES
    assert {*PLANNERS} < {*NAMES}
