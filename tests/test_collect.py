"""Recording episodes: what is in the file, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Space
from torch import Tensor

from scd_wm.collect import collect, make_env
from scd_wm.envs.lift import Lift
from scd_wm.envs.push_t import PushT
from scd_wm.policies.robomimic_policy import RobomimicPolicy
from tests.robomimic_checkpoints import needs_robomimic, write_checkpoint

STATE_ID = "scd_wm/PushTState-v0"
OWN_POLICY = "tests.test_collect:steps_taken"


ERRORS: dict[str, type[BaseException]] = {
    "OSError": OSError,
    "KeyboardInterrupt": KeyboardInterrupt,
}


class Counter(gym.Env):
    """Frames count steps; the reward of a step is ten times its action; ends after `num_steps`."""

    metadata = {"render_modes": [], "render_fps": 7}  # noqa: RUF012  (as gymnasium declares it)

    def __init__(
        self, kind: str = "dict", num_steps: int = 5, fail_at: int = 99, error: str = "OSError"
    ) -> None:
        number = Box(-np.inf, np.inf, (1,), np.float64)
        image = Box(0, 255, (8, 8, 3), np.uint8)
        spaces: dict[str, Space] = {
            "dict": Dict({"image": image, "number": number}),
            "box": number,
            "image": image,
            "nested": Dict({"robot": Dict({"number": number})}),
            "float_image": Box(0, 1, (8, 8, 3), np.float32),
            "discrete": number,
            "matrix": number,
        }
        self.kind, self.num_steps, self.fail_at, self.error = kind, num_steps, fail_at, error
        self.observation_space = spaces[kind]
        self.action_space = {
            "discrete": Discrete(3, start=1),
            "matrix": Box(-1, 1, (2, 2), np.float32),
        }.get(kind, Box(-1, 1, (2,), np.float32))
        self._image, self._number = np.zeros((8, 8, 3), np.uint8), np.zeros(1)  # used again

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.count += 1
        if self.count == self.fail_at:
            raise ERRORS[self.error]("the robot fell")
        reward = float(action) if self.kind == "discrete" else 10 * float(action[0])
        return self._observe(), reward, self.count == self.num_steps, False, {}

    def _observe(self) -> Any:
        self._image[:], self._number[:] = self.count, self.count
        if self.kind == "dict":
            return {"image": self._image, "number": self._number}
        return self._image if self.kind == "image" else self._number


@pytest.fixture(autouse=True)
def counter() -> Iterator[None]:
    gym.register("Counter-v0", lambda **kwargs: Counter(**kwargs), disable_env_checker=True)
    yield
    del gym.registry["Counter-v0"]


def record(
    tmp_path: Path, env_id: str = "Counter-v0", policy: str = "random", **kwargs: Any
) -> Any:
    """Return the summary and the first episode of a recording, in memory."""
    path = tmp_path / "x.hdf5"
    summary = collect(env_id, policy, kwargs.pop("episodes", 2), path, **kwargs)
    with h5py.File(path) as file:
        demo: dict[str, Any] = {}
        file["data/demo_0"].visititems(
            lambda name, item: demo.update({name: item[()]}) if hasattr(item, "shape") else None
        )
        demo["env_args"] = json.loads(file["data"].attrs["env_args"])
    return summary, demo


def test_frames_actions_and_rewards_are_aligned(tmp_path: Path) -> None:
    summary, demo = record(tmp_path)
    steps = np.arange(5)
    np.testing.assert_array_equal(demo["obs/number"][:, 0], steps)
    np.testing.assert_array_equal(demo["next_obs/number"][:, 0], steps + 1)
    np.testing.assert_array_equal(demo["obs/image"][:, 3, 2, 1], steps)
    np.testing.assert_array_equal(demo["next_obs/image"][:, 3, 2, 1], steps + 1)
    np.testing.assert_allclose(demo["rewards"], 10 * demo["actions"][:, 0], rtol=1e-6)
    np.testing.assert_array_equal(demo["terminated"], steps == 4)
    assert (summary["episodes"], summary["steps"]) == (2, 10)


def test_types_are_those_of_the_data_sets(tmp_path: Path) -> None:
    _, demo = record(tmp_path)
    assert demo["obs/image"].dtype == np.uint8
    assert demo["obs/number"].dtype == np.float32
    assert demo["actions"].dtype == np.float32


@pytest.mark.parametrize(("kind", "key"), [("box", "observation"), ("image", "image")])
def test_a_box_gets_a_name(tmp_path: Path, kind: str, key: str) -> None:
    _, demo = record(tmp_path, env_kwargs={"kind": kind})
    assert f"obs/{key}" in demo
    assert demo["env_args"]["env_kwargs"]["kind"] == kind


def test_discrete_actions_are_one_hot(tmp_path: Path) -> None:
    _, demo = record(tmp_path, env_kwargs={"kind": "discrete"})
    np.testing.assert_array_equal(demo["actions"].sum(axis=1), 1)
    np.testing.assert_array_equal(demo["actions"].argmax(axis=1) + 1, demo["rewards"])


def test_an_episode_is_cut_at_max_steps(tmp_path: Path) -> None:
    summary, demo = record(tmp_path, max_steps=3)
    assert summary["steps"] == 6
    assert not demo["terminated"].any()


def steps_taken(observation: dict[str, Tensor]) -> Tensor:
    """A policy of a user's own: acts by how many steps there were, (1, 2)."""
    return observation["number"].repeat(1, 2) / 10


