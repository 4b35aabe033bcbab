"""Does imagination rank policies as reality does? Statistics over policies, with intervals.

A statistic that is not defined, such as a correlation where one side is the same for all policies,
is NaN and never 0.

Axes: P policies, E starts, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.bootstrap import finite, quantiles

Array = NDArray[np.float64]
Statistic = Callable[[Array, Array], Array]
"""Of real and imagined results of policies, (..., P) each; gives (...)."""

RESAMPLES = 2000
TAIL = 0.025  # of resamples beyond either end of an interval
SAME = 1e-12  # results whose range is within this share of the largest differ by rounding only


def pearson(real: Array, imagined: Array) -> Array:
    """Return Pearson's correlation; NaN where a side is constant."""
    a, b = (x - x.mean(axis=-1, keepdims=True) for x in (real, imagined))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.where(_is_constant(real) | _is_constant(imagined), np.nan, value)


def spearman(real: Array, imagined: Array) -> Array:
    """Return Spearman's rank correlation, equal results sharing the mean of their ranks."""
    present = ~(np.isnan(real).any(-1) | np.isnan(imagined).any(-1))
    return np.where(present, pearson(_ranks(real), _ranks(imagined)), np.nan)


def mmrv(real: Array, imagined: Array) -> Array:
    """Return the mean maximum rank violation; 0 is the same order, in the units of the results.

    Li et al. 2024 (SIMPLER, arXiv:2405.05941), section 3: of each policy the largest real
    difference from a policy that imagination puts on the other side of it, and the mean of these.
    As there, "on the other side" is `(imagined_i < imagined_j) != (real_i < real_j)`, so where
    imagination ties two policies the worse one is charged; the authors' code has `>`, and charges
    the better one.
    """
    gap = np.abs(real[..., :, None] - real[..., None, :])
    wrong = _below(imagined) != _below(real)
    worst = np.where(wrong, gap, 0.0).max(axis=-1)
    # A difference from NaN is NaN, but a comparison with it is False, and hides it.
    return np.where(np.isnan(imagined).any(-1) | np.isnan(real).any(-1), np.nan, worst.mean(-1))


def mean_error(real: Array, imagined: Array) -> Array:
    """Return how far imagined results are from real ones, the mean over policies."""
    return np.abs(imagined - real).mean(axis=-1)


def mean_optimism(real: Array, imagined: Array) -> Array:
    """Return by how much imagination flatters policies, the mean over them."""
    return (imagined - real).mean(axis=-1)


