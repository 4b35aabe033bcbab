"""Do other actions lead elsewhere in imagination as they do in the simulator?

From one start several sequences of actions are taken, in the simulator and in imagination. What
counts is where two futures part: the difference between them, which is the effect of the actions
alone. Errors that all futures of a start share do not enter. A model that ignores actions has no
difference at all, as has the last frame copied.

Axes: S starts, K sequences of actions, T frames, D values, P pairs of sequences, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.bootstrap import Interval, finite, quantiles, resample_sums
from scd_wm.evaluation.explained import stretches

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """How the differences between futures compare, of one vector or object, by stretch."""

    label: str  # what parts
    unit: str
    slope: Interval  # of imagined over real differences: 1 is right, below 1 too little effect
    cosine: Interval  # between imagined and real differences: 1 is the right direction
    error: Interval  # RMS of the difference's error over that of the real one: 0 is right
    shuffled: Interval  # the same error where futures are given to other actions of their start
    real: Array  # size of each real difference at the last frame, (S P,), NaN where unknown
    imagined: Array  # its projection on the real direction, (S P,)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers in JSON types."""
        numbers = {
            name: {k: [finite(x) for x in getattr(interval, k)] for k in ("mean", "low", "high")}
            for name, interval in (
                ("slope", self.slope),
                ("cosine", self.cosine),
                ("relative_error", self.error),
                ("relative_error_of_shuffled_futures", self.shuffled),
            )
        }
        return {"label": self.label, "unit": self.unit, **numbers}


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """What was found from some starts."""

    env: str  # the simulator
    num_starts: int
    num_sequences: int  # of actions from each
    horizons: tuple[int, ...]  # last frames of the stretches
    divergences: Mapping[str, Divergence]  # most telling first

    def to_json(self) -> dict[str, Any]:
        """Return the numbers in JSON types; index k is the stretch that ends at horizon k."""
        return {
            "env": self.env,
            "num_starts": self.num_starts,
            "num_sequences": self.num_sequences,
            "horizons": list(self.horizons),
            "relative_error_without_any_difference": 1.0,
            "divergences": {name: d.to_json() for name, d in self.divergences.items()},
        }


def diverge(
    label: str,
    unit: str,
    real: Array,
    imagined: Array,
    episodes: Sequence[str],
    horizons: Sequence[int],
    *,
    seed: int,
    num_resamples: int,
) -> Divergence | None:
    """Compare differences between futures; None where no two real futures differ.

    With real differences r and imagined ones m the slope is sum(m r) / sum(r r), the cosine
    sum(m r) / sqrt(sum(r r) sum(m m)), the relative error sqrt(sum((m - r)^2) / sum(r r)); sums are
    over starts, pairs, frames of a stretch and values. The last frame copied has slope 0 and
    error 1.

    Args:
        label: What parts.
        unit: Of its values.
        real: (S, K, T, D); NaN where it is not known.
        imagined: (S, K, T, D).
        episodes: Of each start, (S,), which are resampled.
        horizons: Last frames of the stretches, ascending, counted from 1.
        seed: Of the resampling.
        num_resamples: R.
    """
    r, m = _differences(real), _differences(imagined)
    other = _differences(np.roll(imagined, 1, axis=1))
    known = np.asarray(~np.isnan(r + m + other).any(axis=3, keepdims=True))
    products = np.stack([r * r, m * r, m * m, (m - r) ** 2, (other - r) ** 2], axis=1)
    products = np.where(known[:, None], products, 0.0).sum(axis=(2, 4))  # (S, 5, T)
    spans = stretches(horizons)
    parts = np.stack([products[:, :, a - 1 : b].sum(axis=2) for a, b in spans], axis=2)
    total, drawn = resample_sums(parts, episodes, seed=seed, num_resamples=num_resamples)
    if not total[0].any():
        return None
    count = np.full(len(spans), len(real))

    def interval(index: int) -> Interval:
        low, high = quantiles(_ratios(drawn)[:, index], 0.025)
        return Interval(_ratios(total[None])[0, index], low, high, count)

    slope, cosine, error, shuffled = (interval(i) for i in range(4))
    size = np.where(known[:, :, -1, 0], np.linalg.norm(r[:, :, -1], axis=-1), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        along = (m[:, :, -1] * r[:, :, -1]).sum(axis=-1) / size
    return Divergence(
        label=label,
        unit=unit,
        slope=slope,
        cosine=cosine,
        error=error,
        shuffled=shuffled,
        real=size.ravel(),
        imagined=along.ravel(),
    )


def _differences(values: Array) -> Array:
    """Return the differences of all pairs of sequences, (S, P, T, D)."""
    first, second = zip(*combinations(range(values.shape[1]), 2), strict=True)
    return values[:, list(first)] - values[:, list(second)]


def _ratios(sums: Array) -> Array:
    """Return slope, cosine and the relative errors, (R, 4, K), of sums of products, (R, 5, K)."""
    rr, mr, mm, error, shuffled = np.moveaxis(sums, 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = [mr / rr, mr / np.sqrt(rr * mm), np.sqrt(error / rr), np.sqrt(shuffled / rr)]
    return np.where(np.isfinite(values), values, np.nan).swapaxes(0, 1)
