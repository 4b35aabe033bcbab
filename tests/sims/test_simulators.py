"""robosuite and Meta-World: experts, recordings, a world model and policies, in both loops."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import scd_wm
from scd_wm.cli import main
from scd_wm.datasets.dataset import open_dataset
from scd_wm.policies.registry import make_policy
from tests.conftest import SMALL_MODEL, SMALL_TRAINING
from tests.robomimic_checkpoints import needs_robomimic
from tests.simulators import env_params, needed_package

NAMES = ("MetaWorld", "RobosuiteLift")
TASKS = env_params(f"scd_wm/{name}-v0" for name in NAMES)
STATE_TASKS = env_params(f"scd_wm/{name}State-v0" for name in NAMES)


@pytest.mark.parametrize("env_id", STATE_TASKS)
def test_the_expert_succeeds_and_much_noise_does_not(env_id: str) -> None:
    env = gym.make(env_id)

    def num_success(noise: float) -> int:
        policy = make_policy("expert", env, noise=noise)
        count = 0
        for seed in range(3):
            observation, _ = env.reset(seed=seed)
            policy.reset(seed)
            over = False
            while not over:
                action = policy.act(observation)
                assert env.action_space.contains(action)
                observation, reward, terminated, truncated, info = env.step(action)
                assert 0 <= float(reward) <= 1
                assert terminated == info["success"]
                over = terminated or truncated
            count += info["success"]
        return count

    assert num_success(0.1) == 3
    assert num_success(3.0) < 3
    env.close()


@needed_package("scd_wm/MetaWorldState-v0")
def test_the_goal_is_seen_in_every_frame_and_is_where_success_is() -> None:
    env = gym.make("scd_wm/MetaWorldState-v0")
    policy = make_policy("expert", env)
    seen, _ = env.reset(seed=0)
    policy.reset(0)
    goal, started = seen["goal_pos"], np.linalg.norm(seen["object_pos"] - seen["goal_pos"])
    terminated = False
    while not terminated:
        seen, _, terminated, truncated, _ = env.step(policy.act(seen))
        np.testing.assert_allclose(seen["goal_pos"], goal, atol=1e-6)
        assert not truncated
    assert np.linalg.norm(seen["object_pos"] - goal) < 0.2 * started
    env.close()


@needed_package("scd_wm/MetaWorldState-v0")
def test_the_first_frame_shows_the_object_where_the_episode_has_it() -> None:
    env = gym.make("scd_wm/MetaWorldState-v0")
    for seed in range(3):
        first, _ = env.reset(seed=seed)
        seen, *_ = env.step(np.zeros(4, np.float32))
        np.testing.assert_allclose(first["object_pos"], seen["object_pos"], atol=1e-3)
        assert first["object_pos"][0] == pytest.approx(first["goal_pos"][0], abs=1e-3)
    env.close()


@pytest.mark.parametrize("env_id", TASKS)
def test_the_pictures_show_the_robot_move(env_id: str) -> None:
    env = gym.make(env_id)
    policy = make_policy("expert", env)
    first, _ = env.reset(seed=0)
    policy.reset(0)
    seen = first
    for _ in range(10):
        seen, *_ = env.step(policy.act(seen))
    for name in [name for name in seen if name.endswith("_image")]:
        assert first[name].std() > 5  # something is drawn
        changed = (first[name].astype(int) - seen[name]).__abs__().max(-1) > 30
        assert 0.005 < changed.mean() < 0.9
    env.close()


@pytest.mark.parametrize("env_id", TASKS)
def test_a_world_model_learns_from_its_expert_and_is_an_environment(
    env_id: str, tmp_path: Path
) -> None:
    data, run = tmp_path / "data.hdf5", tmp_path / "run"
    recorded = ["collect", env_id, "--policy", "expert", "--episodes", "3", "--out", str(data)]
    assert main([*recorded, "--max-steps", "12"]) == 0
    assert len(open_dataset(data).episodes) == 3
    trained = ["train", str(data), "--out", str(run), "--steps", "2", "--held-out", "0.34"]
    assert main([*trained, *SMALL_MODEL, *SMALL_TRAINING]) == 0
    env, real = gym.make("scd_wm/Imagined-v0", model=run), gym.make(env_id)
    observation, _ = env.reset(seed=0)
    assert {*observation} == {*real.observation_space.spaces}  # type: ignore[attr-defined]  # a Dict
    observation, *_ = env.step(np.zeros(env.action_space.shape or (), np.float32))
    model = scd_wm.load_world_model(run)
    assert model.spec.fps == real.metadata["render_fps"]
    made = json.loads((tmp_path / "data.summary.json").read_text())
    assert made["episodes"] == 3
    real.close()


@pytest.mark.parametrize("env_id", STATE_TASKS)
@needs_robomimic[0]
@pytest.mark.filterwarnings("ignore")  # of robomimic's and its dependencies' own
def test_a_policy_is_cloned_recorded_and_comes_to_the_same_by_either_loop(
    env_id: str, tmp_path: Path
) -> None:
    data, run, policy = tmp_path / "data.hdf5", tmp_path / "run", tmp_path / "policy.pth"
    few = ["--episodes", "2", "--max-steps", "6"]
    assert main(["collect", env_id, "--policy", "expert", *few, "--out", str(data)]) == 0
    trained = ["train", str(data), "--out", str(run), "--steps", "2", "--held-out", "0.5"]
    assert main([*trained, "--preset", "state"]) == 0
    cloned = ["train-policy", str(data), "--out", str(policy), "--steps", "2", "--hidden", "8"]
    assert main([*cloned, "--batch-size", "4"]) == 0
    for world, starts in ((env_id, []), (str(run), ["--data", str(data)])):
        found = []
        for engine in ("scd_wm", "robomimic"):
            out = tmp_path / f"{Path(world).name}_{engine}"
            played = ["rollout", str(policy), world, *few, "--engine", engine, "--out", str(out)]
            assert main([*played, *starts]) == 0
            found.append(json.loads((out / "summary.json").read_text()))
        ours, theirs = found
        for key in ("success", "mean_steps", "seeds"):
            assert ours[key] == theirs[key]
        assert ours["mean_total_reward"] == pytest.approx(theirs["mean_total_reward"], rel=1e-4)
    again = tmp_path / "again.hdf5"
    assert main(["collect", env_id, "--policy", str(policy), *few, "--out", str(again)]) == 0
    played = open_dataset(again).arrays(0).outcome["reward"].sum()
    rows = (tmp_path / f"{Path(env_id).name}_scd_wm" / "episodes.csv").read_text().splitlines()
    first = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    assert played == pytest.approx(float(first["total_reward"]), rel=1e-4)
