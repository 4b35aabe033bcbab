from itertools import combinations

import numpy as np
import pytest

from scd_wm.evaluation.counterfactual import Divergence, diverge

EPISODES = [f"e{i}" for i in range(6)]


def run(real: np.ndarray, imagined: np.ndarray) -> Divergence | None:
    return diverge("disc", "px", real, imagined, EPISODES, (2, 5), seed=0, num_resamples=200)


def futures(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(6, 4, 5, 2)).cumsum(axis=2)


def test_the_numbers_are_those_of_a_slow_loop() -> None:
    real, imagined = futures(0), 0.5 * futures(0) + 0.3 * futures(1)
    result = run(real, imagined)
    assert result is not None
    for index, frames in enumerate(([0, 1], [2, 3, 4])):
        rr = mr = mm = error = 0.0
        for s in range(6):
            for i, j in combinations(range(4), 2):
                for t in frames:
                    r, m = real[s, i, t] - real[s, j, t], imagined[s, i, t] - imagined[s, j, t]
                    rr, mr, mm = rr + r @ r, mr + m @ r, mm + m @ m
                    error += (m - r) @ (m - r)
        assert result.slope.mean[index] == pytest.approx(mr / rr)
        assert result.cosine.mean[index] == pytest.approx(mr / np.sqrt(rr * mm))
        assert result.error.mean[index] == pytest.approx(np.sqrt(error / rr))
        assert result.slope.low[index] < mr / rr < result.slope.high[index]


def test_a_true_model_a_blind_one_and_one_that_confuses_actions() -> None:
    real = futures(0)
    shared = np.random.default_rng(2).normal(size=(6, 1, 5, 2))  # is in all futures of a start
    true, blind = run(real, real + shared), run(real, np.zeros_like(real) + shared)
    assert true is not None
    assert blind is not None
    np.testing.assert_allclose(true.slope.mean, 1)
    np.testing.assert_allclose(true.cosine.mean, 1)
    np.testing.assert_allclose(true.error.mean, 0, atol=1e-9)
    np.testing.assert_allclose(true.imagined, true.real)
    assert (true.shuffled.mean > 1).all()
    np.testing.assert_allclose(blind.slope.mean, 0, atol=1e-9)
    np.testing.assert_allclose(blind.error.mean, 1)
    confused = run(real, np.roll(real, -1, axis=1))
    assert confused is not None
    np.testing.assert_allclose(confused.error.mean, true.shuffled.mean, rtol=0.5)
    np.testing.assert_allclose(confused.shuffled.mean, 0, atol=1e-9)


def test_frames_that_are_not_known_do_not_count_and_still_futures_are_none() -> None:
    real, imagined = futures(0), futures(1)
    real[0, 0, 3:] = np.nan
    result = run(real, imagined)
    assert result is not None
    assert np.isnan(result.real).sum() == 3  # pairs of the first sequence of one start
    assert run(np.zeros_like(real), imagined) is None
