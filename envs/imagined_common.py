"""What the imagined environments check and show: spaces, seeds, starts, pictures.

Axes: B sub-environments, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict
from torch import Tensor

from scd_wm.imagination import Frames
from scd_wm.spec import Spec, VectorSpec

Observation = dict[str, np.ndarray]

USUAL_RANGE = 1.0  # of actions: robomimic's convention, and our environments'
FAR_OUT = 1.5  # standard deviations and mean beyond this are not of the usual range


def observation_space(spec: Spec) -> Dict:
    """Return the space of one frame: its cameras and vectors by name."""
    cameras = {
        name: Box(0, 255, (c.height, c.width, c.channels), np.uint8)
        for name, c in spec.cameras.items()
    }
    vectors = {n: Box(-np.inf, np.inf, (v.dim,), np.float32) for n, v in spec.vectors.items()}
    return Dict({**cameras, **vectors})


def usual_actions(spec: Spec) -> Box:
    """Return the space of actions between -1 and 1.

    Raises:
        ValueError: If those of the data are clearly not within.
    """
    action = spec.action
    if not is_usual(action):
        raise ValueError(
            f"actions of the data have means {_shown(action.mean)} and deviations "
            f"{_shown(action.std)}, so they are not within -1 to 1: give action_space"
        )
    return Box(-USUAL_RANGE, USUAL_RANGE, (action.dim,), np.float32)


def is_usual(action: VectorSpec) -> bool:
    """Return whether actions of the data may well be between -1 and 1."""
    return max(*map(abs, action.mean), *action.std) <= FAR_OUT * USUAL_RANGE


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Join images (H, W, 3) in a row, aligned at the top."""
    height = max(len(image) for image in images)
    padded = [np.pad(i, ((0, height - len(i)), (0, 0), (0, 0))) for i in images]
    return np.concatenate(padded, axis=1)


def _shown(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"


def check_rendering(mode: str | None, spec: Spec) -> None:
    """Raise ValueError unless there is something to render in this mode, or nothing is wanted."""
    if mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be 'rgb_array' or None, got {mode!r}")
    if mode is not None and not spec.cameras:
        raise ValueError("a world without cameras has nothing to render; leave render_mode out")


def row_seeds(seed: int | Sequence[int | None] | None, count: int) -> Sequence[int | None]:
    """Return a seed, or None, for each sub-environment.

    Raises:
        ValueError: If their number is wrong.
    """
    if seed is None:
        return [None] * count
    if isinstance(seed, int | np.integer):
        return [int(seed) + i for i in range(count)]
    if len(seed) != count:
        raise ValueError(f"{len(seed)} seeds for {count} sub-environments")
    return seed


def checked_mask(mask: object, count: int) -> np.ndarray:
    """Return which sub-environments are to be reset, (B,) bool."""
    if mask is None:
        return np.ones(count, dtype=bool)
    if not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == (count,)):
        raise ValueError(f"reset_mask must be a bool array of shape ({count},), got {mask!r}")
    if not mask.any():
        raise ValueError("reset_mask must name at least one sub-environment, got none")
    return mask


def chosen_starts(
    given: object,
    rows: np.ndarray,
    num_envs: int,
    num_starts: int,
    randoms: Sequence[np.random.Generator],
) -> np.ndarray:
    """Return the start of each row, (len(rows),) int64: as given, else drawn."""
    if given is None:
        return np.array([randoms[row].integers(num_starts) for row in rows], dtype=np.int64)
    chosen = np.broadcast_to(np.asarray(given), (num_envs,))[rows]
    if (
        not np.issubdtype(chosen.dtype, np.integer)
        or not ((chosen >= 0) & (chosen < num_starts)).all()
    ):
        raise ValueError(f"start must be numbers from 0 to {num_starts - 1}, got {given!r}")
    return chosen.astype(np.int64)


def success_info(outcome: Mapping[str, np.ndarray], stepped: np.ndarray) -> dict[str, Any]:
    """Return what is said of success, with Gymnasium's masks of who says it."""
    if "success" not in outcome:
        return {}
    probability = np.where(stepped, outcome["success"], 0.0)
    return {
        "success": probability > 0.5,
        "_success": stepped.copy(),
        "success_probability": probability,
        "_success_probability": stepped.copy(),
    }


def uncertainty_info(
    uncertainty: np.ndarray | None, stepped: np.ndarray, stop_at: float | None
) -> dict[str, Any]:
    """Return what is said of uncertainty, with Gymnasium's masks of who says it."""
    if uncertainty is None:
        return {}
    info: dict[str, Any] = {
        "uncertainty": np.where(stepped, uncertainty, 0.0),
        "_uncertainty": stepped.copy(),
    }
    if stop_at is not None:
        info |= {"off_data": stepped & (uncertainty > stop_at), "_off_data": stepped.copy()}
    return info


def to_numpy(frames: Frames) -> Observation:
    """Return the observations of frames as arrays that nothing else holds."""
    images: dict[str, Tensor] = {**frames.images}
    vectors = {k: v.float() for k, v in frames.vectors.items()}
    return {k: v.cpu().numpy().copy() for k, v in {**images, **vectors}.items()}
