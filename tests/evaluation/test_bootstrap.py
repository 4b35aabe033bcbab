import numpy as np
import pytest

from scd_wm.evaluation.bootstrap import bootstrap_mean


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    covered, trials, num_episodes, clips_each = 0, 200, 24, 3
    groups = np.repeat(np.arange(num_episodes), clips_each)
    for trial in range(trials):
        episode = generator.normal(5.0, 1.0, num_episodes)[groups]  # clips of an episode are alike
        values = episode + generator.normal(0.0, 0.5, len(groups))
        interval = bootstrap_mean(values[:, None], groups, seed=trial, num_resamples=500)
        covered += bool(interval.low[0] <= 5.0 <= interval.high[0])
    assert 0.88 <= covered / trials <= 0.98


def test_copies_of_the_clips_of_an_episode_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(1).normal(size=(20, 1))
    once = bootstrap_mean(values, np.arange(20), seed=0)
    tenfold = bootstrap_mean(np.repeat(values, 10, axis=0), np.repeat(np.arange(20), 10), seed=0)
    np.testing.assert_allclose(tenfold.low, once.low)
    np.testing.assert_allclose(tenfold.high, once.high)


def test_it_equals_a_loop_over_resampled_episodes() -> None:
    generator = np.random.default_rng(2)
    values, groups = generator.normal(size=(12, 2)), np.array(list("aabbbccddeef"))
    values[3, 1] = np.nan
    interval = bootstrap_mean(values, groups, seed=7, num_resamples=300)
    drawn = np.random.default_rng(7).multinomial(6, np.full(6, 1 / 6), 300)
    names = np.unique(groups)
    means = np.array(
        [
            np.nanmean(
                np.concatenate(
                    [values[groups == n] for n, k in zip(names, row, strict=True) for _ in range(k)]
                ),
                axis=0,
            )
            for row in drawn
        ]
    )
    np.testing.assert_allclose(interval.low, np.quantile(means, 0.025, axis=0))
    np.testing.assert_allclose(interval.high, np.quantile(means, 0.975, axis=0))
    np.testing.assert_allclose(interval.mean, np.nanmean(values, axis=0))
    assert interval.count.tolist() == [12, 11]


def test_the_seed_decides_the_interval() -> None:
    values, groups = np.random.default_rng(3).normal(size=(30, 1)), np.arange(30)
    first, again, other = (bootstrap_mean(values, groups, seed=s).low[0] for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_single_episode_is_resampled_by_clip() -> None:
    values = np.random.default_rng(4).normal(size=(30, 1))
    alone = bootstrap_mean(values, ["only"] * 30, seed=0)
    clips = bootstrap_mean(values, np.arange(30), seed=0)
    assert alone.low[0] == pytest.approx(clips.low[0])
    assert alone.high[0] > alone.low[0]


def test_a_frame_where_no_clip_counts_is_nan() -> None:
    values = np.array([[1.0, np.nan], [2.0, np.nan], [4.0, np.nan]])
    interval = bootstrap_mean(values, [0, 1, 2], seed=0)
    assert np.isnan([interval.mean[1], interval.low[1], interval.high[1]]).all()
    assert interval.count.tolist() == [3, 0]
    assert interval.excludes_zero(0)
    assert not interval.excludes_zero(1)


def test_what_is_but_rounding_is_no_difference() -> None:
    tiny, own = np.array([[2.6e-9], [1.0e-9]]), np.array([[2.6e-6], [1.0e-6]])
    assert not bootstrap_mean(tiny, [0, 1], seed=0).excludes_zero(0)
    assert bootstrap_mean(own, [0, 1], seed=0).excludes_zero(0)
    assert bootstrap_mean(-own, [0, 1], seed=0).excludes_zero(0)
