"""Is a predicted chance of success the share of episodes that succeed?

Axes: N episodes, K bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.bootstrap import bootstrap_mean
from scd_wm.evaluation.rates import wilson_interval

NUM_BINS = 10


def calibration(
    predicted: NDArray[np.float64],
    success: NDArray[np.bool_],
    starts: NDArray,
    *,
    seed: int,
    num_bins: int = NUM_BINS,
) -> dict[str, Any]:
    """Compare predicted chances of success with what happened, in JSON types.

    Brier's score is the mean squared error of the chances (Brier 1950); beside it stands that of
    always saying how often success was (the base rate), which knows the mean and nothing else. The
    expected calibration error is the mean difference between chance and share in bins of equal
    width, weighted by their episodes (Naeini et al. 2015).

    Args:
        predicted: Chance of success of each episode, (N,), 0 to 1.
        success: Whether it succeeded really, (N,).
        starts: Start of each episode, (N,): those of one start are resampled together.
        seed: Of the resampling.
        num_bins: K.

    Returns:
        "bins", those that hold an episode, "brier", "brier_of_base_rate", their difference with its
        95 % bootstrap interval, and "expected_calibration_error".

    Raises:
        ValueError: If there is no episode, or a chance is not in [0, 1].
    """
    if not len(predicted):
        raise ValueError("calibration needs an episode, got none")
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("predicted chances must be in [0, 1]")
    outcome, base = success.astype(np.float64), float(success.mean())
    squared, of_base = (predicted - outcome) ** 2, (base - outcome) ** 2
    difference = bootstrap_mean((squared - of_base)[:, None], starts, seed=seed)
    bins = _bins(predicted, outcome, num_bins)
    gaps = [b["episodes"] * abs(b["predicted"] - b["success_rate"]) for b in bins]
    return {
        "episodes": len(predicted),
        "base_rate": base,
        "mean_predicted": float(predicted.mean()),
        "brier": float(squared.mean()),
        "brier_of_base_rate": float(of_base.mean()),
        "brier_minus_base_rate": [
            float(x[0]) for x in (difference.mean, difference.low, difference.high)
        ],
        "expected_calibration_error": sum(gaps) / len(predicted),
        "bins": bins,
    }


def _bins(
    predicted: NDArray[np.float64], outcome: NDArray[np.float64], num_bins: int
) -> list[dict[str, Any]]:
    """Return bins of equal width that hold an episode; a chance of 1 is in the last."""
    index = np.minimum((predicted * num_bins).astype(int), num_bins - 1)
    bins = []
    for number in np.unique(index):
        inside = index == number
        count, won = int(inside.sum()), int(outcome[inside].sum())
        bins.append(
            {
                "from": float(number / num_bins),
                "to": float((number + 1) / num_bins),
                "episodes": count,
                "predicted": float(predicted[inside].mean()),
                "success_rate": won / count,
                "interval": list(wilson_interval(won, count)),
            }
        )
    return bins
