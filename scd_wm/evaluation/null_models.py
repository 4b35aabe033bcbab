"""Predictions that need no understanding, which a world model must beat for its numbers to count.

Each has the signature of a world model: `Imagine`.

Axes: B clips, T frames, A values
of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.imagination import Frames
from scd_wm.spec import Spec

Imagine = Callable[[Clip, Tensor, Tensor], Frames]
"""(history, actions, seeds) -> frames.

A batched clip of the frames seen so far, the actions taken from there, (B, T, A), and one seed a
clip, (B,) int64; gives the T frames imagined to follow.
"""


def copy_last(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
    """Imagine that nothing changes: the last frame of the history again and again."""
    num_frames = actions.shape[1]

    def repeat(values: Tensor) -> Tensor:
        return values[:, -1:].expand(-1, num_frames, *values.shape[2:])

    return Frames(
        images={k: repeat(v) for k, v in history.images.items()},
        vectors={k: repeat(v) for k, v in history.vectors.items()},
        outcome={k: repeat(v) for k, v in history.outcome.items()},
    )


def zero_action(actions: Tensor) -> Tensor:
    """Return the action that stands for none, (A,): 0 in the units of the data.

    It is clipped to the range of the recorded actions, so that a value that is never 0 takes the
    nearest that there is.

    Args:
        actions: Recorded ones, (..., A).
    """
    rows = actions.flatten(end_dim=-2)
    return torch.zeros_like(rows[0]).clamp(rows.min(dim=0).values, rows.max(dim=0).values)


def describe_zero(zero: Tensor, spec: Spec) -> str:
    """Say what the action that stands for none is, and whether the model may know it."""
    mean, std = torch.tensor(spec.action.mean), torch.tensor(spec.action.std)
    far = int(((zero - mean) / std).abs().argmax())
    away = float(((zero - mean) / std).abs()[far])
    text = "Zero action: 0 in the data's units"
    if zero.any():
        text += f", clipped to the recorded range: {[round(x, 4) for x in zero.tolist()]}"
    return (
        f"{text}; no motion where actions are changes, a place to go to where they are targets. "
        f"Its value {far} is {away:.1f} deviations from the mean of training."
    )


def derangement(episodes: Sequence[str], seed: int) -> np.ndarray:
    """For each clip choose another whose actions it gets instead of its own; each gives once.

    Where it can be so, the other clip comes from another episode.

    Args:
        episodes: The episode of each clip; at least two clips.
        seed: Of the choice.

    Returns:
        Index of the giving clip, (N,) int64, nowhere its own.

    Raises:
        ValueError: If there are fewer than two clips.
    """
    count = len(episodes)
    if count < 2:
        raise ValueError(f"actions can be shuffled among 2 clips or more, got {count}")
    names, episode = np.unique(np.asarray(episodes), return_inverse=True)
    generator = np.random.default_rng(seed)
    order = generator.permutation(count)
    order = order[np.argsort(generator.permutation(len(names))[episode[order]], kind="stable")]
    # Clips are now grouped by episode. A shift by the size of the largest group leaves no clip
    # within its own group unless that group is more than half of all; any shift below the count
    # moves every clip.
    shift = min(int(np.bincount(episode).max()), count - 1)
    giver = np.empty(count, dtype=np.int64)
    giver[order] = np.roll(order, -shift)
    return giver
