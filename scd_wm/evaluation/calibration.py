"""Whether an imagined probability means what it says, over all imagined frames of an event.

Axes: N clips, T frames, K bins, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scd_wm.evaluation.bootstrap import finite, quantiles, resample_sums

Array = NDArray[np.float64]
NUM_BINS = 10  # of equal width
SIMULATED = 200  # times that events are drawn from the probabilities themselves


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How often an event happens where its probability is said to be so or so."""

    event: str
    count: Array  # frames in each bin, (K,)
    predicted: Array  # mean probability there, (K,); NaN in empty bins
    happened: Array  # how often the event happened there, (K,)
    low: Array  # 95 % bootstrap interval over episodes of `happened`, (K,)
    high: Array
    error: float  # expected calibration error: sum of |predicted - happened| by the frames there
    error_low: float  # its 95 % interval
    error_high: float
    error_by_chance: float  # what it would be if every probability were true, by simulation
    brier: float
    brier_of_base_rate: float

    @property
    def base_rate(self) -> float:
        """How often the event happens."""
        counted = self.count > 0
        return float(np.average(self.happened[counted], weights=self.count[counted]))

    @property
    def sentence(self) -> str:
        """Say the numbers in words."""
        if self.base_rate == 0:
            mean = float(np.nansum(self.predicted * self.count) / self.count.sum())
            return (
                f"never happened in {int(self.count.sum())} frames; the mean probability is "
                f"{mean:.2g}"
            )
        by_rate = f"{self.base_rate:.3f}: {self.brier_of_base_rate:.4f}"
        return (
            f"calibration error {self.error:.3f} ({self.error_low:.3f} to {self.error_high:.3f}; "
            f"{self.error_by_chance:.3f} if every probability were true), Brier score "
            f"{self.brier:.4f} (by the base rate, {by_rate})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the numbers in JSON types."""
        values = {
            k: [finite(x) for x in v] if isinstance(v, np.ndarray) else v
            for k, v in vars(self).items()
        }
        return values | {"base_rate": self.base_rate, "num_frames": int(self.count.sum())}


def calibrate(
    event: str,
    probability: Array,
    happened: Array,
    episodes: ArrayLike,
    *,
    seed: int,
    num_resamples: int,
) -> Calibration | None:
    """Compare probabilities with what happened; None where nothing is known.

    The expected calibration error is that of Naeini et al. 2015 ("Obtaining well calibrated
    probabilities using Bayesian binning"), the reliability curve that of Murphy and Winkler 1977.
    The error is above 0 for true probabilities as well, the more so the fewer frames there are;
    that number is simulated (Broecker and Smith 2007, "Increasing the reliability of reliability
    diagrams"). The frames of a clip resemble each other, which the simulation does not know, so
    chance alone may give more.

    Args:
        event: Its name.
        probability: (N, T), NaN where there is none.
        happened: 0 or 1, (N, T), NaN where it is not known.
        episodes: Of each clip, (N,), which are resampled.
        seed: Of the resampling and the simulation.
        num_resamples: R.
    """
    known = ~(np.isnan(probability) | np.isnan(happened))
    if not known.any():
        return None
    p, y = np.where(known, probability, 0.0), np.where(known, happened, 0.0)
    place = np.minimum((p * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    member = (place[..., None] == np.arange(NUM_BINS)) & known[..., None]  # (N, T, K)
    sums = [member.sum(axis=1), *((member * v[..., None]).sum(axis=1) for v in (p, y))]
    parts = np.stack(sums, axis=1)  # (N, 3, K)
    total, drawn = resample_sums(
        parts.astype(np.float64), episodes, seed=seed, num_resamples=num_resamples
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = drawn[:, 2] / drawn[:, 0]
        predicted, rate = total[1] / total[0], total[2] / total[0]
    low, high = quantiles(rates, 0.025)
    error_low, error_high = quantiles(_error(drawn)[:, None], 0.025)
    return Calibration(
        event=event,
        count=total[0],
        predicted=predicted,
        happened=rate,
        low=low,
        high=high,
        error=float(_error(total[None])[0]),
        error_low=float(error_low[0]),
        error_high=float(error_high[0]),
        error_by_chance=_by_chance(p[known], place[known], seed),
        brier=float(((p - y) ** 2)[known].mean()),
        brier_of_base_rate=float(y[known].var()),
    )


def _error(sums: Array) -> Array:
    """Return the calibration error, (R,), of counts, probabilities and events, (R, 3, K).

    It is NaN where all episodes that were drawn are ones of which nothing is known.
    """
    with np.errstate(invalid="ignore"):
        return np.abs(sums[:, 1] - sums[:, 2]).sum(axis=1) / sums[:, 0].sum(axis=1)


def _by_chance(p: Array, place: NDArray[np.int64], seed: int) -> float:
    """Return the mean calibration error of events drawn from the probabilities, both (n,)."""
    random = np.random.default_rng(seed)
    gaps = [
        np.bincount(place, p - (random.random(len(p)) < p), minlength=NUM_BINS)
        for _ in range(SIMULATED)
    ]
    return float(np.abs(gaps).sum(axis=1).mean() / len(p))
