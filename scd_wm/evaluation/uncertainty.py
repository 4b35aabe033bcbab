"""Does a world model know where it errs? Its uncertainty beside its error on the same frames.

Both grow with the frames imagined, so a high correlation over all frames may say no more than that
time has passed: the number to read is the one among frames equally far ahead.

Axes: N clips, T imagined frames, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.scores import MetricInfo

Array = NDArray[np.float64]

RESAMPLES = 200  # of episodes; each takes a rank correlation for every frame
FEWEST = 4  # pairs of which a rank correlation is taken


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with the bounds of its 95 % bootstrap interval; NaN where it is not."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, kw_only=True)
class UncertaintyResult:
    """Uncertainty and error of every imagined frame, and how they go together."""

    name: str  # of the metric that says how wrong a frame is
    info: MetricInfo
    uncertainty: Array  # (N, T)
    error: Array  # (N, T), NaN where it is not known; lower is better
    among_equals: Correlation  # mean over T of that among frames equally far ahead
    overall: Correlation  # among all frames
    of_time: float  # what the number of the frame alone gives among all frames

    @property
    def sentence(self) -> str:
        """Say in words how they go together."""
        return (
            f"rank correlation {self.among_equals} among frames equally far ahead, "
            f"{self.overall} among all (the number of the frame alone: {self.of_time:.2f})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the numbers in JSON types, with the mean uncertainty of each imagined frame."""
        return {
            "error": self.name,
            "rank_correlation_among_frames_equally_far_ahead": vars(self.among_equals),
            "rank_correlation": vars(self.overall),
            "rank_correlation_of_frame_number": self.of_time,
            "mean_uncertainty": self.uncertainty.mean(axis=0).tolist(),
        }


def compare(
    name: str,
    info: MetricInfo,
    uncertainty: Array,
    score: Array,
    episodes: Sequence[int],
    *,
    seed: int,
    num_resamples: int = RESAMPLES,
) -> UncertaintyResult:
    """Compare uncertainty with a metric on the same frames; resamples whole episodes.

    Args:
        name: Of the metric.
        info: What it means; where higher is better its negative counts as the error.
        uncertainty: (N, T).
        score: (N, T), NaN where it does not apply.
        episodes: Of each clip, (N,).
        seed: Of the resampling.
        num_resamples: R.
    """
    error = score if info.better == "lower" else -score
    time = np.broadcast_to(np.arange(score.shape[1], dtype=np.float64), score.shape)
    random = np.random.default_rng(seed)
    groups = [np.flatnonzero(np.asarray(episodes) == e) for e in dict.fromkeys(episodes)]
    if len(groups) == 1:  # as in `bootstrap`: of a single episode the clips are drawn
        groups = list(np.arange(len(score))[:, None])
    drawn = [
        np.concatenate([groups[i] for i in random.integers(len(groups), size=len(groups))])
        for _ in range(num_resamples)
    ]

    def correlation(function: Callable[[Array, Array], float]) -> Correlation:
        every = np.array([function(uncertainty[rows], error[rows]) for rows in drawn])
        every = every[~np.isnan(every)]
        low, high = np.quantile(every, [0.025, 0.975]) if len(every) else (np.nan, np.nan)
        return Correlation(function(uncertainty, error), float(low), float(high))

    return UncertaintyResult(
        name=name,
        info=info,
        uncertainty=uncertainty,
        error=error,
        among_equals=correlation(mean_by_frame),
        overall=correlation(rank_correlation),
        of_time=rank_correlation(time, error),
    )


def mean_by_frame(a: Array, b: Array) -> float:
    """Return the mean over T of the rank correlation of each column, NaN where there is none."""
    each = np.array([rank_correlation(a[:, t], b[:, t]) for t in range(a.shape[1])])
    each = each[~np.isnan(each)]
    return float(each.mean()) if len(each) else float("nan")


def rank_correlation(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation of arrays of one shape; pairs with a NaN do not count.

    It is NaN where fewer than a handful of pairs count, or one side is constant.
    """
    present = ~(np.isnan(a) | np.isnan(b))
    x, y = _ranks(a[present]), _ranks(b[present])
    if len(x) < FEWEST or x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Array) -> Array:
    """Return ranks from 0, (n,); equal values share the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts + 1) / 2)[index]
