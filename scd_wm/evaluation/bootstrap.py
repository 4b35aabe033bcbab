"""Intervals for means over clips, by resampling whole episodes.

Clips of one episode resemble each other, so they are drawn together (a cluster bootstrap). With a
single episode there is nothing else to draw than clips, and the interval speaks of that episode
only.

Axes: N clips, T frames, G groups (episodes), R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ROUNDING = 1e-7  # below all that is measured here, in any unit


@dataclass(frozen=True)
class Interval:
    """Means over clips and bootstrap intervals at each frame, (T,); NaN where no clip counts."""

    mean: Array
    low: Array
    high: Array
    count: NDArray[np.int64]  # clips that count

    def excludes_zero(self, index: int) -> bool:
        """Say whether the interval at frame `index` lies wholly on one side of 0.

        One that is all but 0 does not: where nothing ever happens, two models that say so differ by
        what float32 rounds.
        """
        return bool(self.low[index] > ROUNDING or self.high[index] < -ROUNDING)


def finite(value: float) -> float | None:
    """Return a number as JSON has it: None in place of NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def bootstrap_mean(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    seed: int,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Mean over clips and its percentile bootstrap interval.

    For a paired comparison pass the differences of two models on the same clips.

    Args:
        values: (N, T); NaN where a clip does not count.
        groups: The episode of each clip, (N,).
        seed: Of the resampling. Equal seeds draw equal episodes.
        num_resamples: R.
        level: Share of resampled means inside the interval.

    Returns:
        Mean, bounds and counts at each frame.
    """
    table = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(table)
    parts = np.stack([np.where(present, table, 0.0), present], axis=1)  # (N, 2, T)
    total, drawn = resample_sums(parts, groups, seed=seed, num_resamples=num_resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, means = total[0] / total[1], drawn[:, 0] / drawn[:, 1]  # 0/0 where no clip counts
    low, high = quantiles(means, (1 - level) / 2)
    return Interval(mean, low, high, present.sum(axis=0))


def resample_sums(
    values: Array, groups: ArrayLike, *, seed: int, num_resamples: int
) -> tuple[Array, Array]:
    """Sum values over clips, and over clips of episodes drawn with replacement.

    Whatever is a function of such sums has its bootstrap interval from them.

    Args:
        values: (N, ...) without NaN.
        groups: The episode of each clip, (N,).
        seed: Of the resampling. Equal seeds draw equal episodes.
        num_resamples: R.

    Returns:
        Sums over all clips, (...), and over those of each resample, (R, ...).
    """
    index, drawn = draw_groups(groups, seed=seed, num_resamples=num_resamples)
    sums = np.zeros((drawn.shape[1], *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums.sum(axis=0), np.tensordot(drawn, sums, axes=1)


def draw_groups(
    groups: ArrayLike, *, seed: int, num_resamples: int
) -> tuple[NDArray[np.int64], Array]:
    """Draw episodes with replacement, clips where there is but one episode.

    Args:
        groups: The episode of each clip, (N,).
        seed: Of the resampling. Equal seeds draw equal episodes.
        num_resamples: R.

    Returns:
        What is drawn with each clip, (N,), as a column of how often each was drawn, (R, G).
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) == 1:
        index = np.arange(len(index))
    count = int(index.max()) + 1
    random = np.random.default_rng(seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), num_resamples)
    return index, drawn.astype(np.float64)


def quantiles(means: Array, tail: float) -> tuple[Array, Array]:
    """Return the lower and upper `tail` quantiles of each column, ignoring NaN."""
    bounds = np.full((2, means.shape[1]), np.nan)
    for column in range(means.shape[1]):
        finite = means[:, column][~np.isnan(means[:, column])]
        if len(finite):
            bounds[:, column] = np.quantile(finite, [tail, 1 - tail])
    return bounds[0], bounds[1]
