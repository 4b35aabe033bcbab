"""The measured spec against NumPy on all rows at once."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.measure import MIN_DELTA, MIN_IMAGE_DELTA, Moments
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter


def test_moments_equal_those_of_all_rows_together() -> None:
    rng = np.random.default_rng(0)
    episodes = [1e4 + rng.normal(size=(n, 3)) * [1, 5, 0.1] for n in (4, 1, 9, 30)]
    moments = Moments(3)
    for rows in episodes:
        moments.add(rows)
    rows = np.concatenate(episodes)
    steps = np.concatenate([np.diff(e, axis=0) for e in episodes])
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, rows.std(axis=0), rtol=1e-9)
    spec = moments.vector_spec()
    np.testing.assert_allclose(spec.delta_std, np.sqrt((steps**2).mean(axis=0)), rtol=1e-9)
    np.testing.assert_array_equal(moments.low, rows.min(axis=0))
    np.testing.assert_array_equal(moments.high, rows.max(axis=0))


def test_values_that_do_not_vary_are_not_blown_up() -> None:
    moments = Moments(2)
    moments.add(np.array([[3.0, 0.0], [3.0, 0.0]]))
    moments.add(np.array([[3.0, 8.0], [3.0, 8.0]]))  # constant within an episode, not between
    spec = moments.vector_spec()
    assert spec.mean == (3.0, 4.0)
    assert spec.std == (1.0, 4.0)
    assert spec.delta_std == (MIN_DELTA, 4.0 * MIN_DELTA)


def test_spec_describes_the_frame(robomimic_file: Path) -> None:
    spec = open_dataset(robomimic_file, image_size=(8, 12), frame_skip=2).spec()
    assert spec.layout() == {
        "camera 'top_image'": "8x12x3",
        "vector 'state'": "2 values",
        "action": "4 values",
    }
    assert spec.outcomes == ("reward", "terminated", "success")
    assert spec.fps == 5
    rewards = [1, 5, 4, 1, 1, 5, 9, 6]  # pairs of 0 to 4, 0 to 1 and 0 to 6
    assert spec.reward_mean == pytest.approx(np.mean(rewards))
    assert spec.reward_std == pytest.approx(np.std(rewards))


def test_image_change_is_measured_in_the_models_range(robomimic_file: Path, tmp_path: Path) -> None:
    spec = open_dataset(robomimic_file).spec()  # only green changes, by 20 a frame
    expected = np.sqrt((20 / 127.5) ** 2 / 3)
    assert spec.cameras["top_image"].delta_std == pytest.approx(expected)
    with RobomimicWriter(tmp_path / "still.hdf5", {}) as writer:
        writer.add_episode(
            {"view": np.zeros((3, 4, 4, 3), np.uint8)}, np.ones((2, 1)), *np.zeros((3, 2))
        )
    still = open_dataset(tmp_path / "still.hdf5").spec()
    assert still.cameras["view"].delta_std == MIN_IMAGE_DELTA
    assert still.reward_std == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("array", "key"), [("actions", "action"), ("obs/state", "state"), ("rewards", "reward")]
)
def test_numbers_that_are_not_finite_are_refused(
    robomimic_file: Path, array: str, key: str, bad: float
) -> None:
    with h5py.File(robomimic_file, "r+") as file:
        file[f"data/demo_2/{array}"][3] = bad
    with pytest.raises(
        ValueError, match=f"{key} of demo_2 in .* not finite at row 3: .*1 of [78] rows"
    ):
        open_dataset(robomimic_file, frame_skip=2).spec()
