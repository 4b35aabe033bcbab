import math

import numpy as np
import pytest

from scd_wm.evaluation.frechet import compare_features, frechet_distance


def samples(mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    """Samples that have exactly this mean and covariance."""
    raw = np.random.default_rng(seed).normal(size=(200, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(raw, rowvar=False)))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def random_covariance(seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(5, 5))
    return root @ root.T + np.eye(5)


def test_two_gaussians_on_a_line_are_apart_by_means_and_deviations() -> None:
    one = samples(np.array([1.0]), np.array([[4.0]]), 0)
    other = samples(np.array([-2.0]), np.array([[0.25]]), 1)
    assert frechet_distance(one, other) == pytest.approx(3**2 + (2 - 0.5) ** 2)


def test_covariances_that_do_not_commute_have_the_trace_of_the_root_of_their_product() -> None:
    a, b, mean = random_covariance(0), random_covariance(1), np.arange(5.0)
    root = np.sqrt(np.linalg.eigvals(a @ b).real).sum()  # of the product, which is not symmetric
    wanted = mean @ mean + np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance(samples(mean, a, 2), samples(0 * mean, b, 3)) == pytest.approx(wanted)


def test_it_is_0_for_equal_sets_symmetric_and_fine_with_fewer_samples_than_features() -> None:
    random = np.random.default_rng(0)
    few, others = random.normal(size=(4, 9)), random.normal(size=(6, 9))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(few, others) == pytest.approx(frechet_distance(others, few))


def test_halves_of_the_real_samples_share_no_episode() -> None:
    episodes = np.repeat(np.arange(10), 4)
    real = episodes[:, None] * np.ones((40, 2))  # each episode one point
    result = compare_features("net", "top", real, {"world_model": real}, episodes, seed=0)
    assert result.distances["world_model"] == pytest.approx(0, abs=1e-6)
    assert result.real_halves > 0
    half = np.random.default_rng(0).permutation(10)[episodes] % 2 == 0
    assert result.real_halves == pytest.approx(frechet_distance(real[half], real[~half]))
    assert (result.num_samples, result.num_features) == (40, 2)


def test_of_a_single_sample_there_is_no_distance() -> None:
    random = np.random.default_rng(0)
    three = random.normal(size=(3, 4))
    result = compare_features("net", "top", three, {"copy": three}, np.array([0, 1, 1]), seed=0)
    assert result.distances["copy"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(result.real_halves)
    assert result.to_json()["real_halves"] is None
    single = compare_features("net", "top", three[:1], {"copy": three[:1]}, np.array([0]), seed=0)
    assert single.to_json()["distances"] == {"copy": None}
