"""Assemble a batch of clips from rows of episodes, copying every value once.

Axes: B clips, F frames of a clip, R rows of an episode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def gather(rows: Sequence[np.ndarray], starts: Sequence[int], length: int) -> Tensor:
    """Return `length` rows of each episode, with zeros where there is no such row.

    Args:
        rows: Of each clip's episode, (R, ...), R of its own.
        starts: First row of each clip; may be below 0.
        length: Rows of a clip, F.

    Returns:
        (B, F, ...) of the rows' dtype.
    """
    batch = np.empty((len(rows), length, *rows[0].shape[1:]), rows[0].dtype)
    for clip, values, start in zip(batch, rows, starts, strict=True):
        first, last = max(start, 0), min(start + length, len(values))
        if last - first == length:
            clip[:] = values[first:last]
        else:
            clip[:] = 0
            if first < last:
                clip[first - start : last - start] = values[first:last]
    return torch.from_numpy(batch)


def list_windows(lengths: Sequence[int], num_frames: int, first: int) -> np.ndarray:
    """List every window of `num_frames` frames, (N, 2) int64: the episode and its first frame.

    Args:
        lengths: Frames of each episode.
        num_frames: F.
        first: Frame at which windows may begin in every episode.

    Raises:
        ValueError: If `num_frames` is below 1.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    counts = np.maximum(np.array(lengths, np.int64) + 1 - num_frames - first, 0)
    episodes = np.repeat(np.arange(len(lengths)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)  # windows of earlier episodes
    return np.stack([episodes, np.arange(len(episodes)) - before + first], axis=1)


def within(starts: np.ndarray, counts: np.ndarray, length: int) -> Tensor:
    """Return which of `length` rows from each start exist, (B, F) bool.

    Args:
        starts: First row of each clip, (B,).
        counts: Rows R of its episode, (B,).
        length: F.
    """
    rows = starts[:, None] + np.arange(length)
    return torch.from_numpy((rows >= 0) & (rows < counts[:, None]))
