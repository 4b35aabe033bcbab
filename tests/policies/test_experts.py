"""Experts succeed, and noise takes their skill away."""

from __future__ import annotations

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

import scd_wm  # noqa: F401  (registers)
from scd_wm.envs.lift import Lift
from scd_wm.envs.push_t import PushT
from scd_wm.policies.planning_push_t import PlanningPushT
from scd_wm.policies.registry import EXPERTS, SCRIPTED, make_policy
from scd_wm.policies.scripted_lift import ScriptedLift
from tests.simulators import env_params

STATE_IDS = ["scd_wm/LiftState-v0", "scd_wm/PushTState-v0"]


def num_success(
    env_id: str, num_episodes: int, noise: float | None = None, max_steps: int | None = None
) -> int:
    """Return in how many episodes the expert succeeds."""
    env = gym.make(env_id, max_episode_steps=max_steps)
    policy = make_policy("expert", env, **({} if noise is None else {"noise": noise}))
    successes = 0
    for seed in range(num_episodes):
        observation, _ = env.reset(seed=seed)
        policy.reset(seed)
        terminated = truncated = False
        while not (terminated or truncated):
            action = policy.act(observation)
            assert env.action_space.contains(action)
            observation, _, terminated, truncated, info = env.step(action)
        successes += info["success"]
    return successes


@pytest.mark.parametrize("env_id", STATE_IDS)
def test_experts_succeed(env_id: str) -> None:
    assert num_success(env_id, 4) >= 3


def test_more_noise_is_less_skill_in_lift() -> None:
    rates = [num_success("scd_wm/LiftState-v0", 10, noise) for noise in (0.1, 0.45, 1.0)]
    assert rates[0] > rates[1] > rates[2]


def test_more_noise_is_less_skill_in_push_t() -> None:
    skilled, clumsy = (num_success("scd_wm/PushTState-v0", 2, x, max_steps=90) for x in (0.01, 0.4))
    assert skilled > clumsy


@pytest.mark.parametrize("env_id", STATE_IDS)
def test_a_seed_decides_all_that_an_expert_does(env_id: str) -> None:
    def actions(seed: int) -> np.ndarray:
        env = gym.make(env_id)
        policy = make_policy("expert", env)
        observation, _ = env.reset(seed=2)
        policy.reset(seed)
        done = []
        for _ in range(15):
            done.append(policy.act(observation))
            observation, *_ = env.step(done[-1])
        return np.stack(done)

    np.testing.assert_array_equal(actions(5), actions(5))
    assert not np.array_equal(actions(5), actions(6))


def test_planning_does_not_touch_the_environment() -> None:
    env = gym.make("scd_wm/PushTState-v0")
    observation, _ = env.reset(seed=0)
    policy = make_policy("expert", env)
    policy.reset(0)
    push_t = env.unwrapped
    assert isinstance(push_t, PushT)
    before, generator = push_t.state, push_t.np_random.bit_generator.state
    policy.act(observation)
    np.testing.assert_array_equal(push_t.state, before)
    assert push_t.np_random.bit_generator.state == generator


def test_a_push_without_noise_goes_as_foreseen() -> None:
    env = PushT("state")
    env.reset(seed=0)
    policy = PlanningPushT(env, noise=0.0)
    policy.reset(0)
    foreseen: np.ndarray | None = None
    for _ in range(60):
        env.step(policy.act(None))
        if foreseen is not None and not policy._points:
            break
        foreseen = policy._poses[-1] if policy._poses else foreseen
    assert foreseen is not None
    np.testing.assert_allclose(env.block_pose, foreseen, atol=2e-3)


CORNER = np.array([0.087, 0.064, -0.149, -0.155, 0.963])  # a T that hides the best starts


def test_only_pushes_that_the_pusher_can_get_to_are_planned() -> None:
    env = PushT("state")
    env.reset(options={"state": CORNER})
    policy = PlanningPushT(env)
    for seed in range(3):
        policy.reset(seed)
        pushes = policy._plan()
        assert pushes
        for push in pushes:
            shares = np.linspace(0, 1, 50)[:, None]
            for here, there in pairwise([env.pusher_pos, *push.way]):
                way = here * (1 - shares) + there * shares
                gap = env.shape.distance(way, env.block_pose).min() - env.pusher_radius
                assert gap > 0


def test_a_t_in_a_corner_is_got_out() -> None:
    env = PushT("state")
    env.reset(options={"state": CORNER})
    policy = PlanningPushT(env, noise=0.0)
    policy.reset(0)
    assert any(env.step(policy.act(None))[2] for _ in range(200))


def test_a_lost_cube_is_grasped_again() -> None:
    env = Lift("state")
    env.reset(seed=1)
    policy = ScriptedLift(env, noise=0.0)
    policy.reset(1)
    while env.height < 0.05:
        env.step(policy.act(None))
    for _ in range(6):
        env.step(np.array([0, 0, 0, 0, -1.0]))  # somebody opens the hand
    assert env.height < 0.01
    success = False
    for _ in range(60):
        success = success or env.step(policy.act(None))[-1]["success"]
    assert success


@pytest.mark.parametrize("env_id", env_params(EXPERTS))
def test_there_is_an_expert_and_a_scripted_policy_for_every_observation(env_id: str) -> None:
    assert set(EXPERTS) == set(SCRIPTED)
    other = gym.make(env_id)
    make_policy("expert", other)
    make_policy("scripted", other)
    other.close()


@pytest.mark.parametrize("policy", [PlanningPushT, ScriptedLift])
def test_experts_refuse_other_environments_and_negative_noise(policy: type) -> None:
    other, own = (
        (PushT("state"), Lift("state"))
        if policy is ScriptedLift
        else (Lift("state"), PushT("state"))
    )
    with pytest.raises(ValueError, match=r"needs a .* environment"):
        policy(other)
    with pytest.raises(ValueError, match="noise must be at least 0, got -1"):
        policy(own, noise=-1)


def test_environments_without_an_expert_are_named() -> None:
    other = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"no expert policy for 'CartPole-v1'.*Lift-v0.*PushT-v0"):
        make_policy("expert", other)
    other.close()
