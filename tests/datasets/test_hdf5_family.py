"""HDF5 files as MimicGen, LIBERO and Isaac Lab write them."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.reader import SourceInfo

LENGTH = 6


def written(path: Path, write: Callable[[h5py.Group], None]) -> SourceInfo:
    """Write the group `data` of a file and say how it is read."""
    with h5py.File(path, "w") as file:
        write(file.create_group("data"))
    return open_reader(path).info


def images(num_frames: int = LENGTH, size: int = 8) -> np.ndarray:
    """Return (num_frames, size, size, 3) uint8 images, no two alike."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num_frames, size, size, 3), np.uint8)


# Isaac Lab


def write_isaac_lab(data: h5py.Group) -> None:
    """Write two episodes as `HDF5DatasetFileHandler` does, one of them a failure."""
    sim = {"dt": 0.01, "decimation": 5, "render_interval": 2, "num_envs": 1}
    data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 2, "sim_args": sim})
    data.attrs["total"] = 2 * LENGTH
    for index, success in enumerate((True, False)):
        demo = data.create_group(f"demo_{index}")
        demo.attrs.update({"num_samples": LENGTH, "seed": 3, "success": success})
        values = np.arange(LENGTH * 2, dtype=np.float32).reshape(LENGTH, 2)
        demo["actions"], demo["processed_actions"] = values, values * 2
        demo["obs/joint_pos"] = values
        demo.create_dataset("obs/rgb/table", data=images(), compression="gzip")
        demo["obs/normalised"] = images().astype(np.float32) / 255 - 0.5
        demo["initial_state/articulation/robot/root_pose"] = np.zeros((1, 7), np.float32)
        demo["states/articulation/robot/root_pose"] = np.zeros((LENGTH, 7), np.float32)


def test_isaac_lab_says_success_and_rate(tmp_path: Path) -> None:
    info = written(tmp_path / "a.hdf5", write_isaac_lab)
    assert [e.success for e in info.episodes] == [True, False]
    assert info.fps == pytest.approx(20)
    assert (info.outcomes, info.action_dim) == ((), 2)
    assert set(info.fields) == {"joint_pos", "rgb/table"}
    assert [e.has_last_observation for e in info.episodes] == [False, False]
    assert info.skipped == (
        "obs/normalised: float images with values from -0.5 to 0.496078, neither 0 to 1 nor 0 to "
        "255 (2): demo_0, demo_1",
        "processed_actions: beside 'actions' and 'obs', not used (2): demo_0, demo_1",
    )


# MimicGen


def test_mimicgen_needs_no_rewards_next_obs_or_mask(tmp_path: Path) -> None:
    def write(data: h5py.Group) -> None:
        kwargs = {"env_kwargs": {"control_freq": 20}}
        data.attrs["env_args"] = json.dumps({"env_name": "Stack_D0", "type": 1} | kwargs)
        for index in range(12):
            demo = data.create_group(f"demo_{index}")
            demo["actions"] = np.zeros((LENGTH, 7))
            demo["obs/robot0_eef_quat"] = np.zeros((LENGTH, 4))
            demo["datagen_info/eef_pose"] = np.zeros((LENGTH, 4, 4))
            demo["states"] = np.zeros((LENGTH, 32))

    info = written(tmp_path / "a.hdf5", write)
    assert [e.name for e in info.episodes] == [f"demo_{i}" for i in range(12)]
    assert (info.fps, info.outcomes, dict(info.masks)) == (20, (), {})
    assert info.skipped == (
        "datagen_info: beside 'actions' and 'obs', not used (12): demo_0, demo_1, demo_2 and 9 "
        "more",
    )


# LIBERO


def write_libero(data: h5py.Group, late: bool, with_states: bool = True) -> None:
    """Write an episode in which frame t of the world is t + (0, 1, ...), seen late or not."""
    problem = {"problem_name": "x", "language_instruction": "put the bowl on the plate"}
    data.attrs.update(
        {
            "bddl_file_name": "bddl_files/x.bddl",
            "problem_info": json.dumps(problem),
            "macros_image_convention": "opengl",
            "env_args": json.dumps({"env_kwargs": {"control_freq": 20}}),
            "num_demos": 1,
            "total": LENGTH,
        }
    )
    demo = data.create_group("demo_0")
    world = np.arange(LENGTH + 1.0)[:, None] + np.arange(7)
    seen = world[1:] if late else world[:-1]
    demo["actions"] = np.arange(LENGTH * 7.0).reshape(LENGTH, 7)
    demo["obs/joint_states"] = seen + 1e-5
    demo["obs/agentview_rgb"] = images()
    if with_states:
        times = np.arange(LENGTH)[:, None] / 20
        demo["states"] = np.concatenate([times, world[:-1], np.zeros((LENGTH, 20))], axis=1)
    demo["robot_states"] = np.zeros((LENGTH, 9))
    demo["rewards"] = (np.arange(LENGTH) == LENGTH - 1).astype(np.uint8)
    demo["dones"] = demo["rewards"][:]


