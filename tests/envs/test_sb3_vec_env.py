"""Stable-Baselines3 on vector environments: its own contract, and learning inside imagination."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.vector import SyncVectorEnv

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.envs.imagined_env import ImaginedEnv
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.model.build import build_world_model
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec, VectorSpec

pytest.importorskip("stable_baselines3", reason="needs the extra 'sb3'")

from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecMonitor

from scd_wm.envs.sb3_vec_env import SB3VecEnv, row_info

MAX_STEPS = 8
SPEED = 0.3  # of the point, a step


class Point(gym.Env):
    """A point is moved about; the nearer it is to the middle the better. It ends at the rim."""

    metadata = {"render_modes": []}  # noqa: RUF012  (gymnasium declares it as of the instance)
    render_mode = None

    def __init__(self) -> None:
        self.observation_space = Dict({"x": Box(-np.inf, np.inf, (2,), np.float32)})
        self.action_space = Box(-1, 1, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self._x = self.np_random.uniform(-1, 1, 2).astype(np.float32) * (options or {}).get("at", 1)
        self._count = 0
        return {"x": self._x.copy()}, {"began": float(self._x[0])}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self._x, reward = moved(self._x, action)
        self._count += 1
        lost = bool(np.abs(self._x).max() > 1.2)
        info = {"parts": {"count": self._count}} | ({"lost": True} if lost else {})
        return {"x": self._x.copy()}, float(reward), lost, self._count == MAX_STEPS, info


def moved(x: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where points, (..., 2), come to and the rewards of that."""
    x = (x + SPEED * np.clip(action, -1, 1)).astype(np.float32)
    return x, 1 - np.linalg.norm(x, axis=-1)


