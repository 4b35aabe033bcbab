import numpy as np
import pytest
import torch

from scd_wm.evaluation.ridge import Ridge, fit_ridge


def data(rows: int, inputs: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inputs, generator=generator, dtype=torch.float64) * 3 + 1
    weight = torch.randn(inputs, 2, generator=generator, dtype=torch.float64)
    y = x @ weight + noise * torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    return x, y, torch.arange(rows) % 5


def by_hand(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """The weights that solve the normal equations of standardised inputs and outputs."""
    x, y = ((v - v.mean(0)) / v.std(0, ddof=1) for v in (x, y))
    return np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(x.shape[1]), x.T @ y / len(x))


@pytest.mark.parametrize("inputs", [3, 60], ids=["more rows", "more inputs"])
def test_the_weights_solve_the_normal_equations(inputs: int) -> None:
    x, y, groups = data(40, inputs, 0.5)
    ridge = fit_ridge(x, y, groups)
    for i, penalty in enumerate(ridge.penalties.tolist()):
        wanted = by_hand(x.numpy(), y.numpy(), penalty)[:, i] * y[:, i].std().item()
        np.testing.assert_allclose(ridge.weight[:, i], wanted, rtol=1e-6, atol=1e-9)


def test_what_is_linear_is_found_and_each_output_has_its_own_penalty() -> None:
    x, y, groups = data(200, 4, 0.0)
    y[:, 1] = torch.randn(200, generator=torch.Generator().manual_seed(1)).double()
    ridge = fit_ridge(x, y, groups)
    torch.testing.assert_close(ridge(x)[:, 0], y[:, 0], rtol=1e-3, atol=1e-3)
    assert ridge.penalties[0] < 1e-4
    assert ridge.penalties[1] > 1000 * ridge.penalties[0]


def test_a_constant_input_does_no_harm() -> None:
    x, y, groups = data(50, 3, 0.1)
    with_constant = fit_ridge(torch.cat([x, torch.ones(50, 1)], dim=1), y, groups)
    assert isinstance(with_constant, Ridge)
    torch.testing.assert_close(with_constant.weight[:3], fit_ridge(x, y, groups).weight)


def test_one_group_is_refused() -> None:
    with pytest.raises(ValueError, match="needs two groups"):
        fit_ridge(torch.randn(5, 2), torch.randn(5, 1), torch.zeros(5))
