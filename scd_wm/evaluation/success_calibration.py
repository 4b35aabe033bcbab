"""Is a predicted chance of success the share of episodes that succeed?

Axes: N episodes, K bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.bootstrap import bootstrap_mean
from scd_wm.evaluation.calibration import NUM_BINS, Calibration, calibrate
from scd_wm.evaluation.rates import wilson_interval

RESAMPLES = 2000


def calibration(
    predicted: NDArray[np.float64], success: NDArray[np.bool_], starts: NDArray, *, seed: int
) -> dict[str, Any]:
    """Compare predicted chances of success with what happened, in JSON types.

    Brier's score is the mean squared error of the chances (Brier 1950); beside it stands that of
    always saying how often success was (the base rate), which knows the mean and nothing else. For
    the expected calibration error see `scd_wm.evaluation.calibration.calibrate`.

    Args:
        predicted: Chance of success of each episode, (N,), 0 to 1.
        success: Whether it succeeded really, (N,).
        starts: Start of each episode, (N,): those of one start are resampled together.
        seed: Of the resampling.

    Returns:
        "bins", those that hold an episode, "brier", "brier_of_base_rate", their difference with its
        95 % bootstrap interval, "expected_calibration_error" with its own, and what that would be
        if all chances were true.

    Raises:
        ValueError: If there is no episode, or a chance is not in [0, 1].
    """
    if not len(predicted):
        raise ValueError("calibration needs an episode, got none")
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("predicted chances must be in [0, 1]")
    outcome = success.astype(np.float64)
    settings = {"seed": seed, "num_resamples": RESAMPLES}
    found = calibrate("success", predicted[:, None], outcome[:, None], starts, **settings)
    assert found is not None, "of every episode it is known whether it succeeded"
    better = (predicted - outcome) ** 2 - (outcome.mean() - outcome) ** 2
    difference = bootstrap_mean(better[:, None], starts, **settings)
    return {
        "episodes": len(predicted),
        "base_rate": found.base_rate,
        "mean_predicted": float(predicted.mean()),
        "brier": found.brier,
        "brier_of_base_rate": found.brier_of_base_rate,
        "brier_minus_base_rate": [
            float(x[0]) for x in (difference.mean, difference.low, difference.high)
        ],
        "expected_calibration_error": found.error,
        "expected_calibration_error_interval": [found.error_low, found.error_high],
        "expected_calibration_error_by_chance": found.error_by_chance,
        "bins": _bins(found),
    }


def _bins(found: Calibration) -> list[dict[str, Any]]:
    """Return the bins that hold an episode, with Wilson intervals.

    A bin may hold a handful of episodes, all alike, of which the bootstrap would say too much.
    """
    bins = []
    for number in np.flatnonzero(found.count):
        count, rate = int(found.count[number]), float(found.happened[number])
        bins.append(
            {
                "from": float(number / NUM_BINS),
                "to": float((number + 1) / NUM_BINS),
                "episodes": count,
                "predicted": float(found.predicted[number]),
                "success_rate": rate,
                "interval": list(wilson_interval(round(rate * count), count)),
            }
        )
    return bins
