import json

import numpy as np
import pytest

from scd_wm.evaluation.calibration import NUM_BINS, calibrate

SETTINGS = {"seed": 0, "num_resamples": 200}
EPISODES = np.arange(50) // 5


def test_the_error_is_that_of_a_slow_loop() -> None:
    random = np.random.default_rng(0)
    p, y = random.random((50, 6)), (random.random((50, 6)) < 0.3).astype(float)
    y[3, 2] = np.nan
    curve = calibrate("success", p, y, EPISODES, **SETTINGS)
    assert curve is not None
    total, known = 0.0, ~np.isnan(y)
    for k in range(NUM_BINS):
        inside = known & (p >= k / NUM_BINS) & (p < (k + 1) / NUM_BINS)
        total += abs(p[inside].mean() - y[inside].mean()) * inside.sum() / known.sum()
        assert curve.count[k] == inside.sum()
        assert curve.happened[k] == pytest.approx(y[inside].mean())
    assert curve.error == pytest.approx(total)
    assert curve.error_low < total < curve.error_high
    assert curve.brier == pytest.approx(((p - y) ** 2)[known].mean())
    rate = y[known].mean()
    assert curve.brier_of_base_rate == pytest.approx(rate * (1 - rate))
    assert curve.base_rate == pytest.approx(rate)


def test_true_probabilities_err_as_much_as_chance_and_bold_ones_more() -> None:
    random = np.random.default_rng(1)
    p = random.random((50, 40))
    y = (random.random(p.shape) < p).astype(float)
    true = calibrate("success", p, y, EPISODES, **SETTINGS)
    bold = calibrate("success", (p > 0.5).astype(float), y, EPISODES, **SETTINGS)
    assert true is not None
    assert bold is not None
    assert true.error < 2 * true.error_by_chance
    assert bold.error == pytest.approx(0.25, abs=0.03)
    assert bold.error_by_chance == 0


def test_empty_bins_are_null_in_json_and_certainty_has_a_bin() -> None:
    curve = calibrate("success", np.ones((50, 1)), np.ones((50, 1)), EPISODES, **SETTINGS)
    assert curve is not None
    stored = json.loads(json.dumps(curve.to_json(), allow_nan=False))
    assert stored["count"][-1] == 50
    assert stored["happened"][0] is None
    assert curve.error == 0


def test_nothing_known_is_no_curve() -> None:
    assert (
        calibrate("success", np.ones((50, 1)), np.full((50, 1), np.nan), EPISODES, **SETTINGS)
        is None
    )


def test_an_episode_of_which_nothing_is_known_changes_nothing_but_the_width() -> None:
    p = np.random.default_rng(0).random((4, 30))
    y = (p > 0.4).astype(float)
    y[0] = np.nan
    curve = calibrate("success", p, y, np.arange(4), **SETTINGS)
    alone = calibrate("success", p[1:], y[1:], np.arange(3), **SETTINGS)
    assert curve is not None
    assert alone is not None
    assert curve.error == pytest.approx(alone.error)
    assert 0 < curve.error_low < curve.error_high < 1
