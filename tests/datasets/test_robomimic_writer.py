"""Robomimic files that we write."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.datasets.robomimic_reader import RobomimicReader


def episode(length: int = 3, action_dim: int = 2) -> dict[str, Any]:
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


def test_what_is_written_follows_the_schema(robomimic_file: Path) -> None:
    with h5py.File(robomimic_file) as file:
        assert file["data"].attrs["total"] == 14
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "Test"
        demo = file["data/demo_0"]
        assert demo.attrs["num_samples"] == 5
        rows = ["actions", "dones", "obs/state", "obs/top_image", "rewards", "states"]
        assert [len(demo[key]) for key in [*rows, "next_obs/state", "next_obs/top_image"]] == [
            5
        ] * 8
        assert demo["dones"][:].tolist() == [0, 0, 0, 0, 1]
        for key in ("state", "top_image"):
            np.testing.assert_array_equal(demo[f"next_obs/{key}"][:-1], demo[f"obs/{key}"][1:])


def test_actions_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        actions = rng.normal(size=(9, 3)).astype(dtype)
        path = tmp_path / f"{np.dtype(dtype)}.hdf5"
        with RobomimicWriter(path, {}) as writer:
            writer.add_episode(state(10), **(episode(9) | {"actions": actions}))
        np.testing.assert_array_equal(RobomimicReader(path).read(0, "action", 0, 9), actions)


def test_a_time_limit_is_not_termination_but_is_robomimics_done(tmp_path: Path) -> None:
    with RobomimicWriter(tmp_path / "data.hdf5", {}) as writer:
        writer.add_episode(state(), **episode())
    with h5py.File(tmp_path / "data.hdf5") as file:
        assert file["data/demo_0/dones"][:].tolist() == [0, 0, 1]
    assert not RobomimicReader(tmp_path / "data.hdf5").read(0, "terminated", 0, 3).any()


def test_masks_name_episodes(tmp_path: Path) -> None:
    with RobomimicWriter(tmp_path / "data.hdf5", {}) as writer:
        for _ in range(3):
            writer.add_episode(state(), **episode())
        writer.add_mask("valid", [1])
    with h5py.File(tmp_path / "data.hdf5") as file:
        assert file["mask/valid"][:].tolist() == [b"demo_1"]


def test_what_nobody_recorded_is_not_made_up(tmp_path: Path) -> None:
    actions = episode()["actions"]
    with RobomimicWriter(tmp_path / "data.hdf5", {}) as writer:
        writer.add_episode({"arm/state": np.arange(3.0).reshape(3, 1)}, actions, success=True)
        writer.add_episode({"arm/state": np.arange(3.0).reshape(3, 1)}, actions)
    info = RobomimicReader(tmp_path / "data.hdf5").info
    assert info.outcomes == ()
    assert [e.num_observations for e in info.episodes] == [3, 3]
    assert [e.success for e in info.episodes] == [True, None]
    assert set(info.fields) == {"arm/state"}


def test_one_episode_without_rewards_takes_them_from_all(tmp_path: Path) -> None:
    with RobomimicWriter(tmp_path / "data.hdf5", {}) as writer:
        writer.add_episode(state(), **episode())
        writer.add_episode(state(), **(episode() | {"rewards": None}))
    info = RobomimicReader(tmp_path / "data.hdf5").info
    assert info.outcomes == ("terminated", "success")
    assert "rewards: not used, as not every episode has it (1): demo_1" in info.skipped


def fail_while_writing(path: Path, overwrite: bool = False) -> None:
    """Write an episode and then fail."""
    with RobomimicWriter(path, {}, overwrite=overwrite) as writer:
        writer.add_episode(state(), **episode())
        raise RuntimeError("stop")


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        fail_while_writing(tmp_path / "a.hdf5")
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_episodes_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="no episode to write"),
        RobomimicWriter(tmp_path / "a.hdf5", {}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept_unless_overwriting(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"a\.hdf5 exists"):
        RobomimicWriter(path, {})
    with pytest.raises(RuntimeError, match="stop"):
        fail_while_writing(path, overwrite=True)
    assert path.read_text() == "precious"
    with RobomimicWriter(path, {}, overwrite=True) as writer:
        assert path.read_text() == "precious"  # until the new file is whole
        writer.add_episode(state(), **episode())
    assert len(RobomimicReader(path).info.episodes) == 1


@pytest.mark.parametrize(
    ("observations", "changes", "message"),
    [
        (state(2), {}, "state has 2 rows, expected 4 for 3 actions"),
        ({**state(3), "b": np.zeros((4, 1))}, {}, "state has 3 rows, expected 4 for 3 actions"),
        (state(), {"rewards": np.zeros(2)}, "rewards has 2 rows, expected 3"),
        (state(), {"actions": np.zeros(3)}, r"actions must be \(T, A\)"),
        (state(), {"actions": np.zeros((0, 2))}, "with T >= 1"),
        ({}, {}, "no observations"),
        (state(4, dim=5), {}, "differ from demo_0's"),
        ({"other": np.zeros((4, 2))}, {}, "differ from demo_0's"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(
    tmp_path: Path,
    observations: dict[str, np.ndarray],
    changes: dict[str, np.ndarray],
    message: str,
) -> None:
    with RobomimicWriter(tmp_path / "a.hdf5", {}) as writer:
        writer.add_episode(state(), **episode())
        with pytest.raises(ValueError, match=f"demo_1: .*{message}"):
            writer.add_episode(observations, **(episode() | changes))
        writer.add_episode(state(), **episode())
    assert [e.name for e in RobomimicReader(tmp_path / "a.hdf5").info.episodes] == [
        "demo_0",
        "demo_1",
    ]
