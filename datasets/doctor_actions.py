"""What the doctor measures of actions: their values one by one, and what they cover together.

Axes: N steps of the sample, A values of an action, P bins of a histogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scd_wm.datasets.doctor_numbers import SampleEpisode

BINS = 32
CUT = 0.01  # share of a value's rows that its histogram does not reach to
EDGE = 1e-3  # of the range: nearer to its ends counts as being there
BINARY_SHARE = 0.98  # of steps at the two ends of a value that is either one or the other
FEW_VALUES = 8  # that a value may take and be called discrete


@dataclass(frozen=True, kw_only=True)
class ActionValue:
    """One value of the action over the sample."""

    index: int
    kind: str  # "constant", "binary", "discrete" or "continuous"
    low: float
    high: float
    share_low: float  # of steps at the lower end
    share_high: float  # of steps at the upper end
    share_zero: float
    bin_low: float  # lower end of the histogram, which leaves the farthest 1 of 100 out
    bin_high: float  # upper end
    entropy: float  # of the histogram, 1 for uniform
    occupied: float  # share of its bins
    counts: list[int]  # of its bins, from low to high


@dataclass(frozen=True, kw_only=True)
class ActionStats:
    """All actions of the sample."""

    num_steps: int
    values: list[ActionValue]
    share_idle: float  # of steps whose continuous values are all 0
    share_repeated: float  # of steps with exactly the action of the step before
    effective_dims: float  # directions that carry the variance: 1 to the values that vary
    num_moving: int  # values that vary
    correlated: list[tuple[int, int, float]]  # pairs of values of which one tells the other

    def to_json(self) -> dict[str, Any]:
        """Return all of it in JSON types."""
        return asdict(self)

    def of_kind(self, kind: str) -> list[int]:
        """Return the indices of the values of a kind."""
        return [value.index for value in self.values if value.kind == kind]


def action_stats(sample: Sequence[SampleEpisode], action_dim: int) -> ActionStats:
    """Measure the actions of the sample, which may be empty."""
    actions = np.concatenate(
        [np.zeros((0, action_dim), np.float32), *(episode.actions for episode in sample)]
    )
    values = [_value(index, actions[:, index]) for index in range(action_dim) if len(actions)]
    moving = [value.index for value in values if value.kind != "constant"]
    continuous = [value.index for value in values if value.kind == "continuous"]
    repeated = [(np.diff(e.actions, axis=0) == 0).all(axis=1) for e in sample]
    correlation = _correlation(actions[:, moving])
    return ActionStats(
        num_steps=len(actions),
        values=values,
        share_idle=_share((actions[:, continuous] == 0).all(axis=1)) if continuous else 0.0,
        share_repeated=_share(np.concatenate(repeated)) if repeated else 0.0,
        effective_dims=_effective_dims(correlation),
        num_moving=len(moving),
        correlated=[
            (moving[i], moving[j], float(correlation[i, j]))
            for i, j in zip(*np.nonzero(np.triu(abs(correlation) > 0.98, 1)), strict=True)
        ],
    )


def _value(index: int, rows: np.ndarray) -> ActionValue:
    """Describe one value, (N,)."""
    rows = rows.astype(np.float64)
    low, high = float(rows.min()), float(rows.max())
    width = max(high - low, 1e-6 * max(1.0, abs(low), abs(high)))
    at_low, at_high = rows <= low + EDGE * width, rows >= high - EDGE * width
    bin_low, bin_high = np.quantile(rows, (CUT / 2, 1 - CUT / 2)).tolist()
    if bin_high - bin_low < EDGE * width:  # nearly always the same
        bin_low, bin_high = low, low + width
    counts = np.histogram(rows.clip(bin_low, bin_high), BINS, (bin_low, bin_high))[0]
    shares = counts[counts > 0] / len(rows)
    return ActionValue(
        index=index,
        kind=_kind(rows, low, high, _share(at_low | at_high)),
        low=low,
        high=high,
        share_low=_share(at_low),
        share_high=_share(at_high),
        share_zero=_share(rows == 0),
        bin_low=bin_low,
        bin_high=bin_high,
        entropy=float(-(shares * np.log(shares)).sum() / np.log(BINS)),
        occupied=_share(counts > 0),
        counts=counts.tolist(),
    )


def _kind(rows: np.ndarray, low: float, high: float, share_ends: float) -> str:
    if high - low <= 1e-6 * max(1.0, abs(low), abs(high)):
        return "constant"
    num_values = len(np.unique(rows))
    if num_values == 2 or share_ends >= BINARY_SHARE:
        return "binary"
    return "discrete" if num_values <= FEW_VALUES < len(rows) / 4 else "continuous"


def _correlation(rows: np.ndarray) -> np.ndarray:
    """Return the correlations of values that vary, (M, M)."""
    if rows.shape[1] < 1 or len(rows) < 2:
        return np.zeros((rows.shape[1], rows.shape[1]))
    return np.atleast_2d(np.corrcoef(rows.astype(np.float64), rowvar=False))


def _effective_dims(correlation: np.ndarray) -> float:
    """Return how many directions carry the variance: exp of the entropy of the eigenvalues."""
    if not correlation.size:
        return 0.0
    shares = np.linalg.eigvalsh(correlation).clip(1e-12) / len(correlation)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _share(flags: np.ndarray) -> float:
    return float(np.mean(flags)) if len(flags) else 0.0
