"""Several steps made one: frames, actions, outcomes, and the incomplete last step."""

from pathlib import Path

import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.frame_skip import skip_actions, skip_episode, skip_outcome
from scd_wm.datasets.reader import EpisodeInfo


@pytest.mark.parametrize(
    ("num_actions", "stored", "steps", "observations"),
    [(6, True, 2, 3), (6, False, 2, 2), (7, True, 3, 3), (7, False, 3, 3), (1, True, 1, 1)],
)
def test_last_observation_is_kept_only_after_a_full_step(
    num_actions: int, stored: bool, steps: int, observations: int
) -> None:
    skipped = skip_episode(EpisodeInfo("e", num_actions, stored), 3)
    assert (skipped.num_actions, skipped.num_observations) == (steps, observations)


def test_actions_are_stacked_taken_last_summed_or_averaged() -> None:
    actions = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50]], np.float32)
    stack = [[1, 10, 2, 20], [3, 30, 4, 40], [5, 50, 5, 50]]  # the last is held
    assert skip_actions(actions, 2, "stack").tolist() == stack
    assert skip_actions(actions, 2, "last").tolist() == [[2, 20], [4, 40], [5, 50]]
    assert skip_actions(actions, 2, "sum").tolist() == [[3, 30], [7, 70], [5, 50]]
    assert skip_actions(actions, 2, "mean").tolist() == [[1.5, 15], [3.5, 35], [5, 50]]
    assert skip_actions(actions, 2, ("sum", "last")).tolist() == [[3, 20], [7, 40], [5, 50]]
    assert skip_actions(actions, 2, ("sum", "last")).dtype == np.float32


def test_rewards_are_summed_and_flags_joined() -> None:
    assert skip_outcome("reward", np.array([1.0, 2, 3, 4, 5]), 2).tolist() == [3, 7, 5]
    flags = np.array([False, True, False, False, True])
    assert skip_outcome("success", flags, 2).tolist() == [1, 0, 1]


@pytest.mark.parametrize("keep_bytes", [0, 2**30])
def test_skipping_a_data_set_takes_every_third_frame(robomimic_file: Path, keep_bytes: int) -> None:
    every = open_dataset(robomimic_file, memory_bytes=keep_bytes)
    third = open_dataset(robomimic_file, frame_skip=3, memory_bytes=keep_bytes)
    assert [e.num_actions for e in third.episodes] == [2, 1, 3]  # of 5, 2 and 7 steps
    assert third.fps == pytest.approx(10 / 3)
    assert third.action_dim == third.arrays(0).actions.shape[1] == 6
    clip, whole = third.clip(2, -1, 5), every.clip(2, 0, 8)
    for k in range(3):  # after the start frame
        image = clip.images["top_image"][1 + k]
        assert (image == whole.images["top_image"][3 * k]).all()
        assert clip.vectors["state"][1 + k].tolist() == [2, 3 * k]
    assert clip.valid["top_image"].tolist() == [False, True, True, True, False]
    assert clip.valid["success"].tolist() == [False, False, True, True, True]
    assert clip.outcome["reward"].tolist() == [0, 0, 0 + 1 + 2, 3 + 4 + 5, 6]
    assert clip.outcome["success"].tolist() == [0, 0, 0, 0, 1]
    assert clip.actions[1].tolist() == [2, 0, 2, 1, 2, 2]
    assert third.clip(2, 3, 1).valid["state"].tolist() == [False]  # only the outcome is there


def test_arguments_out_of_range_are_refused(robomimic_file: Path) -> None:
    with pytest.raises(ValueError, match="frame_skip must be at least 1, got 0"):
        open_dataset(robomimic_file, frame_skip=0)
    with pytest.raises(ValueError, match=r"action_mode must be .*, got 'median'"):
        open_dataset(robomimic_file, action_mode="median")
    with pytest.raises(ValueError, match=r"single values must be of .*, got \('stack', 'last'\)"):
        open_dataset(robomimic_file, action_mode=("stack", "last"))
    with pytest.raises(ValueError, match=r"action_mode has 3 entries, actions of .* have 2 values"):
        open_dataset(robomimic_file, action_mode=("sum", "sum", "last"))
    with pytest.raises(ValueError, match=r"image_size must be .* positive numbers, got 0"):
        open_dataset(robomimic_file, image_size=0)