STATISTICS: Mapping[str, Statistic] = {
    "pearson": pearson,
    "spearman": spearman,
    "mmrv": mmrv,
    "mean_error": mean_error,
    "mean_optimism": mean_optimism,
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic with 95 % bootstrap intervals; NaN where it is not defined."""

    value: float
    of_episodes: tuple[float, float]  # other starts, these policies
    of_both: tuple[float, float]  # other starts and other policies like these
    undefined_of_episodes: float  # share of the resamples that give no value and do not count
    undefined_of_both: float

    def to_json(self) -> dict[str, Any]:
        """Return the numbers in JSON types; what is not defined is null."""
        low, high = (finite(x) for x in self.of_episodes)
        low_of_both, high_of_both = (finite(x) for x in self.of_both)
        return {
            "value": finite(self.value),
            "interval_over_episodes": [low, high],
            "interval_over_policies_and_episodes": [low_of_both, high_of_both],
            "undefined_over_episodes": self.undefined_of_episodes,
            "undefined_over_policies_and_episodes": self.undefined_of_both,
        }


def compare_rankings(
    real: Array,
    imagined: Array,
    counted: NDArray[np.bool_],
    *,
    seed: int,
    num_resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Compare results of policies in two worlds.

    A resample draws starts, the same ones for all policies and both worlds, since they began from
    the same; and for the interval of both it draws policies before.

    Args:
        real: Of each policy from each start, (P, E), such as success (0 or 1) or return.
        imagined: The same in imagination, (P, E).
        counted: Where both count, (P, E).
        seed: Of the resampling.
        num_resamples: R.

    Returns:
        Each of `STATISTICS`.

    Raises:
        ValueError: If there are fewer than 2 policies, or shapes differ.
    """
    if not real.shape == imagined.shape == counted.shape:
        raise ValueError(f"shapes differ: {real.shape}, {imagined.shape}, {counted.shape}")
    num_policies, num_starts = real.shape
    if num_policies < 2:
        raise ValueError(f"a ranking is of 2 policies or more, got {num_policies}")
    random = np.random.default_rng(seed)
    chances = np.full(num_starts, 1 / num_starts)
    starts = random.multinomial(num_starts, chances, num_resamples)  # (R, E) times that each came
    policies = random.integers(num_policies, size=(num_resamples, num_policies))

    def means(weights: NDArray, values: Array) -> Array:
        total = weights @ np.where(counted, values, 0.0).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return total / (weights @ counted.T.astype(np.float64))  # 0/0 where no start counts

    once = np.ones((1, num_starts))
    resampled = [means(starts, values) for values in (real, imagined)]  # (R, P)
    chosen = [np.take_along_axis(values, policies, axis=1) for values in resampled]
    found = {}
    for name, statistic in STATISTICS.items():
        value = statistic(means(once, real), means(once, imagined))
        of_episodes = statistic(resampled[0], resampled[1])
        of_both = statistic(chosen[0], chosen[1])
        found[name] = Estimate(
            value=float(value[0]),
            of_episodes=_interval(of_episodes),
            of_both=_interval(of_both),
            undefined_of_episodes=float(np.isnan(of_episodes).mean()),
            undefined_of_both=float(np.isnan(of_both).mean()),
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two policies, and which of them is better in each world."""

    first: int  # number of the policy
    second: int
    real: float  # real result of the first minus that of the second
    imagined: float  # the same in imagination
    real_p: float  # chance of as large a real difference if there were none
    imagined_p: float

    @property
    def is_flipped(self) -> bool:
        """Whether imagination puts them the other way round."""
        return self.real * self.imagined < 0

    @property
    def is_tied(self) -> bool:
        """Whether imagination does not tell them apart, and reality does."""
        return self.imagined == 0 and self.real != 0


def success_pairs(real: Array, imagined: Array, counted: NDArray[np.bool_]) -> list[Pair]:
    """Return all pairs of policies, with the p-values of exact McNemar tests.

    Args:
        real: Success of each policy from each start, 0 or 1, (P, E).
        imagined: The same in imagination.
        counted: Where both count, (P, E).
    """
    pairs = []
    for first in range(len(real)):
        for second in range(first + 1, len(real)):
            both = counted[first] & counted[second]
            worlds = [world[:, both] for world in (real, imagined)]
            # Counts, since differences of equal means may be rounding.
            won = [(int(w[first].sum()), int(w[second].sum())) for w in worlds]
            differences = [(a - b) / max(1, int(both.sum())) for a, b in won]
            p_values = [mcnemar(w[first], w[second]) for w in worlds]
            pairs.append(
                Pair(
                    first=first,
                    second=second,
                    real=differences[0],
                    imagined=differences[1],
                    real_p=p_values[0],
                    imagined_p=p_values[1],
                )
            )
    return pairs


def mcnemar(first: Array, second: Array) -> float:
    """Return the p-value of McNemar's exact test that two success rates are the same.

    McNemar 1947: only starts from which one succeeds and the other does not tell, and each of them
    is as likely either way.

    Args:
        first: Success from each start, 0 or 1, (E,).
        second: Of the other policy, from the same starts.
    """
    only_first, only_second = int((first > second).sum()), int((first < second).sum())
    count, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    return min(1.0, 2 * tail)


def estimate_text(estimate: Mapping[str, Any]) -> str:
    """Return an estimate in JSON types as text, with its interval over episodes."""
    if estimate["value"] is None:
        return "undefined"
    interval = interval_text(estimate, "episodes")
    return f"{estimate['value']:.2f}" + (f" ({interval})" if interval else "")


def interval_text(estimate: Mapping[str, Any], drawn: str) -> str:
    """Return an interval of an estimate in JSON types as text; "" where there is none.

    Args:
        estimate: In JSON types.
        drawn: What was resampled, "episodes" or "policies_and_episodes".
    """
    (low, high), undefined = (estimate[f"{k}_over_{drawn}"] for k in ("interval", "undefined"))
    if low is None:
        return ""
    return f"{low:.2f} to {high:.2f}" + (
        f", undefined in {undefined:.0%}" if undefined > TAIL else ""
    )


def is_above_0(estimate: Mapping[str, Any]) -> bool:
    """Say whether an estimate in JSON types is clearly above 0, other starts considered.

    Resamples in which it is not defined speak against it: they do not count for the interval, which
    would be narrow where hardly anything ever succeeds.
    """
    low = estimate["interval_over_episodes"][0]
    return low is not None and low > 0 and estimate["undefined_over_episodes"] <= TAIL


def _is_constant(values: Array) -> NDArray[np.bool_]:
    size = np.abs(values).max(axis=-1)
    return (values.max(axis=-1) - values.min(axis=-1)) <= SAME * size


def _below(values: Array) -> NDArray[np.bool_]:
    """Return whether the row's result is below the column's, (..., P, P)."""
    return values[..., :, None] < values[..., None, :]


def _ranks(values: Array) -> Array:
    """Return ranks from 0, (..., P); equal values share the mean of theirs."""
    below = _below(values)
    equal = values[..., :, None] == values[..., None, :]
    return below.sum(axis=-2) + (equal.sum(axis=-1) - 1) / 2


def _interval(values: Array) -> tuple[float, float]:
    """Return the 95 % interval of resampled values, NaN left out."""
    low, high = quantiles(values[:, None], TAIL)
    return float(low[0]), float(high[0])
