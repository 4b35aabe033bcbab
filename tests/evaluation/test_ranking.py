"""Rankings: statistics against numbers worked by hand and slow loops, and their intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

from scd_wm.evaluation.ranking import (
    STATISTICS,
    compare_rankings,
    estimate_text,
    is_above_0,
    mcnemar,
    mean_error,
    mean_optimism,
    mmrv,
    pearson,
    spearman,
    success_pairs,
)

NAN = float("nan")


def slow_mmrv(real: list[float], imagined: list[float]) -> float:
    """The two equations of SIMPLER's paper, word by word."""
    total = 0.0
    for i in range(len(real)):
        violations = [
            abs(real[i] - real[j]) * ((imagined[i] < imagined[j]) != (real[i] < real[j]))
            for j in range(len(real))
        ]
        total += max(violations)
    return total / len(real)


def one(value: np.ndarray) -> float:
    return float(value)


def test_mmrv_worked_by_hand() -> None:
    real = np.array([0.9, 0.6, 0.5, 0.1])
    assert one(mmrv(real, np.array([0.4, 0.3, 0.2, 0.1]))) == 0  # same order, far too low
    # The second and third change places: each is 0.1 from the one on its wrong side.
    assert one(mmrv(real, np.array([0.9, 0.5, 0.6, 0.1]))) == pytest.approx(0.2 / 4)
    # All the other way round: to the farther end of 0.9 to 0.1 it is 0.8, 0.5, 0.4 and 0.8.
    assert one(mmrv(real, np.array([0.1, 0.5, 0.6, 0.9]))) == pytest.approx(2.5 / 4)
    # All tied: charged is the worse of two, by its distance from the best.
    assert one(mmrv(real, np.zeros(4))) == pytest.approx((0 + 0.3 + 0.4 + 0.8) / 4)


def test_mmrv_is_that_of_the_paper() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        real, imagined = random.integers(0, 4, size=(2, 5)) / 4  # with many ties
        assert one(mmrv(real, imagined)) == pytest.approx(slow_mmrv([*real], [*imagined]))


def test_correlations_are_those_of_torchmetrics_with_ties_too() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        a, b = random.integers(0, 5, size=(2, 8)).astype(float)
        pair = torch.tensor(a), torch.tensor(b)
        assert one(pearson(a, b)) == pytest.approx(float(pearson_corrcoef(*pair)), abs=1e-6)
        # torchmetrics' own spread of ties has a small constant below the root
        assert one(spearman(a, b)) == pytest.approx(float(spearman_corrcoef(*pair)), abs=1e-4)


def test_ranks_and_not_sizes_count_for_spearman() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert one(spearman(a, np.exp(a))) == pytest.approx(1)
    assert one(pearson(a, np.exp(a))) < 0.95
    # Ties worked by hand: ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3 give sqrt(0.9).
    assert one(spearman(np.array([1.0, 2.0, 2.0, 3.0]), a)) == pytest.approx(math.sqrt(0.9))


def test_what_is_not_defined_is_nan_and_never_0() -> None:
    same, other = np.array([0.3, 0.3, 0.3]), np.array([0.1, 0.2, 0.4])
    for correlation in (pearson, spearman):
        assert math.isnan(one(correlation(same, other)))
        assert math.isnan(one(correlation(other, same)))
    nearly = same + np.array([0, 5e-17, 0])  # differs by rounding
    assert math.isnan(one(pearson(nearly, other)))
    for statistic in STATISTICS.values():
        assert math.isnan(one(statistic(other, np.array([0.1, NAN, 0.2]))))
        assert math.isnan(one(statistic(np.array([0.1, NAN, 0.2]), other)))


def test_error_and_optimism() -> None:
    real, imagined = np.array([0.2, 0.8]), np.array([0.4, 0.7])
    assert one(mean_error(real, imagined)) == pytest.approx(0.15)
    assert one(mean_optimism(real, imagined)) == pytest.approx(0.05)


