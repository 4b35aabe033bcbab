"""What holds for every environment registered under scd_wm/: new ones join by being registered."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import scd_wm  # noqa: F401  (registers)
from tests.simulators import env_params

IMAGINED = "scd_wm/Imagined-v0"  # needs a model: see test_imagined.py
REGISTERED = sorted({name for name in gym.registry if name.startswith("scd_wm/")} - {IMAGINED})
ENV_IDS = env_params(REGISTERED)


def rollout(env: gym.Env, seed: int, num_steps: int = 25) -> list[Any]:
    """Return everything that an episode with random actions returns."""
    env.action_space.seed(seed)
    happened: list[Any] = [env.reset(seed=seed)]
    happened += [env.step(env.action_space.sample()) for _ in range(num_steps)]
    return happened


def test_there_are_environments() -> None:
    assert {"scd_wm/PushT-v0", "scd_wm/PushTState-v0"} <= set(REGISTERED)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_passes_gymnasiums_checker(env_id: str) -> None:
    env = gym.make(env_id, render_mode="rgb_array").unwrapped
    check_env(env)
    env.close()


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_seed_decides_every_bit(env_id: str) -> None:
    first, second = gym.make(env_id), gym.make(env_id)
    expected = rollout(first, seed=3)
    np.testing.assert_equal(rollout(second, seed=3), expected)
    np.testing.assert_equal(rollout(first, seed=3), expected)  # nothing is left of the last episode
    first.close()
    second.close()


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_another_seed_is_another_episode(env_id: str) -> None:
    env = gym.make(env_id)
    first, second = env.reset(seed=1)[0], env.reset(seed=2)[0]
    assert any(not np.array_equal(first[key], second[key]) for key in first)
    env.close()


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_episodes_are_truncated(env_id: str) -> None:
    spec = gym.spec(env_id)
    assert spec.max_episode_steps is not None
    assert spec.max_episode_steps > 0


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_an_unknown_reset_option_is_refused(env_id: str) -> None:
    env = gym.make(env_id)
    with pytest.raises(ValueError, match="no reset option"):
        env.reset(options={"colour": 1})
    env.close()


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"observation": "depth"}, "observation must be"),
        ({"image_size": 8}, "image_size must be"),
        ({"render_mode": "human"}, "render_mode must be"),
    ],
)
def test_bad_arguments_are_refused(env_id: str, kwargs: dict[str, Any], message: str) -> None:
    make = type(gym.make(env_id).unwrapped)
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
