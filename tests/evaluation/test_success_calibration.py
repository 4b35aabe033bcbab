"""Calibration of predicted success: worked by hand, and what a perfect and a useless one give."""

from __future__ import annotations

import numpy as np
import pytest

from scd_wm.evaluation.success_calibration import calibration


def test_worked_by_hand() -> None:
    predicted = np.array([0.05, 0.15, 0.15, 1.0])
    success = np.array([False, False, True, True])
    found = calibration(predicted, success, np.arange(4), seed=0)
    assert found["brier"] == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0) / 4)
    assert found["brier_of_base_rate"] == pytest.approx(0.25)
    assert found["base_rate"] == 0.5
    assert found["expected_calibration_error"] == pytest.approx((0.05 + 2 * 0.35 + 0) / 4)
    assert [(b["from"], b["episodes"]) for b in found["bins"]] == [(0, 1), (0.1, 2), (0.9, 1)]
    assert [b["success_rate"] for b in found["bins"]] == [0, 0.5, 1]
    assert found["brier_minus_base_rate"][0] == pytest.approx(found["brier"] - 0.25)


def test_true_chances_are_calibrated_and_better_than_the_base_rate() -> None:
    random = np.random.default_rng(0)
    chances = random.random(20000)
    success = random.random(20000) < chances
    found = calibration(chances, success, np.arange(20000) // 4, seed=0)
    assert found["expected_calibration_error"] < 0.02
    assert found["brier"] == pytest.approx(1 / 6, abs=0.005)  # the mean of c (1 - c)
    assert found["brier_of_base_rate"] == pytest.approx(1 / 4, abs=0.005)
    assert found["brier_minus_base_rate"][2] < 0
    low, high = found["expected_calibration_error_interval"]
    assert 0 < low < found["expected_calibration_error"] < high
    by_chance = found["expected_calibration_error_by_chance"]
    assert found["expected_calibration_error"] == pytest.approx(by_chance, rel=1)


def test_the_base_rate_itself_is_neither_better_nor_worse() -> None:
    success = np.arange(40) % 4 == 0
    found = calibration(np.full(40, 0.25), success, np.arange(40), seed=0)
    assert found["brier_minus_base_rate"] == pytest.approx([0, 0, 0])
    assert found["expected_calibration_error"] == pytest.approx(0)


def test_episodes_of_one_start_are_drawn_together() -> None:
    """Eight policies that share every start are worth one, so the interval is that much wider."""
    random = np.random.default_rng(1)
    success = random.random(30) < 0.5
    predicted = np.clip(success * 0.6 + random.random(30) * 0.4, 0, 1)
    arguments = np.tile(predicted, 8), np.tile(success, 8)
    widths = []
    for starts in (np.tile(np.arange(30), 8), np.arange(240)):
        _, low, high = calibration(*arguments, starts, seed=0)["brier_minus_base_rate"]
        widths.append(high - low)
    assert widths[0] == pytest.approx(np.sqrt(8) * widths[1], rel=0.1)


def test_what_is_no_chance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"chances must be in \[0, 1\]"):
        calibration(np.array([1.2]), np.array([True]), np.arange(1), seed=0)
    with pytest.raises(ValueError, match="calibration needs an episode, got none"):
        calibration(np.array([]), np.array([], bool), np.arange(0), seed=0)