def test_a_policy_of_ones_own_acts_on_what_it_sees(tmp_path: Path) -> None:
    _, demo = record(tmp_path, policy=OWN_POLICY)
    np.testing.assert_allclose(demo["actions"], np.arange(5)[:, None].repeat(2, 1) / 10, rtol=1e-6)
    assert demo["env_args"]["scd_wm"]["policy"] == OWN_POLICY


@needs_robomimic[0]
@pytest.mark.filterwarnings("ignore")  # of robomimic's and its dependencies' own
def test_a_checkpoint_records_what_it_does_and_must_fit(tmp_path: Path) -> None:
    fits = write_checkpoint(tmp_path / "fits.pth", vectors={"number": 1})
    _, demo = record(tmp_path, policy=str(fits))
    policy = RobomimicPolicy.load(fits, "cpu")
    policy.reset(0)
    expected = policy.act({"number": demo["obs/number"]})
    np.testing.assert_allclose(demo["actions"], expected, rtol=1e-5)
    other = write_checkpoint(tmp_path / "other.pth", vectors={"speed": 1})
    with pytest.raises(ValueError, match="the policy reads 'speed', which is not observed"):
        record(tmp_path, policy=str(other), overwrite=True)


def test_a_module_of_the_folder_that_the_command_is_called_in_registers_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registers_here.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('RegistersHere-v0', 'scd_wm.envs.push_t:PushT', max_episode_steps=7)\n"
    )
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])  # as in a console script
    monkeypatch.chdir(tmp_path)
    env = make_env("registers_here:RegistersHere-v0")
    assert env.spec is not None
    assert env.spec.max_episode_steps == 7
    env.close()


def test_env_args_say_how_it_was_made(tmp_path: Path) -> None:
    _, demo = record(tmp_path, STATE_ID, "scripted", noise=0.2, seed=7, max_steps=4)
    args = demo["env_args"]
    assert args["env_name"] == STATE_ID
    assert args["type"] == 2
    assert args["env_kwargs"]["control_freq"] == 10
    ours = args["scd_wm"]
    assert (ours["policy"], ours["noise"], ours["seed"]) == ("scripted", 0.2, 7)
    assert ours["tracked_colours"] == PushT.metadata["tracked_colours"]
    assert {"scd-wm", "gymnasium", "mujoco", "numpy"} <= set(ours["versions"])


def test_recorded_states_restore_the_episode(tmp_path: Path) -> None:
    _, demo = record(tmp_path, STATE_ID, "scripted", seed=3, max_steps=30)
    env = PushT("state")
    for t in (0, 10, 29):
        observation, _ = env.reset(options={"state": demo["states"][t]})
        np.testing.assert_array_equal(observation["block_pose"], demo["obs/block_pose"][t])
        observation, *_ = env.step(demo["actions"][t])
        np.testing.assert_array_equal(observation["block_pose"], demo["next_obs/block_pose"][t])