def same(a: Any, b: Any) -> None:
    """Check that two results are equal, bit for bit and key for key."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


def test_it_does_what_stable_baselines_own_does() -> None:
    theirs = DummyVecEnv([Point] * 3)
    ours = SB3VecEnv(SyncVectorEnv([Point] * 3, autoreset_mode="SameStep"))
    for env in (ours, theirs):
        env.seed(4)
        env.set_options({"at": 0.9})
    same(ours.reset(), theirs.reset())
    same(ours.reset_infos, theirs.reset_infos)
    random, ends = np.random.default_rng(0), []
    for _ in range(300):
        actions = random.uniform(-1, 1, (3, 2)).astype(np.float32)
        a, b = ours.step(actions), theirs.step(actions)
        same(a, b)
        same(ours.reset_infos, theirs.reset_infos)
        for info in (i for i in b[3] if "terminal_observation" in i):
            ends.append((info["parts"]["count"] == MAX_STEPS, "lost" in info))
    assert {*ends} == {(True, False), (False, True), (True, True)}  # by time, failure, and both


def test_an_imagined_one_does_what_its_single_ones_do() -> None:
    world = testing.model(testing.image_spec())
    starts = testing.clip(testing.image_spec(), 5, 2)
    ours = SB3VecEnv(ImaginedVectorEnv(world, starts, 2, max_steps=3, autoreset_mode="SameStep"))
    theirs = DummyVecEnv([lambda: ImaginedEnv(world, starts, max_steps=3)] * 2)
    for env in (ours, theirs):
        env.seed(1)
    first, wanted = ours.reset(), theirs.reset()
    assert isinstance(first, dict)
    assert isinstance(wanted, dict)
    for name, values in first.items():
        np.testing.assert_array_equal(values, wanted[name])
    random = np.random.default_rng(0)
    for _ in range(7):
        actions = random.uniform(-1, 1, (2, 2)).astype(np.float32)
        a, b = ours.step(actions), theirs.step(actions)
        np.testing.assert_allclose(a[1], b[1], atol=1e-5)
        np.testing.assert_array_equal(a[2], b[2])
        for mine, other in zip(a[3], b[3], strict=True):
            assert mine.keys() == other.keys()
            assert mine["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            if "terminal_observation" in mine:
                found, last = mine["terminal_observation"], other["terminal_observation"]
                np.testing.assert_allclose(found["proprio"], last["proprio"], atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*observation.*")  # vectors have no limits, images are small
def test_an_imagined_environment_passes_the_checks_of_stable_baselines() -> None:
    spec = testing.state_spec()
    check_env(ImaginedEnv(testing.model(spec), testing.clip(spec, 5, 2)))


def test_a_vector_environment_that_resets_a_step_late_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got .*NEXT_STEP.* autoreset_mode='SameStep'"):
        SB3VecEnv(SyncVectorEnv([Point]))


def test_infos_are_divided_by_their_masks_where_they_have_any() -> None:
    ended = np.array([False, True])  # as of gymnasium's RecordEpisodeStatistics
    infos = {"episode": {"r": np.array([0.0, 2.0])}, "_episode": ended}
    assert [row_info(infos, row) for row in (0, 1)] == [{}, {"episode": {"r": 2.0}}]


def test_attributes_and_methods_are_of_all_or_none() -> None:
    env = SB3VecEnv(SyncVectorEnv([Point] * 3, autoreset_mode="SameStep"))
    assert env.get_attr("num_envs", [0, 2]) == [3, 3]
    env.set_attr("label", "a")
    assert env.get_attr("label") == ["a"] * 3
    assert env.env_method("get_attr", "render_mode") == [None] * 3
    assert env.env_is_wrapped(gym.Wrapper, 1) == [False]
    assert not env.has_attr("nothing")
    with pytest.raises(ValueError, match="attribute 'label' is one for all 3: leave indices out"):
        env.set_attr("label", "b", 1)
    env.set_options([{"at": 1.0}, {"at": 2.0}, {}])
    with pytest.raises(ValueError, match="takes the same options for all; give one dict"):
        env.reset()


def clips_of_points(batch: int, num_frames: int) -> Clip:
    """Return clips of the point under random actions."""
    random = np.random.default_rng(0)
    actions = random.uniform(-1, 1, (batch, num_frames - 1, 2)).astype(np.float32)
    places = [random.uniform(-1.2, 1.2, (batch, 2)).astype(np.float32)]
    rewards = [np.zeros(batch)]
    for t in range(num_frames - 1):
        place, reward = moved(places[-1], actions[:, t])
        places.append(place)
        rewards.append(reward)
    spec = Spec(vectors={"x": VectorSpec.unit(2)}, action=VectorSpec.unit(2), outcomes=("reward",))
    clip = testing.clip(spec, batch, num_frames)
    known = torch.ones(batch, num_frames, dtype=torch.bool)
    known[:, 0] = False
    return replace(
        clip,
        vectors={"x": torch.from_numpy(np.stack(places, axis=1))},
        outcome={"reward": torch.from_numpy(np.stack(rewards, axis=1)).float()},
        actions=torch.from_numpy(actions),
        valid={"x": torch.ones_like(known), "reward": known},
    )


def learned_world(clip: Clip, num_steps: int) -> WorldModel:
    """Return a small model that has learned from clips of the point."""
    torch.manual_seed(0)
    x = VectorSpec(dim=2, mean=(0, 0), std=(0.8, 0.8), delta_std=(0.17, 0.17))
    action = VectorSpec(dim=2, mean=(0, 0), std=(0.58, 0.58), delta_std=(0.8, 0.8))
    spec = Spec(
        vectors={"x": x}, action=action, outcomes=("reward",), reward_mean=0.0, reward_std=0.5
    )
    config = WorldModelConfig(dim=32, num_heads=2, encoder_layers=1, decoder_layers=1, window=3)
    model = build_world_model(spec, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = len(clip.action_valid)
    for step in range(num_steps):
        loss, _ = model(clip, torch.arange(batch) + batch * step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def real_returns(agent: PPO, num_episodes: int = 32) -> np.ndarray:
    """Return what the real episodes of an agent come to, (num_episodes,)."""
    envs = SyncVectorEnv([Point] * num_episodes, autoreset_mode="SameStep")
    observations, _ = envs.reset(seed=100)
    total, plays = np.zeros(num_episodes), np.ones(num_episodes)
    for _ in range(MAX_STEPS):
        actions, _ = agent.predict(observations, deterministic=True)
        observations, rewards, terminated, _, _ = envs.step(actions)
        total += rewards * plays
        plays *= ~terminated
    return total


def test_what_is_learned_in_imagination_alone_is_better_in_reality() -> None:
    clip = clips_of_points(64, 6)
    starts = clip.frames(0, 1)
    world = learned_world(clip, 300)
    envs = ImaginedVectorEnv(
        world, starts, 16, max_steps=MAX_STEPS, num_steps=1, autoreset_mode="SameStep"
    )
    monitored = VecMonitor(VecCheckNan(SB3VecEnv(envs), raise_exception=True))
    agent = PPO(
        "MultiInputPolicy",
        monitored,
        n_steps=16,
        batch_size=64,
        gamma=0.9,
        learning_rate=3e-3,
        n_epochs=5,
        seed=0,
        device="cpu",
    )
    before = real_returns(agent)
    agent.learn(8_000)
    gain = real_returns(agent) - before
    assert gain.mean() > 4 * gain.std(ddof=1) / len(gain) ** 0.5
    assert gain.mean() > 1
    lengths = {episode["l"] for episode in agent.ep_info_buffer or []}
    assert lengths == {MAX_STEPS}
