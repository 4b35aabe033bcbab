"""Scores and readings of clips by model and name, from batches to all clips.

Axes: N clips, B clips of a batch, T imagined frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.clip import Clip

Readings = Mapping[str, Mapping[str, Tensor]]  # model: name: tensor, (B, T) or (B, T, ...)
Table = dict[str, dict[str, NDArray[np.float64]]]  # the same as arrays


def real_outcomes(clip: Clip, history: int) -> dict[str, NDArray[np.float64]]:
    """Return the real outcomes of the imagined frames, (B, T), NaN where there are none."""
    return {
        name: torch.where(clip.valid[name], values.double(), float("nan"))[:, history:].numpy()
        for name, values in clip.outcome.items()
    }


def concatenate(parts: Sequence[Table]) -> Table:
    """Concatenate the clips of batches."""
    return {
        model: {k: np.concatenate([p[model][k] for p in parts]) for k in metrics}
        for model, metrics in parts[0].items()
    }


def beside(one: Readings, other: Readings) -> Readings:
    """Return what both hold of each model."""
    return {m: {**one.get(m, {}), **other.get(m, {})} for m in dict.fromkeys([*one, *other])}


def numbers(tensors: Readings) -> Table:
    """Return tensors as arrays."""
    return {model: {k: v.numpy() for k, v in values.items()} for model, values in tensors.items()}