def test_statistics_of_many_at_once_are_those_of_each() -> None:
    random = np.random.default_rng(2)
    real, imagined = random.integers(0, 5, size=(2, 6, 7)) / 5
    for statistic in STATISTICS.values():
        each = [statistic(a, b) for a, b in zip(real, imagined, strict=True)]
        np.testing.assert_allclose(statistic(real, imagined), each)


def episodes(rates: list[float], count: int, seed: int) -> np.ndarray:
    """Success of policies from starts whose difficulty they share."""
    hard = np.random.default_rng(seed).random(count)
    return (hard[None] < np.array(rates)[:, None]).astype(float)


def everywhere(table: np.ndarray) -> np.ndarray:
    return np.ones(table.shape, bool)


def test_a_perfect_imagination_has_perfect_numbers_and_no_width() -> None:
    real = episodes([0.1, 0.4, 0.7, 0.9], 40, 0)
    found = compare_rankings(real, real, everywhere(real), seed=0)
    for name, value in {"pearson": 1, "spearman": 1, "mmrv": 0, "mean_error": 0}.items():
        assert found[name].value == pytest.approx(value)
        assert found[name].of_episodes == pytest.approx((value, value))
        assert found[name].of_both == pytest.approx((value, value))
    assert 0 < found["pearson"].undefined_of_both < 0.1  # the same policy four times: 1 of 64


def test_starts_are_drawn_together_for_both_worlds() -> None:
    """The mean difference of paired episodes has the closed form of a mean; unpaired is wider."""
    real = episodes([0.3, 0.6], 200, 1)
    imagined = real.copy()
    imagined[:, :20] = 1 - imagined[:, :20]  # wrong from a tenth of the starts
    found = compare_rankings(real, imagined, everywhere(real), seed=0, num_resamples=4000)
    differences = (imagined - real).mean(axis=0)
    deviation = differences.std() / math.sqrt(200)
    low, high = found["mean_optimism"].of_episodes
    assert found["mean_optimism"].value == pytest.approx(differences.mean())
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.08)


