"""The sampler against closed forms for Gaussian data, and the keyed noise."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from scd_wm.model import flow, noise

MEAN, STD = 0.7, 0.3


def _posterior_mean(x: Tensor, s: Tensor) -> Tensor:
    """Exact denoiser for x ~ N(MEAN, STD^2): E[x | (1 - s) x + s eps]."""
    gain = (1 - s) * STD**2 / ((1 - s) ** 2 * STD**2 + s**2)
    return MEAN + gain * (x - (1 - s) * MEAN)


def _sample(solver: str, eps: Tensor, num_steps: int) -> Tensor:
    levels = flow.levels(num_steps)
    return flow.SOLVERS[solver](
        lambda i, x: _posterior_mean(x, torch.tensor(levels[i])), eps, levels
    )


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_a_solver_converges_with_its_order_to_the_exact_end_of_the_flow(
    solver: str, order: int
) -> None:
    eps = torch.randn(1000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = MEAN + STD * eps  # the flow keeps quantiles, and s = 1 has mean 0, deviation 1
    errors = [(_sample(solver, eps, steps) - exact).abs().mean() for steps in (32, 64, 128)]
    for coarse, fine in pairwise(errors):
        assert 0.9 * 2**order < coarse / fine < 1.1 * 2**order


@pytest.mark.parametrize("solver", flow.SOLVERS)
def test_one_step_is_the_prediction_from_pure_noise(solver: str) -> None:
    eps = torch.randn(10, 1)
    assert torch.allclose(_sample(solver, eps, 1), torch.full((10, 1), MEAN))


@pytest.mark.parametrize(
    ("solver", "asked"),
    [("euler", [1.0, 0.75, 0.5, 0.25]), ("heun", [1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25])],
)
def test_a_solver_asks_for_noise_levels_from_one_down_to_one_step_above_zero(
    solver: str, asked: list[float]
) -> None:
    got: list[float] = []
    levels = flow.levels(4)

    def denoise(index: int, x: Tensor) -> Tensor:
        got.append(levels[index])
        return x

    flow.solver(solver)(denoise, torch.zeros(1, 1, dtype=torch.float64), levels)
    assert got == asked
    assert flow.num_evaluations(flow.Sampler(4, solver)) == len(got)


def test_an_unknown_solver_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match=r"one of \('euler', 'heun'\), got 'rk4'"):
        flow.solver("rk4")


def test_zero_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        flow.levels(0)


def test_the_stated_share_of_noise_levels_is_one() -> None:
    levels = flow.draw_noise_levels(torch.arange(500), 100, full_noise_fraction=0.2)
    assert abs((levels == 1).float().mean() - 0.2) < 0.01
    rest = levels[levels < 1]
    assert abs(torch.logit(rest).mean()) < 0.02
    assert abs(torch.logit(rest).std() - 1) < 0.02


def test_keyed_noise_is_standard_normal_and_uncorrelated_between_keys() -> None:
    x = noise.normal(torch.arange(200), 5000)
    assert abs(x.mean()) < 0.005
    assert abs(x.std() - 1) < 0.005
    assert abs((x**4).mean() - 3) < 0.05
    correlation = torch.corrcoef(x) - torch.eye(200)
    assert correlation.abs().max() < 0.08  # five standard errors
    lagged = (x[:, 1:] * x[:, :-1]).mean()
    assert abs(lagged) < 0.005


def test_keyed_noise_depends_on_the_key_alone() -> None:
    keys = torch.arange(10)
    whole = noise.normal(keys, 64)
    assert torch.equal(noise.normal(keys[7:8], 64)[0], whole[7])
    assert len(torch.unique(noise.derive(keys, 3))) == 10
    assert not torch.equal(noise.derive(keys, 3), noise.derive(keys, 4))


def test_uniform_noise_fills_the_unit_interval_evenly() -> None:
    x = noise.uniform(torch.arange(100), 1000)
    assert (x > 0).all()
    assert (x < 1).all()
    assert (
        noise.uniform(torch.tensor(74078248), 1) < 1
    )  # the 24 random bits of this key are all ones
    counts = torch.histc(x, 10, 0, 1)
    assert (counts / 10_000 - 1).abs().max() < 0.05


def test_sample_loss_weight_is_one_at_full_noise_and_undoes_the_best_error() -> None:
    delta = torch.tensor([0.1])
    s = torch.tensor([[1.0], [0.5], [0.1]])
    best = s**2 / (s**2 + delta**2 * (1 - s) ** 2)
    assert torch.allclose(flow.sample_loss_weight(s, delta) * best, torch.ones(3, 1))
