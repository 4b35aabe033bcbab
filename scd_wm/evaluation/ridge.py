"""Ridge regression in closed form, its penalty chosen on groups left out.

Axes: N rows, P inputs, A outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = tuple(10.0**power for power in range(-6, 4))  # of standardised inputs, a row
LEFT_OUT = 0.25  # of the groups, on which the penalty is chosen


@dataclass(frozen=True)
class Ridge:
    """A linear map of standardised inputs (Hoerl and Kennard 1970)."""

    centre: Tensor  # (P,)
    scale: Tensor  # (P,)
    weight: Tensor  # (P, A)
    bias: Tensor  # (A,)
    penalties: Tensor  # of each output, (A,)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return outputs, (..., A) float64, for inputs (..., P)."""
        return ((inputs.double() - self.centre) / self.scale) @ self.weight + self.bias


def fit_ridge(
    inputs: Tensor, outputs: Tensor, groups: Tensor, *, least_scale: float = 0.0
) -> Ridge:
    """Fit a linear map.

    The penalty of an output is the one with the least squared error on the last quarter of the
    groups when the others are fitted; rows of one episode resemble each other and must not be on
    both sides. Then all rows are fitted.

    Args:
        inputs: (N, P).
        outputs: (N, A).
        groups: Of each row, such as its episode, (N,).
        least_scale: Share of the inputs' root mean square deviation below which an input is not
            blown up; for inputs of one unit, such as shares of pixels, of which rare ones are
            noise.

    Raises:
        ValueError: If there are fewer than two groups.
    """
    names = torch.unique(groups)
    if len(names) < 2:
        raise ValueError(f"a ridge needs two groups to choose its penalty, got {len(names)}")
    x, y = inputs.double(), outputs.double()
    centre, deviation = x.mean(dim=0), x.std(dim=0)
    least = least_scale * deviation.square().mean().sqrt()
    scale = torch.where(deviation > 0, deviation, 1.0).clamp(min=least)
    bias, unit = y.mean(dim=0), y.std(dim=0)
    unit = torch.where(unit > 0, unit, 1.0)
    x, y = (x - centre) / scale, (y - bias) / unit
    tested = torch.isin(groups, names[-max(1, round(LEFT_OUT * len(names))) :])
    path = _Path(x[~tested], y[~tested])
    every = torch.tensor(PENALTIES, dtype=torch.float64)
    errors = [(x[tested] @ path.weight(p) - y[tested]).square().mean(dim=0) for p in every]
    penalties = every[torch.stack(errors).argmin(dim=0)]
    return Ridge(centre, scale, _Path(x, y).weight(penalties) * unit, bias, penalties)


class _Path:
    """The solutions for all penalties, by one decomposition of the smaller of X'X and XX'."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.rows, self.wide = x, len(x), x.shape[1] > len(x)
        values, self.vectors = torch.linalg.eigh((x @ x.T if self.wide else x.T @ x) / self.rows)
        self.values = values.clamp(min=0)
        self.target = self.vectors.T @ (y if self.wide else x.T @ y) / self.rows

    def weight(self, penalty: Tensor) -> Tensor:
        """Return the weight of least mean squared error plus `penalty` times its square, (P, A).

        Args:
            penalty: One for all outputs, (), or one for each, (A,).
        """
        solved = self.vectors @ (self.target / (self.values[:, None] + penalty))
        return self.x.T @ solved if self.wide else solved
