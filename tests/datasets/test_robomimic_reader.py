"""Robomimic files of others, with the faults of files found in the field."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.datasets.robomimic_reader import RobomimicReader


def episode(length: int = 3, action_dim: int = 2) -> dict[str, np.ndarray]:
    """Return the arguments of `RobomimicWriter.add_episode`."""
    flags = np.zeros(length, bool)
    return {
        "actions": np.full((length, action_dim), 0.1, np.float32),
        "rewards": np.arange(length, dtype=np.float32),
        "terminated": flags,
        "success": flags,
    }


def state(length: int = 4, dim: int = 2) -> dict[str, np.ndarray]:
    return {"state": np.zeros((length, dim), np.float32)}


def edit(path: Path, change: Callable[[h5py.File], object]) -> RobomimicReader:
    """Change a file and open it."""
    with h5py.File(path, "r+") as file:
        change(file)
    return RobomimicReader(path)


def test_episodes_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "many.hdf5"
    with RobomimicWriter(path, {}) as writer:
        for _ in range(12):
            writer.add_episode(state(), **episode())

    def rename(file: h5py.File) -> None:
        for i in reversed(range(12)):
            file.move(f"data/demo_{i}", f"data/demo_{i + 1}")

    names = [e.name for e in edit(path, rename).info.episodes]
    assert names == [f"demo_{i}" for i in range(1, 13)]


def test_lengths_come_from_the_arrays(robomimic_file: Path) -> None:
    def change(file: h5py.File) -> None:
        file["data"].attrs["total"] = 99
        del file["data/demo_0"].attrs["num_samples"]
        file["data/demo_1"].attrs["num_samples"] = 50

    info = edit(robomimic_file, change).info
    assert [e.num_actions for e in info.episodes] == [5, 2, 7]
    assert info.skipped == ("attribute total: says 99 steps, the usable episodes have 14",)


def test_without_next_obs_the_last_observation_is_missing(robomimic_file: Path) -> None:
    info = edit(robomimic_file, lambda file: file.__delitem__("data/demo_1/next_obs")).info
    assert [e.num_observations for e in info.episodes] == [6, 2, 8]
    clip = open_dataset(robomimic_file).clip(1, 0, 3)
    assert clip.valid["top_image"].tolist() == [True, True, False]
    assert clip.valid["success"].tolist() == [False, True, True]


def test_foreign_files_offer_rewards_but_not_dones(robomimic_file: Path) -> None:
    def change(file: h5py.File) -> None:
        for name in file["data"]:
            for key in ("success", "terminated", "states"):
                del file[f"data/{name}/{key}"]

    reader = edit(robomimic_file, change)
    assert reader.info.outcomes == ("reward",)
    assert reader.info.skipped == ("dones: not used, as it also marks the end of a recording",)


def test_an_outcome_that_an_episode_lacks_is_not_offered(robomimic_file: Path) -> None:
    info = edit(robomimic_file, lambda file: file.__delitem__("data/demo_1/rewards")).info
    assert info.outcomes == ("terminated", "success")


def test_nested_groups_are_read_by_their_path(robomimic_file: Path) -> None:
    def change(file: h5py.File) -> None:
        for demo in file["data"].values():
            for group in ("obs", "next_obs"):
                demo.move(f"{group}/state", f"{group}/robot0/eef/state")

    reader = edit(robomimic_file, change)
    assert set(reader.info.fields) == {"robot0/eef/state", "top_image"}
    assert reader.read(2, "robot0/eef/state", 6, 8).tolist() == [[2, 6], [2, 7]]


def test_episodes_whose_arrays_disagree_are_skipped(robomimic_file: Path) -> None:
    def change(file: h5py.File) -> None:
        demo = file["data/demo_0"]
        rows = demo["obs/state"][:-1]
        del demo["obs/state"]
        demo["obs/state"] = rows
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = np.zeros((2, 3))
        file.copy("data/demo_2", "data/demo_3")
        del file["data/demo_3/actions"]

    def reorder(file: h5py.File) -> None:
        change(file)
        file.move("data/demo_1", "data/demo_9")

    info = edit(robomimic_file, reorder).info
    assert [e.name for e in info.episodes] == ["demo_0", "demo_2"]
    assert [list(e.missing) for e in info.episodes] == [["state"], []]
    rows = "obs/state: not as many rows as there are actions (1): demo_0 has 4 for 5"
    assert rows in info.skipped
    assert any(s.startswith("episode needs 'actions' and 'obs', has") for s in info.skipped)
    assert "actions have not the 2 values of demo_0 (1): demo_9 has 3" in info.skipped
    assert [e.name for e in open_dataset(robomimic_file).episodes] == ["demo_2"]
    assert len(open_dataset(robomimic_file, vectors=()).episodes) == 2


def test_scalars_are_vectors_and_depth_is_skipped(robomimic_file: Path) -> None:
    def change(file: h5py.File) -> None:
        for demo in file["data"].values():
            length = len(demo["actions"])
            demo["obs/gripper"], demo["next_obs/gripper"] = np.arange(length), np.arange(length) + 1
            demo["obs/depth"] = np.zeros((length, 4, 4, 1), np.float32)

    reader = edit(robomimic_file, change)
    assert reader.info.fields["gripper"].shape == (1,)
    assert reader.read(0, "gripper", 3, 6).tolist() == [[3], [4], [5]]
    assert [s for s in reader.info.skipped if s.startswith("obs/depth: float32 of shape (4, 4, 1)")]
    assert reader.info.episodes[0].has_last_observation


def test_episodes_without_a_chosen_key_are_left_out(robomimic_file: Path) -> None:
    edit(robomimic_file, lambda file: file.__delitem__("data/demo_1/obs/top_image"))
    dataset = open_dataset(robomimic_file)
    assert [e.name for e in dataset.episodes] == ["demo_0", "demo_2"]
    assert dataset.info.skipped == ("1 of 3 episodes without top_image: demo_1",)
    assert dataset.clip(1, 0, 1).vectors["state"].tolist() == [[2, 0]]
    assert len(open_dataset(robomimic_file, cameras=()).episodes) == 3


def test_images_of_two_sizes_need_a_size(robomimic_file: Path) -> None:
    def change(file: h5py.File) -> None:
        for group in ("obs", "next_obs"):
            del file[f"data/demo_1/{group}/top_image"]
            file[f"data/demo_1/{group}/top_image"] = np.full((2, 20, 24, 3), 100, np.uint8)

    edit(robomimic_file, change)
    message = r"top_image in .* two sizes: 32x48, and 20x24 in demo_1; pass image_size"
    with pytest.raises(ValueError, match=message):
        open_dataset(robomimic_file)
    resized = open_dataset(robomimic_file, image_size=16)
    assert resized.clip(1, 0, 3).images["top_image"].shape == (3, 16, 16, 3)


def test_two_cameras_may_differ_in_size(tmp_path: Path) -> None:
    with RobomimicWriter(tmp_path / "a.hdf5", {}) as writer:
        views = {"top": np.zeros((4, 6, 8, 3), np.uint8), "wrist": np.zeros((4, 2, 2, 3), np.uint8)}
        writer.add_episode(views, **episode())
    clip = open_dataset(tmp_path / "a.hdf5").clip(0, 0, 2)
    assert {name: tuple(image.shape) for name, image in clip.images.items()} == {
        "top": (2, 6, 8, 3),
        "wrist": (2, 2, 2, 3),
    }


def test_env_args_that_are_no_json_are_noted(robomimic_file: Path) -> None:
    info = edit(robomimic_file, lambda f: f["data"].attrs.__setitem__("env_args", "{no")).info
    assert info.metadata == {}
    assert info.fps is None
    assert info.skipped[0].startswith("attribute env_args: not JSON")


def test_each_process_opens_the_file_for_itself(
    robomimic_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = RobomimicReader(robomimic_file)
    reader.read(0, "action", 0, 1)
    mine = reader._handle._file
    reader.read(0, "action", 0, 1)
    assert reader._handle._file is mine
    monkeypatch.setattr("os.getpid", lambda: -1)  # as in a forked worker
    reader.read(0, "action", 0, 1)
    assert reader._handle._file is not mine


# Files that are refused


def test_a_raw_recording_is_refused(robomimic_file: Path) -> None:
    def change(file: h5py.File) -> None:
        for demo in file["data"].values():
            del demo["obs"]

    message = r"raw recording: data/demo_0 has no 'obs', only .*'states'.*dataset_states_to_obs"
    with pytest.raises(ValueError, match=message):
        edit(robomimic_file, change)


def test_a_raw_episode_among_others_is_skipped(robomimic_file: Path) -> None:
    info = edit(robomimic_file, lambda file: file.__delitem__("data/demo_0/obs")).info
    assert [e.name for e in info.episodes] == ["demo_1", "demo_2"]
    assert any(line.startswith("episode needs 'actions' and 'obs', has") for line in info.skipped)


@pytest.mark.parametrize("share", [0.5, 0.05, 0.999])
def test_a_file_cut_short_is_refused(robomimic_file: Path, share: float) -> None:
    content = robomimic_file.read_bytes()
    robomimic_file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        ValueError, match=rf"{robomimic_file.name} is cut short or damaged \(.*copy"
    ):
        open_dataset(robomimic_file)


def test_another_hdf5_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(
        ValueError, match=r"no episodes under 'data'; it has \['weights'\]; known are rob.*Minari's"
    ):
        open_dataset(tmp_path / "other.hdf5")


def test_a_file_without_usable_episodes_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file["data/demo_0/obs/state"] = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"no usable .* needs 'actions' and 'obs', has \['obs'\]"):
        open_dataset(tmp_path / "empty.hdf5")


def test_the_real_raw_recording_is_refused(shared_data: Path) -> None:
    path = next((shared_data / "robosuite_lift").glob("*.hdf5"))
    with pytest.raises(ValueError, match="raw recording: data/demo_1 has no 'obs'"):
        open_dataset(path)
