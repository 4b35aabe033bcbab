import numpy as np
import pytest

from scd_wm.evaluation.explained import explained, stretch_name, stretches

SETTINGS = {"seed": 0, "num_resamples": 200}
EPISODES = np.arange(20) // 2


def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(20, 8, 3)) * [1, 10, 0.1] + 5


def test_stretches_cover_the_horizon_once() -> None:
    assert stretches((1, 4, 8)) == ((1, 1), (2, 4), (5, 8))
    assert [stretch_name(s) for s in stretches((1, 4))] == ["1", "2 to 4"]


def test_r2_of_one_value_is_the_textbook_formula() -> None:
    real = values()[..., :1]
    predicted = real + np.random.default_rng(1).normal(size=real.shape)
    result = explained(real, predicted, EPISODES, (3, 8), **SETTINGS)
    for i, rows in enumerate((slice(0, 3), slice(3, 8))):
        y, p = real[:, rows], predicted[:, rows]
        wanted = 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        assert result.mean[i] == pytest.approx(wanted)
        assert result.low[i] < wanted < result.high[i]


def test_values_count_by_their_deviation_and_not_by_their_unit() -> None:
    real = values()
    predicted = real.copy()
    predicted[..., 2] = real[..., 2].mean()
    result = explained(real, predicted, EPISODES, (8,), **SETTINGS)
    assert result.mean[0] == pytest.approx(2 / 3, abs=1e-6)


def test_perfect_is_1_the_mean_is_0_and_what_is_constant_does_not_count() -> None:
    real = values()
    real[..., 1] = 7
    flat = np.broadcast_to(real.mean(axis=(0, 1)), real.shape)
    assert explained(real, real, EPISODES, (8,), **SETTINGS).mean[0] == pytest.approx(1)
    assert explained(real, flat, EPISODES, (8,), **SETTINGS).mean[0] == pytest.approx(0)
    still = np.zeros_like(real)
    assert np.isnan(explained(still, real, EPISODES, (8,), **SETTINGS).mean[0])


def test_frames_that_are_not_known_do_not_count() -> None:
    real = values()
    predicted = real + 1
    real[:10] = np.nan
    predicted[10:, 4:] = np.nan
    result = explained(real, predicted, EPISODES, (4, 8), **SETTINGS)
    alone = explained(real[10:, :4], predicted[10:, :4], EPISODES[10:], (4,), **SETTINGS)
    assert result.mean[0] == pytest.approx(alone.mean[0])
    assert np.isnan(result.mean[1])
    assert result.count.tolist() == [10, 0]
