"""Robomimic's own reader reads what RobomimicWriter writes."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.torchvision_shim import declare_torchvision_operators

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("robomimic") is None,
        reason="robomimic is not installed; it is the extra `robomimic`",
    ),
    pytest.mark.filterwarnings("ignore"),  # of robomimic's and its dependencies' own
]
LENGTHS = [3, 7, 5]
ENV_ARGS = {"env_name": "Test", "type": 2, "env_kwargs": {"control_freq": 10}}


def images(episode: int, num_frames: int) -> np.ndarray:
    """Return (num_frames, 8, 8, 3) uint8 images that say which they are."""
    return np.full((num_frames, 8, 8, 3), 20 * episode, np.uint8) + np.arange(
        num_frames, dtype=np.uint8
    ).reshape(-1, 1, 1, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of three episodes."""
    rng = np.random.default_rng(0)
    with RobomimicWriter(tmp_path / "data.hdf5", ENV_ARGS) as writer:
        for episode, length in enumerate(LENGTHS):
            writer.add_episode(
                {
                    "top_image": images(episode, length + 1),
                    "robot0_eef_pos": rng.normal(size=(length + 1, 3)).astype(np.float32),
                },
                rng.uniform(-1, 1, (length, 2)).astype(np.float32),
                np.arange(length),
                np.arange(length) == length - 1,
                np.zeros(length),
            )
        writer.add_mask("train", [0, 2])
    return tmp_path / "data.hdf5"


def sequence_dataset(path: Path, mask: str | None = None) -> Any:
    """Open the file with robomimic."""
    declare_torchvision_operators()
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.utils.dataset import SequenceDataset

    obs_utils.initialize_obs_utils_with_obs_specs(
        {"obs": {"rgb": ["top_image"], "low_dim": ["robot0_eef_pos"]}}
    )
    return SequenceDataset(
        hdf5_path=str(path),
        obs_keys=["top_image", "robot0_eef_pos"],
        dataset_keys=["actions", "rewards", "dones", "states"],
        frame_stack=1,
        seq_length=2,
        pad_frame_stack=True,
        pad_seq_length=False,
        hdf5_cache_mode=None,
        hdf5_use_swmr=True,
        hdf5_normalize_obs=False,
        filter_by_attribute=mask,
        load_next_obs=True,
    )


def test_robomimic_reads_every_sequence_with_its_next_observation(path: Path) -> None:
    dataset = sequence_dataset(path)
    assert len(dataset) == sum(length - 1 for length in LENGTHS)
    item = dataset[2]  # the first of demo_1
    np.testing.assert_array_equal(item["obs"]["top_image"], images(1, 2))
    np.testing.assert_array_equal(item["next_obs"]["top_image"], images(1, 3)[1:])
    np.testing.assert_array_equal(item["rewards"], [0, 1])
    last = dataset[7]  # the last of demo_1
    np.testing.assert_array_equal(last["next_obs"]["top_image"], images(1, 8)[6:])
    np.testing.assert_array_equal(last["dones"], [0, 1])


def test_robomimic_follows_the_mask(path: Path) -> None:
    assert sequence_dataset(path, "train").demos == ["demo_0", "demo_2"]


def test_robomimic_reads_environment_and_shapes(path: Path) -> None:
    sequence_dataset(path)
    import robomimic.utils.file_utils as file_utils

    assert file_utils.get_env_metadata_from_dataset(str(path)) == ENV_ARGS
    shapes = file_utils.get_shape_metadata_from_dataset(
        str(path), all_obs_keys=["top_image", "robot0_eef_pos"]
    )
    assert shapes["ac_dim"] == 2
    assert shapes["all_shapes"]["top_image"] == [3, 8, 8]


def test_robomimic_reads_what_has_no_last_observation_and_no_rewards(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    with RobomimicWriter(path, ENV_ARGS) as writer:
        for episode in range(2):
            vectors = np.full((4, 3), episode, np.float32)
            frames = {"top_image": images(episode, 4), "robot0_eef_pos": vectors}
            writer.add_episode(frames, np.zeros((4, 2)))
        writer.add_mask("train", [1])
    dataset = sequence_dataset(path, "train")
    assert len(dataset) == 3
    last = dataset[2]
    np.testing.assert_array_equal(last["obs"]["top_image"], images(1, 4)[2:])
    np.testing.assert_array_equal(last["next_obs"]["top_image"], images(1, 4)[[3, 3]])
    np.testing.assert_array_equal(last["rewards"], [0, 0])
    np.testing.assert_array_equal(last["dones"], [0, 1])
