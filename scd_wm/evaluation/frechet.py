"""Frechet distance between two sets of features, each taken as a Gaussian.

Dowson and Landau 1982; as a measure of images Heusel et al. 2017 (arXiv:1706.08500, with Inception
features: FID), of videos Unterthiner et al. 2018 (arXiv:1812.01717, with I3D features: FVD). With
other features it is neither, and is called by its network.

Axes: N samples, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.bootstrap import finite

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FrechetResult:
    """Distances of every model's features from those of the real frames."""

    name: str  # says the network and what it sees
    camera: str
    num_samples: int  # of each side
    num_features: int
    distances: dict[str, float]  # model: distance; NaN of a single sample
    real_halves: float  # between two halves of the real samples: what finite samples alone give

    def to_json(self) -> dict[str, Any]:
        """Return the numbers in JSON types."""
        return dict(vars(self)) | {
            "distances": {model: finite(value) for model, value in self.distances.items()},
            "real_halves": finite(self.real_halves),
            "bias": BIAS,
        }


BIAS = (
    "A Frechet distance of few samples is too large (Chong and Forsyth 2020, arXiv:1911.07023); "
    "compare only distances of equally many samples, and read them beside that of real halves, "
    "which are half as many and so err more."
)


def compare_features(
    name: str, camera: str, real: Array, others: dict[str, Array], episodes: NDArray, seed: int
) -> FrechetResult:
    """Take the distance of each model's features from the real ones.

    Args:
        name: What the features are.
        camera: Whose frames.
        real: (N, D).
        others: Model to features, (N, D).
        episodes: Of each sample, (N,); no episode is in both halves where there are two or more.
        seed: Of the halves.
    """
    names, index = np.unique(episodes, return_inverse=True)
    if len(names) < 2:
        index = np.arange(len(real))
    half = np.random.default_rng(seed).permutation(int(index.max()) + 1)[index] % 2 == 0
    return FrechetResult(
        name=name,
        camera=camera,
        num_samples=len(real),
        num_features=real.shape[1],
        distances={model: frechet_distance(real, values) for model, values in others.items()},
        real_halves=frechet_distance(real[half], real[~half]),
    )


def frechet_distance(one: Array, other: Array) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), of the samples' means and covariances.

    The trace of the root is that of the symmetric (C1^(1/2) C2 C1^(1/2))^(1/2), by decomposition
    in eigenvalues in float64; those below 0 are rounding. It is NaN where a side has fewer than two
    rows, and so no covariance.

    Args:
        one: (N, D).
        other: (M, D).
    """
    if min(len(one), len(other)) < 2:
        return math.nan
    one, other = one.astype(np.float64), other.astype(np.float64)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ second @ root).clip(min=0)
    apart = one.mean(axis=0) - other.mean(axis=0)
    distance = apart @ apart + np.trace(first) + np.trace(second) - 2 * np.sqrt(inner).sum()
    return max(0.0, float(distance))
