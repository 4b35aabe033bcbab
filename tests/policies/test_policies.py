"""What every policy promises, and what the scripted one is for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import scd_wm  # noqa: F401  (registers)
from scd_wm.envs.planar_shapes import Shape
from scd_wm.envs.push_t import WORKSPACE, PushT
from scd_wm.policies.planar_path import moved_pose, path_around
from scd_wm.policies.pusher import TURN_RADIUS
from scd_wm.policies.registry import POLICIES, SCRIPTED, make_policy
from tests.simulators import env_params

ENV_ID = "scd_wm/PushTState-v0"
BAR = Shape(np.zeros((1, 2)), np.array([[0.1, 0.02]]))


@pytest.fixture(scope="module")
def env() -> gym.Env:
    return gym.make(ENV_ID)


def run(env: gym.Env, seed: int, num_steps: int, name: str, **kwargs: Any) -> list[np.ndarray]:
    """Return the actions of one episode."""
    policy = make_policy(name, env, **kwargs)
    observation, _ = env.reset(seed=seed)
    policy.reset(seed)
    actions = []
    for _ in range(num_steps):
        actions.append(policy.act(observation))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated or truncated:
            break
    return actions


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_actions_are_in_the_action_space(env: gym.Env, name: str) -> None:
    for seed in range(3):
        assert all(env.action_space.contains(a) for a in run(env, seed, 60, name))


def test_much_noise_stays_in_the_action_space(env: gym.Env) -> None:
    assert all(env.action_space.contains(a) for a in run(env, 0, 40, "scripted", noise=2.0))


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_seed_decides_all_actions(env: gym.Env, name: str) -> None:
    first = run(env, 4, 60, name)
    np.testing.assert_array_equal(run(env, 4, 60, name), first)
    if name != "zero":
        assert not np.array_equal(run(env, 5, 60, name)[0], first[0])


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("name", ["random", "zero"])
def test_policies_that_do_not_look_act_anywhere(env_id: str, name: str) -> None:
    other = gym.make(env_id)
    assert all(other.action_space.contains(a) for a in run(other, 0, 5, name))
    other.close()


def test_smooth_actions_differ_little_and_cover_the_space(env: gym.Env) -> None:
    rough = np.array(run(env, 0, 199, "random"))
    smooth = np.array(run(env, 0, 199, "random", smoothness=0.8))
    assert np.abs(np.diff(smooth, axis=0)).mean() < np.abs(np.diff(rough, axis=0)).mean() / 4
    assert np.ptp(smooth, axis=0).min() > 1


@pytest.mark.parametrize("env_id", env_params(SCRIPTED))
def test_there_is_a_scripted_policy_for_every_observation(env_id: str) -> None:
    other = gym.make(env_id)
    make_policy("scripted", other)
    other.close()


def test_the_scripted_policy_makes_the_t_move_everywhere(env: gym.Env) -> None:
    push_t = env.unwrapped
    assert isinstance(push_t, PushT)
    policy = make_policy("scripted", env)
    contacts, at_wall, poses = [], [], []
    for seed in range(12):
        observation, _ = env.reset(seed=seed)
        policy.reset(seed)
        ended = False
        while not ended:
            observation, _, terminated, truncated, info = env.step(policy.act(observation))
            ended = terminated or truncated
            contacts.append(info["contact"])
            poses.append(push_t.block_pose)
            corners = push_t.shape.corners(push_t.block_pose)
            at_wall.append(np.abs(corners).max() > WORKSPACE - 0.005)
    turns = np.histogram(np.mod([p[2] for p in poses], 2 * np.pi), 8, (0, 2 * np.pi))[0]
    assert np.mean(contacts) > 0.4
    assert np.mean(at_wall) < 0.15
    assert np.std([p[:2] for p in poses], axis=0).min() > 0.05
    assert turns.min() > 0.02 * len(poses)


def success_rate(env: gym.Env, noise: float, num_episodes: int) -> float:
    policy = make_policy("scripted", env, noise=noise, directed=1.0, wander=0.0)
    num_success = 0
    for seed in range(num_episodes):
        observation, _ = env.reset(seed=seed)
        policy.reset(seed)
        ended = False
        while not ended:
            observation, _, terminated, truncated, _ = env.step(policy.act(observation))
            ended = terminated or truncated
        num_success += terminated
    return num_success / num_episodes


def test_a_noisy_expert_succeeds_less(env: gym.Env) -> None:
    assert success_rate(env, 0.02, 12) > success_rate(env, 0.3, 12) + 0.25


def test_the_shortest_way_around_a_bar_goes_over_its_end() -> None:
    pose = np.zeros(3)
    start, end = np.array([0.05, -0.05]), np.array([0.05, 0.05])
    way = path_around(BAR, pose, start, end, gap=0.02, reach=0.5)
    assert way is not None
    points = np.stack([start, *way])
    np.testing.assert_array_equal(points[-1], end)
    assert points[:, 0].max() > 0.1
    shares = np.linspace(0, 1, 200)[:, None]
    for here, there in pairwise(points):
        assert BAR.distance(here * (1 - shares) + there * shares, pose).min() > 0.016
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).sum() < 0.28


def test_there_is_no_way_around_a_bar_that_fills_the_reach() -> None:
    start, end = np.array([0.0, -0.05]), np.array([0.0, 0.05])
    assert path_around(BAR, np.zeros(3), start, end, gap=0.02, reach=0.11) is None


def test_a_free_way_is_straight() -> None:
    start, end = np.array([-0.2, -0.2]), np.array([0.2, -0.2])
    way = path_around(BAR, np.zeros(3), start, end, gap=0.02, reach=0.5)
    assert way is not None
    np.testing.assert_array_equal(way, [end])


def test_predicted_pushes_agree_roughly_with_the_simulator() -> None:
    """The prediction has no friction between pusher and T, and is for ranking pushes only."""
    units = np.array([1, 1, TURN_RADIUS])  # turns count by their arc
    env = PushT("state")
    for x in (-0.06, -0.03, 0.0, 0.03, 0.06):
        top = env.shape.centers[0, 1] + env.shape.half_sizes[0, 1]
        start = np.array([x, top + env.pusher_radius])
        env.reset(options={"state": [*start, 0, 0, 0]})
        for i in range(4):
            env.step((start - [0, 0.01 * (i + 1)]) / 0.225)
        contact, normal = np.array([[x, top]]), np.array([[0.0, -1.0]])
        way = np.array([[0.0, -0.04]])
        predicted = moved_pose(np.zeros(3), contact, normal, way, TURN_RADIUS)[0]
        error = np.linalg.norm((predicted - env.block_pose) * units)
        assert error < 0.4 * np.linalg.norm(env.block_pose * units)


def test_an_unknown_policy_is_refused_with_the_names(env: gym.Env) -> None:
    with pytest.raises(ValueError, match=r"unknown policy 'clever'; there are \['expert', 'r"):
        make_policy("clever", env)


def test_an_unknown_option_is_refused_with_the_options(env: gym.Env) -> None:
    with pytest.raises(ValueError, match=r"'scripted' has no option \['speed'\]; it has \['noise'"):
        make_policy("scripted", env, speed=2)
    with pytest.raises(ValueError, match=r"'zero' has no option \['noise'\]"):
        make_policy("zero", env, noise=0.1)


def test_environments_without_a_script_are_named() -> None:
    other = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"no scripted policy for 'CartPole-v1'.*PushT-v0"):
        make_policy("scripted", other)
    other.close()


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("scripted", {"noise": -1.0}, "noise must be"),
        ("scripted", {"directed": 2.0}, "directed must be"),
        ("scripted", {"wander": -0.1}, "wander must be"),
        ("random", {"smoothness": 1.0}, "smoothness must be"),
    ],
)
def test_bad_options_are_refused(
    env: gym.Env, name: str, kwargs: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy(name, env, **kwargs)


def test_smooth_actions_need_a_box() -> None:
    other = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="bounded Box"):
        make_policy("random", other, smoothness=0.5)
    other.close()