def test_actions_of_libero_are_moved_to_the_frame_before_their_effect(tmp_path: Path) -> None:
    info = written(tmp_path / "a.hdf5", lambda data: write_libero(data, late=True))
    assert [(e.num_actions, e.has_last_observation) for e in info.episodes] == [(5, True)]
    reader = open_reader(tmp_path / "a.hdf5")
    assert reader.read(0, "action", 0, 5)[:, 0].tolist() == [7, 14, 21, 28, 35]
    assert reader.read(0, "reward", 3, 5).tolist() == [0, 1]
    np.testing.assert_allclose(reader.read(0, "joint_states", 0, 6)[:, 0], range(1, 7), atol=1e-3)
    np.testing.assert_array_equal(reader.read(0, "agentview_rgb", 5, 6), images()[5:])
    assert info.metadata["problem_info"]["language_instruction"] == "put the bowl on the plate"
    said = " ".join(info.skipped)
    assert "upside down" in said
    assert "first action of every episode: not used" in said
    assert "robot_states: beside" in said


def test_libero_files_made_in_the_usual_order_stay(tmp_path: Path) -> None:
    info = written(tmp_path / "a.hdf5", lambda data: write_libero(data, late=False))
    assert [(e.num_actions, e.has_last_observation) for e in info.episodes] == [(6, False)]
    assert open_reader(tmp_path / "a.hdf5").read(0, "action", 0, 2)[:, 0].tolist() == [0, 7]


def test_libero_files_without_states_say_what_is_not_known(tmp_path: Path) -> None:
    info = written(tmp_path / "a.hdf5", lambda data: write_libero(data, True, with_states=False))
    assert info.episodes[0].num_actions == LENGTH
    assert any("taken as of before" in line for line in info.skipped)


# Images of all kinds


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (lambda x: x.astype(np.float32) / 255, "float32"),
        (lambda x: x.astype(np.float64), "float64"),
        (lambda x: x.transpose(0, 3, 1, 2), "uint8"),
        (lambda x: x.transpose(0, 3, 1, 2).astype(np.float32) / 255, "float32"),
    ],
)
def test_images_come_as_bytes_however_they_are_stored(
    tmp_path: Path, stored: Callable[[np.ndarray], np.ndarray], dtype: str
) -> None:
    pictures = images(LENGTH + 1)

    def write(data: h5py.Group) -> None:
        data["demo_0/actions"] = np.zeros((LENGTH, 1))
        data["demo_0/obs/top"] = stored(pictures)[:-1]
        data["demo_0/next_obs/top"] = stored(pictures)[1:]

    info = written(tmp_path / "a.hdf5", write)
    assert (info.fields["top"].shape, info.fields["top"].dtype) == ((8, 8, 3), dtype)
    rows = open_reader(tmp_path / "a.hdf5").read(0, "top", 1, LENGTH + 1)
    np.testing.assert_array_equal(rows, pictures[1:])


def test_float_images_out_of_range_are_refused_when_read(tmp_path: Path) -> None:
    pictures = images().astype(np.float32) / 255
    pictures[1, 0, 0, 0] = 7

    def write(data: h5py.Group) -> None:
        data["demo_0/actions"], data["demo_0/obs/top"] = np.zeros((LENGTH, 1)), pictures

    written(tmp_path / "a.hdf5", write)
    dataset = open_dataset(tmp_path / "a.hdf5")
    with pytest.raises(
        ValueError, match=r"demo_0/obs/top in .*values from 0 to 7; expected 0 to 1: scale"
    ):
        dataset.clip(0, 0, 3)


