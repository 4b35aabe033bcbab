"""Flow matching: the path from data to noise, what the network predicts on it, and the sampler.

The path is x_s = (1 - s) x + s eps with velocity v = eps - x (Lipman et al. 2023, arXiv:2210.02747;
Liu et al. 2023, arXiv:2209.03003). s = 1 is pure noise.

Axes: B frames, M values of a packed frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from scd_wm.model.noise import derive, normal, uniform

Denoise = Callable[[int, Tensor], Tensor]
"""Maps (number i of the level, x_s at it, (B, M)) to the predicted sample x^, (B, M)."""

Solver = Callable[[Denoise, Tensor, Sequence[float]], Tensor]
"""Maps (denoiser, eps, levels from `levels`) to the sample, (B, M)."""


@dataclass(frozen=True)
class Sampler:
    """How frames are sampled."""

    num_steps: int  # T
    solver: str = "euler"  # of SOLVERS
    guidance: float = 1.0  # g of `scd_wm.model.guidance`; 1 for none


# Below this a velocity made from a sample prediction would divide by almost nothing.
MIN_NOISE_LEVEL = 0.05


def interpolate(x: Tensor, noise: Tensor, noise_level: Tensor) -> Tensor:
    """Return x_s, (..., M), on the path from data `x` to `noise` at levels (...)."""
    s = noise_level[..., None]
    return (1 - s) * x + s * noise


def draw_noise_levels(keys: Tensor, size: int, full_noise_fraction: float) -> Tensor:
    """Return training noise levels, (..., size): logit-normal(0, 1), a share of them exactly 1.

    A sampler of few steps starts at s = 1, which the logit-normal hardly ever draws.
    """
    levels = torch.sigmoid(normal(derive(keys, 0), size))
    is_full = uniform(derive(keys, 1), size) < full_noise_fraction
    return torch.where(is_full, 1.0, levels)


def sample_loss_weight(noise_level: Tensor, delta_std: Tensor) -> Tensor:
    """Weight of the squared error of f, the residual in units of its deviation.

    With residual deviation d the best possible error of f at level s is about
    s^2 / (s^2 + d^2 (1 - s)^2): noise far below d tells the answer. The weight is its inverse, so
    that no noise level dominates; it is 1 at s = 1, where few-step sampling works. The velocity
    loss would have d^2 / s^2, which drowns s = 1 by 1 / d^2, a hundredfold for pixels.

    Args:
        noise_level: (..., 1).
        delta_std: d, (..., M).
    """
    s = noise_level.clamp(min=MIN_NOISE_LEVEL)
    return 1 + (delta_std * (1 - s) / s).square()


def levels(num_steps: int) -> list[float]:
    """Return a sampler's noise levels from 1 to 0, num_steps + 1 of them.

    Raises:
        ValueError: If `num_steps` is below 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    return [1 - i / num_steps for i in range(num_steps)] + [0.0]


def euler(denoise: Denoise, noise: Tensor, levels: Sequence[float]) -> Tensor:
    """Integrate the probability flow from noise towards data, with an error of order 1 / T.

    Written in x-prediction: x_s' = x_s + (s' - s) (x_s - x^) / s is the blend below, which at
    s' = 0 is exactly x^.

    Args:
        denoise: Gives the predicted sample.
        noise: x_s at the first level, (B, M): eps at s = 1.
        levels: Falling noise levels, from `levels` or a part of them.

    Returns:
        x_s at the last level, (B, M): the sample at s = 0.
    """
    x = noise
    for i, (now, then) in enumerate(pairwise(levels)):
        x = torch.lerp(denoise(i, x), x, then / now)
    return x


def heun(denoise: Denoise, noise: Tensor, levels: Sequence[float]) -> Tensor:
    """As `euler`, with an error of order 1 / T^2 for 2 T - 1 evaluations instead of T.

    A step of Euler is followed by another with the mean of the velocities (x_s - x^) / s at both
    ends (Karras et al. 2022, arXiv:2206.00364, algorithm 1, in our variables). There is no velocity
    at s = 0, so the last step is Euler's; it is one step of local error 1 / T^2.
    """
    x = noise
    for i, (now, then) in enumerate(pairwise(levels)):
        sample = denoise(i, x)
        end = torch.lerp(sample, x, then / now)
        if then > 0:
            mean = ((x - sample) / now + (end - denoise(i + 1, end)) / then) / 2
            end = x + (then - now) * mean
        x = end
    return x


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun}


def solver(name: str) -> Solver:
    """Return a solver by its name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in SOLVERS:
        raise ValueError(f"solver must be one of {tuple(SOLVERS)}, got {name!r}")
    return SOLVERS[name]


def num_evaluations(sampler: Sampler) -> int:
    """Return how often a frame runs the denoiser."""
    steps = 2 * sampler.num_steps - 1 if sampler.solver == "heun" else sampler.num_steps
    return steps if sampler.guidance == 1 else 2 * steps
