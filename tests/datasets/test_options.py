"""What may be chosen of a data set: keys by pattern, new names, crops, episodes."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.image_view import Box, centre_box
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from tests.datasets.conftest import index_rows


@pytest.fixture
def two_cameras(tmp_path: Path) -> Path:
    """Return four episodes; every pixel of their images holds its row and column."""
    rows, columns = np.meshgrid(np.arange(24), np.arange(40), indexing="ij")
    image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    with RobomimicWriter(tmp_path / "two.hdf5", {"env_name": "Test", "type": 2}) as writer:
        for episode in range(4):
            writer.add_episode(
                {
                    "front_image": np.stack([image] * 6),
                    "wrist_image": np.stack([image] * 6),
                    "arm_pos": index_rows(episode, 6),
                    "arm_vel": index_rows(episode, 6),
                    "grip": index_rows(episode, 6),
                },
                index_rows(episode, 5),
                np.zeros(5),
                np.zeros(5),
                np.arange(5) == (4 if episode % 2 else 9),
            )
        writer.add_mask("train", [0, 1, 2])
    return tmp_path / "two.hdf5"


def test_keys_are_chosen_by_patterns_in_the_order_asked_for(two_cameras: Path) -> None:
    dataset = open_dataset(two_cameras, cameras=["wrist*"], vectors=["grip", "arm_*", "grip"])
    assert dataset.cameras == ("wrist_image",)
    assert dataset.vectors == ("grip", "arm_pos", "arm_vel")
    with pytest.raises(KeyError, match=r"no vector 'leg_\*' in .*; it has \['arm_pos', "):
        open_dataset(two_cameras, vectors=["leg_*"])


def test_renamed_keys_go_by_their_new_names(two_cameras: Path) -> None:
    names = {"front_image": "top", "grip": "hand"}
    dataset = open_dataset(two_cameras, rename=names, cameras=["top"], vectors=["hand"])
    plain = open_dataset(two_cameras, cameras=["front_image"], vectors=["grip"])
    mine, theirs = dataset.clip(1, 0, 4), plain.clip(1, 0, 4)
    assert (mine.images["top"] == theirs.images["front_image"]).all()
    assert (mine.vectors["hand"] == theirs.vectors["grip"]).all()
    assert dataset.spec().vectors["hand"] == plain.spec().vectors["grip"]


def test_video_may_be_renamed(lerobot_folder: Path) -> None:
    dataset = open_dataset(lerobot_folder, rename={"observation.images.top": "top"})
    plain = open_dataset(lerobot_folder)
    image = plain.clip(2, 1, 3).images["observation.images.top"]
    assert (dataset.clip(2, 1, 3).images["top"] == image).all()


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({"rear": "top"}, KeyError, r"no key 'rear' to rename in .*; it has \['arm_pos', "),
        ({"grip": "reward"}, ValueError, "renamed to 'reward', which means something else"),
        ({"grip": "arm_pos"}, ValueError, "two keys of .* the name 'arm_pos'"),
    ],
)
def test_wrong_renaming_is_refused(
    two_cameras: Path, names: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_dataset(two_cameras, rename=names)


def test_what_is_renamed_already_may_be_renamed_again(two_cameras: Path) -> None:
    assert "grip" in open_dataset(two_cameras, rename={"hand": "grip"}).vectors


def test_a_crop_is_cut_out_before_resizing(two_cameras: Path) -> None:
    dataset = open_dataset(two_cameras, crop=(2, 10, 16, 20), cameras=["front_image"])
    assert dataset.image_sizes == {"front_image": (16, 20)}
    image = dataset.clip(0, 0, 1).images["front_image"][0]
    assert image[:, 0, 0].tolist() == list(range(2, 18))
    assert image[0, :, 1].tolist() == list(range(10, 30))
    halved = open_dataset(two_cameras, crop=(2, 10, 16, 20), image_size=(8, 10))
    small = halved.clip(0, 0, 1).images["front_image"][0, 4, 5].tolist()
    assert small == pytest.approx([2 + 8.5, 10 + 10.5, 0], abs=1)


def test_the_centre_keeps_the_sides_ratio(two_cameras: Path) -> None:
    assert centre_box((24, 40), (8, 8)) == Box(0, 8, 24, 24)
    assert centre_box((40, 24), (8, 8)) == Box(8, 0, 24, 24)
    assert centre_box((480, 640), (96, 128)) == Box(0, 0, 480, 640)
    dataset = open_dataset(two_cameras, crop="center", image_size=24)
    image = dataset.clip(0, 0, 1).images["front_image"][0]
    assert image[0, :, 1].tolist() == list(range(8, 32))


def test_each_camera_may_have_its_own_crop(two_cameras: Path) -> None:
    dataset = open_dataset(two_cameras, crop={"front_image": (0, 0, 8, 8)})
    assert dataset.image_sizes == {"front_image": (8, 8), "wrist_image": (24, 40)}


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        ((0, 0, 25, 8), r"crop \(0, 0, 25, 8\) .* not inside front_image of demo_0 .* are 24x40"),
        ((0, -1, 8, 8), r"top and left from 0 on.* got \[0, -1, 8, 8\]"),
        ((0, 0, 8), r"'center' or \(top, left, height, width\), got \(0, 0, 8\)"),
        ("middle", "'center' or .*, got 'middle'"),
        ("center", "'center' needs image_size"),
    ],
)
def test_wrong_crops_are_refused(two_cameras: Path, crop: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(two_cameras, crop=crop)


def test_video_is_cropped_in_its_cache(lerobot_folder: Path) -> None:
    whole = open_dataset(lerobot_folder).clip(1, 0, 1).images["observation.images.top"]
    cut = open_dataset(lerobot_folder, crop=(4, 8, 16, 16)).clip(1, 0, 1)
    assert (cut.images["observation.images.top"] == whole[:, 4:20, 8:24]).all()


def test_only_episodes_that_succeed_are_used_and_the_others_counted(two_cameras: Path) -> None:
    dataset = open_dataset(two_cameras, only_success=True)
    assert [e.name for e in dataset.episodes] == ["demo_1", "demo_3"]
    assert "2 of 4 episodes without success: demo_0, demo_2" in dataset.info.skipped
    assert dataset.clip(1, 0, 1).vectors["grip"].tolist() == [[3, 0]]


def test_success_is_asked_for_only_of_data_that_tells(two_cameras: Path) -> None:
    with h5py.File(two_cameras, "r+") as file:
        for demo in file["data"].values():
            del demo["success"]
    with pytest.raises(ValueError, match=r"does not say which episodes succeed; .*choose by a ma"):
        open_dataset(two_cameras, only_success=True)


def test_names_must_not_be_one_string() -> None:
    with pytest.raises(TypeError, match="vectors must be a sequence of names, got the string 'a'"):
        DataOptions(vectors="a")


def test_options_survive_json() -> None:
    options = DataOptions(
        cameras=["a"], crop={"a": (0, 0, 4, 4)}, image_size=8, action_mode=("sum", "last"), mask="m"
    )
    assert DataOptions.from_json(options.to_json()) == options
    with pytest.raises(TypeError, match=re.escape("'colour'")):
        DataOptions.from_json({"colour": 1})


def test_a_crop_of_no_camera_is_refused(two_cameras: Path) -> None:
    with pytest.raises(KeyError, match=r"no camera 'wrst_image' to crop in .*; it has \['front_"):
        open_dataset(two_cameras, crop={"wrst_image": (0, 0, 8, 8)})
    crop = {"wrist_image": (0, 0, 8, 8)}  # of one that is not in use
    assert open_dataset(two_cameras, cameras=["front_image"], crop=crop).cameras == ("front_image",)


def test_what_episodes_lack_and_their_sizes_go_by_new_names(tmp_path: Path) -> None:
    with RobomimicWriter(tmp_path / "sizes.hdf5", {}) as writer:
        for side in (16, 24, 32):
            image = np.full((4, 32, 32, 3), side, np.uint8)
            writer.add_episode({"front": image, "grip": index_rows(0, 4)}, index_rows(0, 3))
    with h5py.File(tmp_path / "sizes.hdf5", "r+") as file:
        for name in ("obs", "next_obs"):
            pictures = file[f"data/demo_1/{name}/front"][:, :24, :24]
            del file[f"data/demo_1/{name}/front"], file[f"data/demo_2/{name}/grip"]
            file[f"data/demo_1/{name}/front"] = pictures
    names = {"front": "top", "grip": "hand"}
    dataset = open_dataset(tmp_path / "sizes.hdf5", rename=names, crop=(0, 0, 24, 24))
    assert [e.name for e in dataset.episodes] == ["demo_0", "demo_1"]
    assert "1 of 3 episodes without hand: demo_2" in dataset.info.skipped
    assert dataset.clip(1, 0, 4).images["top"].shape == (4, 24, 24, 3)
    with pytest.raises(ValueError, match=r"top of demo_1 in .*, whose images are 24x24"):
        open_dataset(tmp_path / "sizes.hdf5", rename=names, crop=(0, 0, 32, 32))