def test_kinds_of_vectors_and_what_is_no_vector(tmp_path: Path) -> None:
    def write(data: h5py.Group) -> None:
        demo = data.create_group("demo_0")
        demo["actions"] = np.full((LENGTH, 1), 3.75)
        demo["obs/flag"] = np.arange(LENGTH) % 2 == 0
        demo["obs/count"] = np.arange(LENGTH, dtype=np.int16)[:, None]
        demo["obs/pose"] = np.tile(np.eye(4), (LENGTH, 1, 1))
        demo["obs/small"] = np.zeros((LENGTH, 3, 3, 3), np.float32)
        demo["obs/depth"] = np.zeros((LENGTH, 8, 8, 1), np.float32)
        demo["obs/alpha"] = np.zeros((LENGTH, 8, 8, 4), np.uint8)
        demo["obs/text"] = ["go"] * LENGTH
        demo["obs/record"] = np.zeros(LENGTH, [("x", "f4"), ("y", "f4")])
        demo.create_dataset("obs/link", (LENGTH,), h5py.ref_dtype)[:] = demo.ref
        demo["obs/one"] = 3.0
        demo["obs/none"] = h5py.Empty("f4")

    info = written(tmp_path / "a.hdf5", write)
    assert {key: field.shape for key, field in info.fields.items()} == {"count": (1,), "flag": (1,)}
    reader = open_reader(tmp_path / "a.hdf5")
    assert reader.read(0, "flag", 0, 2).tolist() == [[True], [False]]
    assert reader.read(0, "action", 0, 1).tolist() == [[3.75]]
    reasons = {line.split(":")[0]: line for line in info.skipped}
    assert set(reasons) == {
        f"obs/{key}"
        for key in ("pose", "small", "depth", "alpha", "text", "record", "link", "one", "none")
    }
    assert "float32 of shape (8, 8, 1) a frame is neither" in reasons["obs/depth"]
    assert "text of shape ()" in reasons["obs/text"]
    assert "not a row for each step" in reasons["obs/one"]


def test_observations_with_one_row_more_end_with_the_last(tmp_path: Path) -> None:
    def write(data: h5py.Group) -> None:
        for index in range(2):
            data[f"demo_{index}/actions"] = np.zeros((LENGTH, 1))
            data[f"demo_{index}/obs/a"] = np.arange(LENGTH + 1)
            data[f"demo_{index}/obs/b"] = np.arange(LENGTH + 1 - index)

    info = written(tmp_path / "a.hdf5", write)
    assert [e.num_observations for e in info.episodes] == [LENGTH + 1, LENGTH]
    reader = open_reader(tmp_path / "a.hdf5")
    assert reader.read(0, "a", LENGTH, LENGTH + 1).tolist() == [[LENGTH]]
    assert info.skipped == ("frame after the last action: stored only of ['a'] (1): demo_1",)


def test_masks_name_episodes_and_say_which_are_not_there(tmp_path: Path) -> None:
    def write(data: h5py.Group) -> None:
        for index in range(3):
            data[f"demo_{index}/actions"] = np.zeros((1, 1))[: 2 - index]
            data[f"demo_{index}/obs/a"] = np.zeros(1)
        mask = data.parent.create_group("mask")
        mask["bytes"] = np.array([b"demo_0", b"demo_1", b"demo_7"])
        mask["text"] = ["demo_1", "demo_2"]
        mask["numbers"] = np.arange(3)

    info = written(tmp_path / "a.hdf5", write)
    assert info.masks == {"bytes": ("demo_0", "demo_1"), "text": ("demo_1",)}
    absent = "mask/bytes: 1 of 3 names are of no episode that can be used: demo_7"
    assert absent in info.skipped
    assert any("actions: must be numbers (T, A) with T >= 1" in line for line in info.skipped)
    assert any(line.startswith("mask/numbers: int64 of shape (3,), not a") for line in info.skipped)


@pytest.mark.parametrize("text", ["[]", "[" * 60_000, '{"env_kwargs": 3}', b"\xff\xfe"])
def test_attributes_may_hold_anything(tmp_path: Path, text: str | bytes) -> None:
    def write(data: h5py.Group) -> None:
        data["demo_0/actions"], data["demo_0/obs/a"] = np.zeros((1, 1)), np.zeros(1)
        data.attrs["total"] = np.array([1, 2])
        data.attrs["env_args"] = np.void(text) if isinstance(text, bytes) else text
        data["demo_0"].attrs["success"] = "yes"

    info = written(tmp_path / "a.hdf5", write)
    assert info.fps is None
    assert len(info.episodes) == 1
