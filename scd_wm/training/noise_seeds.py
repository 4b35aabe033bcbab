"""Noise seeds of training: one for each clip of a run, whatever process it lands on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def row_seeds(seed: int, sample_ids: Sequence[int]) -> Tensor:
    """Hash a run's seed and the numbers of clips to independent noise seeds.

    The finaliser is splitmix64's (Steele et al. 2014, "Fast splittable pseudorandom number
    generators"), applied to the seed, then to its sum with the clip's number.

    Args:
        seed: Of the run, at least 0.
        sample_ids: Numbers of the clips in the run, B of them.

    Returns:
        Noise seeds, (B,) int64.
    """
    key = _mix(np.array([seed], dtype=np.uint64))
    mixed = _mix(key + np.asarray(sample_ids, dtype=np.uint64))
    return torch.from_numpy(mixed.view(np.int64))


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)  # arrays of uint64 wrap around
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
