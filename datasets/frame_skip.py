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

ActionMode: TypeAlias = Literal["stack", "last", "sum", "mean"]
"""How actions become the action of a longer step: "stack" keeps all of them, and is always right;
"last" suits positions to go to, "sum" differences, "mean" velocities."""

JOINED: tuple[ActionMode, ...] = ("last", "sum", "mean")  # what single values of an action may be


def check_action_mode(mode: ActionMode | tuple[ActionMode, ...]) -> None:
    """Raise ValueError unless `mode` is one, or one of `JOINED` for each value of an action."""
    if isinstance(mode, str):
        if mode not in ("stack", *JOINED):
            raise ValueError(f"action_mode must be one of {('stack', *JOINED)}, got {mode!r}")
    elif not mode or any(part not in JOINED for part in mode):
        raise ValueError(f"action_mode for single values must be of {JOINED}, got {mode}")


def skip_episode(episode: EpisodeInfo, skip: int) -> EpisodeInfo:
    """Return what is left of an episode."""
    full = episode.num_actions % skip == 0
    return replace(
        episode,
        num_actions=-(-episode.num_actions // skip),
        has_last_observation=episode.has_last_observation and full,
    )


def skip_actions(
    actions: np.ndarray, skip: int, mode: ActionMode | tuple[ActionMode, ...]
) -> np.ndarray:
    """Join the actions, (T, A), of each step.

    Args:
        actions: Of the data.
        skip: Actions in one step.
        mode: For all values, or for each of the A.

    Returns:
        (S, skip * A) for "stack", where an incomplete last step repeats its last action; else
        (S, A), of the actions that there are in an incomplete last step.
    """
    padded = np.concatenate([actions, np.repeat(actions[-1:], -len(actions) % skip, axis=0)])
    if mode == "stack":
        return rearrange(padded, "(s k) a -> s (k a)", k=skip)
    starts = np.arange(0, len(actions), skip)
    sums = np.add.reduceat(actions, starts, axis=0)
    counts = np.diff([*starts, len(actions)])[:, None]
    joined = {"last": padded[skip - 1 :: skip], "sum": sums, "mean": sums / counts}
    if isinstance(mode, str):
        return joined[mode].astype(actions.dtype)
    columns = [joined[part][:, i] for i, part in enumerate(mode)]
    return np.stack(columns, axis=1).astype(actions.dtype)


def skip_outcome(name: str, values: np.ndarray, skip: int) -> np.ndarray:
    """Join the outcomes, (T,), of each step: rewards are summed, flags set if any is.

    Returns:
        (S,) float32.
    """
    padded = np.concatenate([values, np.zeros(-len(values) % skip, values.dtype)])
    steps = rearrange(padded.astype(np.float32), "(s k) -> s k", k=skip)
    return steps.sum(axis=1) if name == "reward" else (steps != 0).any(axis=1).astype(np.float32)
