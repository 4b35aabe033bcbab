"""Success rates: their interval, and how many episodes a narrow one takes."""

from __future__ import annotations

import math

Z_95 = 1.959964  # of the normal distribution, 97.5 %


def wilson_interval(num_success: int, num_trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a success rate (Wilson 1927, eq. 2)."""
    middle, half = _wilson(num_success / num_trials, num_trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def episodes_needed(rate: float, half_width: float) -> int:
    """Return how many episodes give a 95 % Wilson interval that is no wider.

    Args:
        rate: The success rate that is expected, 0 to 1.
        half_width: Half of the interval's width, in (0, 0.5).

    Raises:
        ValueError: If a number is out of range.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be in [0, 1], got {rate}")
    if not 0 < half_width < 0.5:
        raise ValueError(f"half_width must be above 0 and below 0.5, got {half_width}")
    fewest, enough = 0, 1  # more episodes never widen it, so it can be found by halving
    while _wilson(rate, enough)[1] > half_width:
        fewest, enough = enough, 2 * enough
    while enough - fewest > 1:
        middle = (fewest + enough) // 2
        if _wilson(rate, middle)[1] > half_width:
            fewest = middle
        else:
            enough = middle
    return enough


def _wilson(rate: float, num_trials: int) -> tuple[float, float]:
    """Return the middle of the interval and half of its width."""
    spread = Z_95 * Z_95 / num_trials
    half = math.sqrt(rate * (1 - rate) * spread + spread * spread / 4) / (1 + spread)
    return (rate + spread / 2) / (1 + spread), half
