"""Robomimic's own rollout functions run unchanged on imagination, and agree with ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import scd_wm
from scd_wm import testing
from scd_wm.envs.imagined_env import ImaginedEnv
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.policies.robomimic_policy import RobomimicPolicy
from scd_wm.robomimic_setup import load_robomimic, quiet
from tests.robomimic_checkpoints import needs_robomimic, write_checkpoint

pytestmark = needs_robomimic
SPEC = testing.image_spec()
GIVEN: dict[str, Any] = {"vectors": {"proprio": 3}, "cameras": {"top": (16, 24)}}
STEPS, STARTS = 5, 3


def imagined() -> ImaginedEnv:
    starts = testing.clip(SPEC, STARTS, 2)
    return ImaginedEnv(testing.model(SPEC), starts, max_steps=STEPS, terminate_at=1.0)


def wrapped(**kwargs: Any) -> Any:
    from scd_wm.envs.robomimic_env import RobomimicEnv

    return RobomimicEnv.of(imagined(), **kwargs)


class Watched(gym.Wrapper):
    """Keeps actions and rewards."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.actions: list[np.ndarray] = []

    def step(self, action: Any) -> Any:
        self.actions.append(action)
        return self.env.step(action)


@pytest.mark.parametrize("kind", ["bc", "bc-gmm", "bc-rnn", "bc-transformer"])
def test_robomimic_s_run_rollout_does_what_our_loop_does(kind: str, tmp_path: Path) -> None:
    from scd_wm.envs.robomimic_env import RobomimicEnv

    load_robomimic("robomimic.utils.train_utils", "robomimic.utils.env_utils")
    from robomimic.utils import env_utils, train_utils

    policy = RobomimicPolicy.load(write_checkpoint(tmp_path / "p.pth", kind, **GIVEN))
    ours = ImaginedVectorEnv(
        testing.model(SPEC), testing.clip(SPEC, STARTS, 2), 2, max_steps=STEPS, terminate_at=1.0
    )
    chosen = np.array([2, 1])
    observation, _ = ours.reset(seed=7, options={"start": chosen})
    policy.reset(7)
    actions, rewards = [], []
    for _ in range(STEPS):
        actions.append(policy.act(observation))
        observation, reward, *_ = ours.step(actions[-1])
        rewards.append(reward)
    for row in range(2):
        watched = Watched(imagined())
        env = RobomimicEnv.of(watched, list(policy.observation_shapes))
        policy.reset(7 + row)
        env.prepare(7 + row, {"start": int(chosen[row])})
        stacked = env_utils.wrap_env_from_config(env, config=policy.config)
        found = train_utils.run_rollout(policy.rollout_policy(), stacked, horizon=100)
        np.testing.assert_allclose(np.stack(watched.actions), np.stack(actions)[:, row], atol=1e-4)
        assert found["Horizon"] == STEPS
        assert found["Return"] == pytest.approx(np.stack(rewards)[:, row].sum(), abs=1e-3)


def test_robomimic_s_statistics_and_film_work(tmp_path: Path) -> None:
    load_robomimic("robomimic.utils.train_utils")
    from robomimic.utils import train_utils

    path = write_checkpoint(tmp_path / "p.pth", normalised=True, **GIVEN)
    policy = RobomimicPolicy.load(path)
    with quiet():
        logs, _ = train_utils.rollout_with_stats(
            policy.rollout_policy(), {"world": wrapped()}, horizon=3, num_episodes=2
        )
    assert logs["world"]["Horizon"] == 3
    assert wrapped().reset()["top"].dtype == np.float32


def test_observations_are_in_the_layout_that_robomimic_reads() -> None:
    env, plain = wrapped(), imagined()
    env.prepare(3, {"start": 1})
    shown, expected = env.reset(), plain.reset(seed=3, options={"start": 1})[0]
    assert shown["top"].shape == (3, 16, 24)
    np.testing.assert_allclose(shown["top"].transpose(1, 2, 0) * 255, expected["top"], atol=1e-4)
    np.testing.assert_array_equal(shown["proprio"], expected["proprio"])
    raw = wrapped(postprocess_visual_obs=False)
    raw.prepare(3, {"start": 1})
    np.testing.assert_array_equal(raw.reset()["top"], expected["top"])
    few = wrapped(observations=["proprio"])
    assert [*few.reset()] == ["proprio"]
    with pytest.raises(ValueError, match=r"does not show \['arm'\]; it shows \['proprio', 'top'\]"):
        wrapped(observations=["arm"])


