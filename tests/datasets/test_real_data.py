"""Data sets recorded by others; skipped where the folder is absent."""

from pathlib import Path

import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.video import decode


def test_the_real_robot_with_video_of_a_few_episodes(shared_data: Path) -> None:
    camera = "observation.images.cam_high"
    dataset = open_dataset(shared_data / "g1_real", image_size=32)
    assert len(dataset.episodes) == 12
    assert dataset.info.fields[camera].shape == (480, 640, 3)
    assert any(s.startswith(f"88 of 100 episodes without {camera}") for s in dataset.info.skipped)
    small = dataset.subset([0])
    clip = small.clip(0, 100, 4)  # decodes this episode only
    assert clip.actions.shape == (3, 26)
    video = shared_data / f"g1_real/videos/chunk-000/{camera}/episode_000001.mp4"
    frames = np.stack(list(decode(video, 104)))[100:].astype(float)
    blocks = frames.reshape(4, 32, 15, 32, 20, 3).mean(axis=(2, 4))  # a plain area mean
    difference = clip.images[camera].numpy() - blocks
    assert np.sqrt((difference**2).mean()) < 8


def test_all_states_of_the_real_robot_can_be_used(shared_data: Path) -> None:
    spec_data = open_dataset(shared_data / "g1_real", cameras=())
    assert (len(spec_data.episodes), spec_data.num_steps) == (100, 35965)
    spec = spec_data.spec()
    assert spec.vectors["observation.state"].dim == spec.action.dim == 26
    assert min(spec.action.std) > 0


def test_a_simulated_robot_with_faulty_metadata(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "gr00t_robot_sim_PickNPlace", cameras=())
    assert (len(dataset.episodes), dataset.num_steps, dataset.fps) == (5, 2096, 20)
    assert dataset.outcomes == ("reward",)
    egoview = "observation.images.egoview: declared, but no episode has a video that can be used"
    assert egoview in dataset.info.skipped
    with pytest.raises(KeyError, match=r"no camera 'observation\.images\.egoview'.*ego_view"):
        open_dataset(dataset.info.path, cameras=["observation.images.egoview"])
