"""How much of what really was a prediction explains: R2, over stretches of the horizon.

Axes: N clips, T frames, A values, K stretches, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scd_wm.evaluation.bootstrap import Interval, quantiles, resample_sums

Array = NDArray[np.float64]
CONSTANT = 1e-6  # deviation, as a share of the largest value, below which a value does not vary


def stretches(horizons: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the first and last imagined frame of each stretch that ends at a horizon."""
    starts = [1, *(h + 1 for h in horizons)][: len(horizons)]
    return tuple(zip(starts, horizons, strict=True))


def stretch_name(stretch: tuple[int, int]) -> str:
    """Return a stretch as text: "1" or "2 to 4"."""
    first, last = stretch
    return str(first) if first == last else f"{first} to {last}"


def explained(
    real: Array,
    predicted: Array,
    episodes: ArrayLike,
    horizons: Sequence[int],
    *,
    seed: int,
    num_resamples: int,
) -> Interval:
    """R2 (coefficient of determination) on each stretch, over all values that vary.

    1 is perfect, 0 as good as the stretch's mean of what really was, and there is no lower bound.
    Values are weighed by their deviation over all frames, so that one which is nearly constant in
    some stretch does not decide there.

    Args:
        real: (N, T, A); NaN where it is not known.
        predicted: (N, T, A); NaN where there is none.
        episodes: Of each clip, (N,), which are resampled.
        horizons: Last frames of the stretches, ascending, counted from 1.
        seed: Of the resampling.
        num_resamples: R.

    Returns:
        (K,); NaN where nothing varies.
    """
    known = np.asarray(~np.isnan(real + predicted).any(axis=2, keepdims=True))
    y, error = np.where(known, real, 0.0), np.where(known, predicted - real, 0.0)
    total_known = max(1, int(known.sum()))
    centred = np.where(known, y - y.sum(axis=(0, 1)) / total_known, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=(0, 1)) / total_known)  # (A,)
    varies = deviation > CONSTANT * np.abs(y).max(axis=(0, 1))
    unit = np.where(varies, deviation, np.inf)
    centred, error = centred / unit, error / unit
    count = np.broadcast_to(known, y.shape).astype(np.float64)
    moments = np.stack([count, centred, centred**2, error**2], axis=1)  # (N, 4, T, A)
    spans = stretches(horizons)
    parts = np.stack([moments[:, :, a - 1 : b].sum(axis=2) for a, b in spans], axis=2)
    total, drawn = resample_sums(parts, episodes, seed=seed, num_resamples=num_resamples)
    low, high = quantiles(_r2(drawn), 0.025)
    clips = np.stack([known[:, a - 1 : b].any(axis=(1, 2)).sum() for a, b in spans])
    return Interval(_r2(total[None])[0], low, high, clips)


def _r2(sums: Array) -> Array:
    """Return R2, (R, K), of sums, (R, 4, K, A): count, values, squares and squared errors."""
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (sums[:, 2] - sums[:, 1] ** 2 / sums[:, 0]).sum(axis=2)  # (R, K)
        return np.where(spread > 0, 1 - sums[:, 3].sum(axis=2) / spread, np.nan)