def test_it_comes_back_to_a_state_and_to_a_start() -> None:
    env = wrapped()
    first = env.reset_to({"start": 2})
    np.testing.assert_array_equal(env.reset_to({"start": 2})["proprio"], first["proprio"])
    env.step(np.zeros(2))
    state, reward = env.get_state(), env.get_reward()
    assert isinstance(reward, float)
    seen = env.step(np.ones(2))[0]
    env.step(-np.ones(2))
    env.reset_to(state)
    assert env.get_reward() == reward
    for key, values in env.step(np.ones(2))[0].items():
        np.testing.assert_array_equal(values, seen[key])
    with pytest.raises(ValueError, match=r"has one of \['snapshot', 'start'\], got \['states'\]"):
        env.reset_to({"states": np.zeros(3)})


def test_an_episode_ends_and_says_so() -> None:
    env = wrapped()
    env.reset()
    assert env.is_success() == {"task": False}
    overs = [env.step(np.zeros(2))[2] for _ in range(STEPS)]
    assert overs == [False] * (STEPS - 1) + [True]
    assert env.is_done()


def test_pictures_are_of_the_size_asked_for() -> None:
    env = wrapped()
    env.reset()
    assert env.render(mode="rgb_array").shape == (16, 24, 3)
    assert env.render(mode="rgb_array", height=32, width=48, camera_name="top").shape == (32, 48, 3)
    with pytest.raises(NotImplementedError, match="use mode='rgb_array'"):
        env.render()
    with pytest.raises(ValueError, match=r"no camera 'side'; there are \['top'\]"):
        env.render(mode="rgb_array", camera_name="side")


def test_it_is_an_environment_of_robomimic_s_and_says_what_it_cannot() -> None:
    load_robomimic("robomimic.envs.env_base")
    from robomimic.envs.env_base import EnvBase

    env = wrapped()
    assert isinstance(env, EnvBase)
    assert (env.name, env.type, env.action_dimension) == ("scd_wm/Imagined-v0", 2, 2)
    assert (env.version, env.rollout_exceptions) == (gym.__version__, ())
    for cannot in (env.get_goal, env.set_goal, env.serialize, type(env).create_for_data_processing):
        with pytest.raises(NotImplementedError, match=r"environment|world model"):
            cannot()


def test_a_simulator_is_made_by_name_and_made_again_from_what_it_serializes() -> None:
    from scd_wm.envs.robomimic_env import RobomimicEnv

    assert scd_wm.__version__
    env = RobomimicEnv("scd_wm/PushTState-v0", image_size=32, render_offscreen=True)
    meta = json.loads(json.dumps(env.serialize()))
    assert meta["env_kwargs"] == {"image_size": 32}
    again = RobomimicEnv(meta["env_name"], render_offscreen=True, **meta["env_kwargs"])
    env.prepare(3)
    env.reset()
    env.step(np.ones(2))
    seen = again.reset_to(env.get_state())
    for key, values in env.get_observation().items():
        np.testing.assert_allclose(seen[key], values, atol=1e-6)
    assert again.render(mode="rgb_array").shape == (32, 32, 3)
    with pytest.raises(ValueError, match="leave render off"):
        RobomimicEnv("scd_wm/PushTState-v0", render=True)


def test_a_world_model_is_made_by_the_paths_of_run_and_data(
    small_run: Path, robot_file: Path
) -> None:
    from scd_wm.envs.robomimic_env import IMAGINED, RobomimicEnv

    paths: dict[str, Any] = {"model": str(small_run), "starts": str(robot_file)}
    env = RobomimicEnv(IMAGINED, render_offscreen=True, **paths)
    assert env.serialize()["env_kwargs"] == paths
    assert env.reset()["top"].shape == (3, 16, 16)
    assert env.reset_to({"start": 0})["pos"].shape == (2,)
    env.step(np.zeros(2))
    env.reset_to(env.get_state())


def test_a_state_is_come_to_from_an_environment_that_was_not_reset() -> None:
    first = wrapped()
    first.reset()
    state = first.get_state()
    second = wrapped()
    second.reset_to(state)
    action = np.zeros(2, np.float32)
    np.testing.assert_array_equal(
        second.step(action)[0]["proprio"], first.step(action)[0]["proprio"]
    )