def test_two_cameras_and_what_is_tracked_in_them_are_recorded(tmp_path: Path) -> None:
    summary, demo = record(tmp_path, "scd_wm/Lift-v0", "expert", episodes=1, max_steps=6)
    for key in ("front_image", "wrist_image"):
        assert demo[f"obs/{key}"].shape == (6, 64, 64, 3)
        np.testing.assert_array_equal(demo[f"obs/{key}"][1:], demo[f"next_obs/{key}"][:-1])
    assert not any("cube" in key for key in demo)
    assert set(demo["env_args"]["scd_wm"]["tracked_colours"]) == {"cube", "gripper"}
    assert summary["contact_share"] == 0
    env = Lift("state")
    env.reset(options={"state": demo["states"][3]})
    observation, *_ = env.step(demo["actions"][3])
    np.testing.assert_array_equal(observation["eef_pos"], demo["next_obs/eef_pos"][3])


def test_a_longer_recording_begins_with_the_shorter(tmp_path: Path) -> None:
    _, short = record(tmp_path, STATE_ID, "scripted", episodes=1, max_steps=20)
    summary, long = record(tmp_path, STATE_ID, "scripted", episodes=3, max_steps=20, overwrite=True)
    np.testing.assert_array_equal(long["actions"], short["actions"])
    assert summary["steps"] == 60


def test_the_summary_counts_success(tmp_path: Path) -> None:
    summary, demo = record(tmp_path, STATE_ID, "scripted", episodes=4, noise=0.01)
    low, high = summary["success_interval"]
    assert summary["success_rate"] == summary["num_success"] / 4
    assert low <= summary["success_rate"] <= high
    assert 0.2 < summary["contact_share"] < 0.9
    assert summary["size_mb"] > 0
    np.testing.assert_array_equal(demo["success"], demo["terminated"])


def test_the_summary_does_not_invent_success(tmp_path: Path) -> None:
    summary, _ = record(tmp_path)
    for name in ("num_success", "success_rate", "success_interval", "contact_share"):
        assert summary[name] is None


@pytest.mark.parametrize("error", sorted(ERRORS))
@pytest.mark.parametrize("before", [None, b"precious"])
def test_what_breaks_leaves_nothing(tmp_path: Path, error: str, before: bytes | None) -> None:
    path = tmp_path / "x.hdf5"
    if before is not None:
        path.write_bytes(before)
    kwargs = {"fail_at": 4, "error": error}
    with pytest.raises(ERRORS[error], match="the robot fell"):
        collect("Counter-v0", "random", 2, path, env_kwargs=kwargs, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["x.hdf5"])
    assert before is None or path.read_bytes() == before


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    record(tmp_path)
    with pytest.raises(FileExistsError, match=r"x\.hdf5 exists"):
        record(tmp_path)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        (
            "scd_wm/PushTT-v0",
            r"no environment 'scd_wm/PushTT-v0'; did you mean \['scd_wm/PushT-v0'",
        ),
        ("CartPoole-v1", "did you mean .*CartPole-v1"),
        ("qqqq", r"no environment 'qqqq'; this package has \['scd_wm/Imagined-v0'"),
        ("no_such_module:Robot-v0", "Robot-v0': No module named 'no_such_module'"),
    ],
)
def test_unknown_environments_are_refused_in_one_line(
    tmp_path: Path, env_id: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        record(tmp_path, env_id)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"policy": "clever"}, "no policy 'clever'; give a checkpoint.*'expert'"),
        ({"policy": OWN_POLICY, "noise": 0.1}, "noise is an option of"),
        ({"noise": 0.1}, r"'random' has no option \['noise'\]"),
        ({"env_kwargs": {"colour": 1}}, "cannot be made with"),
        ({"env_kwargs": {"kind": "nested"}}, "observation 'robot' is Dict.*not nested"),
        ({"env_kwargs": {"kind": "float_image"}}, "only vectors and uint8 images"),
        ({"env_kwargs": {"kind": "matrix"}}, "actions must be Discrete or a Box"),
    ],
)
def test_bad_arguments_are_refused_before_any_step(
    tmp_path: Path, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        record(tmp_path, **kwargs)
    assert list(tmp_path.iterdir()) == []


def test_a_simulator_whose_package_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("metaworld.env_dict", "robosuite"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    for name in ("MetaWorld", "RobosuiteLift"):
        with pytest.raises(ValueError, match=f"{name}-v0 cannot be made: .*imported"):
            make_env(f"scd_wm/{name}-v0")
