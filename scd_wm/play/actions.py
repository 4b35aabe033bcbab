"""What actions a person may give by hand: between which limits, and where they rest.

Axes: A values of an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np

from scd_wm.envs.imagined_common import USUAL_RANGE, is_usual
from scd_wm.spec import VectorSpec

SPREAD = 3  # standard deviations on either side of the mean that other actions may take
# Positions change little from frame to frame, velocities and displacements as much as they vary.
SMOOTH = 0.5  # changes of this share of the spread, or less, are those of positions


@dataclass(frozen=True)
class ActionRange:
    """Limits of each value of an action, where it rests, and whether it holds when let go."""

    low: tuple[float, ...]  # (A,)
    high: tuple[float, ...]  # (A,)
    rest: tuple[float, ...]  # (A,)
    hold: bool  # a guess: actions are positions, so that a value let go stays as it is

    def checked(self, values: object) -> np.ndarray:
        """Return an action given by hand, (A,) float32.

        Raises:
            ValueError: If it is not A finite numbers within the limits.
        """
        dim = len(self.low)
        if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != dim:
            size = f"{len(values)} values" if isinstance(values, Sequence) else repr(values)
            raise ValueError(f"an action has {dim} values, got {size}")
        for i, value in enumerate(values):
            # Whole numbers may be too large to be told finite, but are compared exactly.
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or value != value:
                raise ValueError(f"value {i + 1} of the action must be a number, got {value!r}")
            if not self.low[i] <= value <= self.high[i]:
                raise ValueError(
                    f"value {i + 1} of the action must be within {self.low[i]:g} to "
                    f"{self.high[i]:g}, got {str(value)[:20]}"
                )
        return np.array(values, dtype=np.float32)


def action_range(action: VectorSpec) -> ActionRange:
    """Return the range of actions given by hand: -1 to 1 where the data's are of that size.

    Otherwise each value may go `SPREAD` standard deviations from its mean and rests there.
    """
    smooth = np.mean(np.array(action.delta_std) / np.array(action.std)) <= SMOOTH
    if is_usual(action):
        dim = action.dim
        return ActionRange((-USUAL_RANGE,) * dim, (USUAL_RANGE,) * dim, (0.0,) * dim, bool(smooth))
    limits = [_rounded(m, s) for m, s in zip(action.mean, action.std, strict=True)]
    low, high = zip(*limits, strict=True)
    return ActionRange(low, high, tuple(action.mean), bool(smooth))


def _rounded(mean: float, std: float) -> tuple[float, float]:
    """Return limits around a mean, rounded outwards to a tenth of the deviation's power of ten."""
    unit = 10.0 ** (floor(log10(std)) - 1)
    return floor((mean - SPREAD * std) / unit) * unit, ceil((mean + SPREAD * std) / unit) * unit