def test_other_policies_are_a_wider_interval_than_other_starts() -> None:
    real = episodes([0.1, 0.3, 0.5, 0.7, 0.9], 400, 3)
    imagined = episodes([0.3, 0.1, 0.5, 0.9, 0.7], 400, 3)
    found = compare_rankings(real, imagined, everywhere(real), seed=0)
    for name in ("pearson", "spearman", "mmrv"):
        widths = [np.diff(x)[0] for x in (found[name].of_episodes, found[name].of_both)]
        assert widths[1] > 2 * widths[0]
        low, high = found[name].of_both
        assert low <= found[name].value <= high


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of the mean error of independent worlds, whose truth is known; 95 % of 100 is 90 to 99."""
    rates = np.array([0.2, 0.5, 0.8])
    truth, random, held = 0.1, np.random.default_rng(4), 0
    for seed in range(100):
        real = (random.random((3, 60)) < rates[:, None]).astype(float)
        imagined = (random.random((3, 60)) < rates[:, None] + 0.1).astype(float)
        found = compare_rankings(real, imagined, everywhere(real), seed=seed, num_resamples=200)
        low, high = found["mean_optimism"].of_episodes
        held += low <= truth <= high
    assert held >= 90


def test_episodes_that_do_not_count_change_nothing() -> None:
    random = np.random.default_rng(5)
    real, imagined = random.integers(0, 2, size=(2, 4, 30)).astype(float)
    counted = random.random((4, 30)) < 0.7
    found = compare_rankings(real, imagined, counted, seed=0)
    noise = np.where(counted, 0, random.normal(size=(4, 30)))
    again = compare_rankings(real + noise, imagined + noise, counted, seed=0)
    assert found == again
    means = [np.where(counted, world, 0).sum(1) / counted.sum(1) for world in (real, imagined)]
    assert found["pearson"].value == pytest.approx(np.corrcoef(means[0], means[1])[0, 1])


def test_an_undefined_estimate_is_null_and_called_so() -> None:
    real = episodes([0.2, 0.6, 0.8], 20, 0)
    found = compare_rankings(real, np.zeros_like(real), everywhere(real), seed=0)
    data = found["pearson"].to_json()
    assert data["value"] is None
    assert data["interval_over_episodes"] == [None, None]
    assert data["undefined_over_episodes"] == 1
    assert estimate_text(data) == "undefined"
    assert found["mmrv"].value == pytest.approx(slow_mmrv([*real.mean(axis=1)], [0, 0, 0]))


def test_the_p_value_is_that_of_the_sign_test_by_brute_force() -> None:
    first = np.array([1, 1, 1, 1, 1, 0, 0, 1, 0], float)
    second = np.array([0, 0, 0, 0, 0, 1, 0, 1, 0], float)
    # six starts tell them apart, five to one; as far or farther of all 64 ways
    ways = [sum(way) for way in itertools.product((0, 1), repeat=6)]
    expected = sum(abs(won - 3) >= 2 for won in ways) / 64
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(first, first) == 1
    assert mcnemar(np.ones(6), np.zeros(6)) == pytest.approx(2 / 64)


def test_pairs_say_which_are_flipped_tied_and_clear() -> None:
    real = np.array([[1] * 10, [1] * 2 + [0] * 8, [0] * 10], float)
    imagined = np.array([[1] * 4 + [0] * 6, [1] * 8 + [0] * 2, [1] * 4 + [0] * 6], float)
    first, second, third = success_pairs(real, imagined, everywhere(real))
    assert [(p.first, p.second) for p in (first, second, third)] == [(0, 1), (0, 2), (1, 2)]
    assert (first.is_flipped, second.is_flipped, third.is_flipped) == (True, False, False)
    assert (first.is_tied, second.is_tied, third.is_tied) == (False, True, False)
    assert first.real == pytest.approx(0.8)
    assert first.imagined == pytest.approx(-0.4)
    assert first.real_p == pytest.approx(2 / 2**8)
    assert third.real_p == pytest.approx(2 / 2**2)


def test_what_cannot_be_compared_is_refused() -> None:
    alone = np.zeros((1, 3))
    with pytest.raises(ValueError, match="a ranking is of 2 policies or more, got 1"):
        compare_rankings(alone, alone, everywhere(alone), seed=0)
    with pytest.raises(ValueError, match=r"shapes differ: \(2, 3\), \(1, 3\), \(2, 3\)"):
        compare_rankings(np.zeros((2, 3)), alone, np.ones((2, 3), bool), seed=0)


def test_a_single_success_each_ranks_nothing() -> None:
    """Its correlation is 1 wherever it is defined, which is seldom."""
    real, imagined = np.zeros((2, 50)), np.zeros((2, 50))
    real[0, 3] = imagined[0, 7] = 1
    data = compare_rankings(real, imagined, np.ones((2, 50), bool), seed=0)["spearman"].to_json()
    assert (data["value"], data["interval_over_episodes"]) == (1, [1, 1])
    both_drawn = 1 - 2 * 0.98**50 + 0.96**50  # either start at least once among 50
    assert data["undefined_over_episodes"] == pytest.approx(1 - both_drawn, abs=0.04)
    assert not is_above_0(data)
    share = f"{data['undefined_over_episodes']:.0%}"
    assert estimate_text(data) == f"1.00 (1.00 to 1.00, undefined in {share})"
    clear = compare_rankings(1 - real, 1 - real, np.ones((2, 50), bool), seed=0)["mean_error"]
    assert not is_above_0(clear.to_json())
    many = np.array([[0.0] * 20, [1.0] * 20])
    assert is_above_0(
        compare_rankings(many, many, np.ones((2, 20), bool), seed=0)["spearman"].to_json()
    )
