"""Make one step of several.

Axes: T steps of the data, S = ceil(T / skip) steps after frame skip, A values of an action.

Frame k after skipping is frame k * skip of the data. The last step may be made of fewer than `skip`
steps. It keeps its outcome, which is often the only success of the episode; the frame after it has
no observation, since the data's last frame came sooner than a full step later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from einops import rearrange

from scd_wm.datasets.reader import EpisodeInfo

ActionMode: TypeAlias = Literal["stack", "last", "sum"]


def skip_episode(episode: EpisodeInfo, skip: int) -> EpisodeInfo:
    """Return what is left of an episode."""
    full = episode.num_actions % skip == 0
    return replace(
        episode,
        num_actions=-(-episode.num_actions // skip),
        has_last_observation=episode.has_last_observation and full,
    )


def skip_actions(actions: np.ndarray, skip: int, mode: ActionMode) -> np.ndarray:
    """Join the actions, (T, A), of each step.

    Returns:
        (S, skip * A) for "stack", where an incomplete last step repeats its last action; (S, A) for
        "last" and "sum".
    """
    missing = -len(actions) % skip
    fill = np.zeros_like(actions[-1:]) if mode == "sum" else actions[-1:]
    padded = np.concatenate([actions, np.repeat(fill, missing, axis=0)])
    if mode == "stack":
        return rearrange(padded, "(s k) a -> s (k a)", k=skip)
    steps = rearrange(padded, "(s k) a -> s k a", k=skip)
    return steps[:, -1] if mode == "last" else steps.sum(axis=1)


def skip_outcome(name: str, values: np.ndarray, skip: int) -> np.ndarray:
    """Join the outcomes, (T,), of each step: rewards are summed, flags set if any is.

    Returns:
        (S,) float32.
    """
    padded = np.concatenate([values, np.zeros(-len(values) % skip, values.dtype)])
    steps = rearrange(padded.astype(np.float32), "(s k) -> s k", k=skip)
    return steps.sum(axis=1) if name == "reward" else (steps != 0).any(axis=1).astype(np.float32)
