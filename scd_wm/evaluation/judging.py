"""How good probabilities of something that happens or not are, beside knowing only how often.

Axes: N frames, G episodes, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from scd_wm.evaluation.bootstrap import bootstrap_mean, draw_groups, quantiles
from scd_wm.evaluation.metrics import brier_score

Array = NDArray[np.float64]

RESAMPLES = 500  # of episodes, for the interval of the area


@dataclass(frozen=True)
class Score:
    """A number with the bounds of its 95 % interval over episodes; NaN where there is none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Scores of probabilities, and what the base rate alone comes to."""

    num_frames: int
    num_happened: int
    num_episodes: int
    mean_probability: Score  # the base rate, where probabilities are calibrated
    brier: Score
    auroc: Score
    accuracy: Score  # at a probability of one half

    @property
    def base_rate(self) -> float:
        """Share of the frames in which it happened."""
        return self.num_happened / self.num_frames

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values for people."""
        rate = self.base_rate
        counts = f"{self.num_happened} of {self.num_frames} frames, {self.num_episodes} episodes"
        return [
            ("base rate", f"{rate:.4g} ({counts})"),
            ("mean probability", str(self.mean_probability)),
            ("Brier score", f"{self.brier}; of the base rate {rate * (1 - rate):.4g}"),
            ("AUROC", f"{self.auroc}; of the base rate 0.5"),
            ("accuracy", f"{self.accuracy}; of the base rate {max(rate, 1 - rate):.4g}"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the numbers in JSON types."""
        scores = {k: vars(v) for k, v in vars(self).items() if isinstance(v, Score)}
        return {**vars(self), "base_rate": self.base_rate, **scores}


def judge(probability: ArrayLike, happened: ArrayLike, episodes: ArrayLike, *, seed: int) -> Judged:
    """Score probabilities; intervals resample whole episodes.

    Args:
        probability: (N,), N above 0.
        happened: 0 or 1, (N,).
        episodes: Of each frame, (N,).
        seed: Of the resampling.
    """
    p, y = np.asarray(probability, np.float64), np.asarray(happened, np.float64)
    groups = np.asarray(episodes)

    def mean(values: Array) -> Score:
        found = bootstrap_mean(values[:, None], groups, seed=seed)
        return Score(float(found.mean[0]), float(found.low[0]), float(found.high[0]))

    return Judged(
        num_frames=len(y),
        num_happened=int(y.sum()),
        num_episodes=len(np.unique(groups)),
        mean_probability=mean(p),
        brier=mean(brier_score(torch.from_numpy(p), torch.from_numpy(y)).numpy()),
        auroc=_auroc_score(p, y, groups, seed),
        accuracy=mean(((p > 0.5) == (y > 0.5)).astype(np.float64)),
    )


def auroc(probability: Array, happened: Array, weights: Array | None = None) -> float:
    """Return the chance that where it happened the probability is higher than where it did not.

    The area under the receiver operating characteristic (Hanley and McNeil 1982); ties count half.

    Args:
        probability: (N,).
        happened: 0 or 1, (N,).
        weights: How often each counts, (N,); None is once.

    Returns:
        NaN where it always happened, or never.
    """
    weights = np.ones(len(happened)) if weights is None else weights
    _, level = np.unique(probability, return_inverse=True)
    did = np.bincount(level, weights * happened)
    did_not = np.bincount(level, weights * (1 - happened))
    pairs = did.sum() * did_not.sum()
    below = did_not.cumsum() - did_not / 2
    return float((did * below).sum() / pairs) if pairs > 0 else float("nan")


def _auroc_score(p: Array, y: Array, groups: NDArray, seed: int) -> Score:
    """Return the area with its interval over episodes, over those resamples that have one."""
    index, drawn = draw_groups(groups, seed=seed, num_resamples=RESAMPLES)
    areas = np.array([auroc(p, y, counts[index]) for counts in drawn])
    low, high = quantiles(areas[:, None], 0.025)
    return Score(auroc(p, y), float(low[0]), float(high[0]))
