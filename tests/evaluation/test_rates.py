"""Success rates: Wilson's equation, and the fewest episodes for an interval."""

from __future__ import annotations

import math

import pytest

from scd_wm.evaluation.rates import episodes_needed, wilson_interval


@pytest.mark.parametrize(("num_success", "num_trials"), [(0, 10), (3, 10), (10, 10), (81, 263)])
def test_wilsons_interval_solves_its_equation(num_success: int, num_trials: int) -> None:
    """At both ends the observed rate is 1.96 standard deviations of that end away."""
    rate = num_success / num_trials
    for end in wilson_interval(num_success, num_trials):
        deviation = math.sqrt(end * (1 - end) / num_trials)
        assert abs(rate - end) == pytest.approx(1.959964 * deviation, abs=1e-7)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("half_width", [0.3, 0.1, 0.06])
def test_so_many_episodes_are_enough_and_one_less_is_not(rate: float, half_width: float) -> None:
    """By brute force over the formula as Wilson has it: the distance of the roots, halved."""
    z = 1.959964

    def half(n: int) -> float:
        a, b, c = 1 + z * z / n, -(2 * rate + z * z / n), rate * rate
        return math.sqrt(b * b - 4 * a * c) / (2 * a)

    found = next(n for n in range(1, 2000) if half(n) <= half_width)
    assert episodes_needed(rate, half_width) == found


def test_known_numbers_of_episodes() -> None:
    assert episodes_needed(0.5, 0.1) == 93  # z^2 (1 - 4 h^2) / (4 h^2), rounded up
    assert episodes_needed(0.5, 0.05) == math.ceil(1.959964**2 * 0.99 / 0.01)


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 1.5"):
        episodes_needed(1.5, 0.1)
    with pytest.raises(ValueError, match=r"half_width must be above 0 and below 0.5, got 0"):
        episodes_needed(0.5, 0)
