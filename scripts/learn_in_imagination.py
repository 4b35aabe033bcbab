"""Learn to push the T inside a world model, with Stable-Baselines3, and play it in the simulator.

PPO sees nothing but what the world model imagines after recorded frames. It imagines few steps at a
time, since what a policy finds to be good in a long dream is often a mistake of the dream's. Its
episodes in the simulator, before and after, are longer, and played on seeds of their own. The
reward is made of what is observed, in both worlds alike. With `--simulator` PPO learns in the
simulator itself, from as many steps.

usage: python scripts/learn_in_imagination.py RUN [--steps N] [--seeds 0,1,2] [--simulator]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from scd_wm.console import number_list
from scd_wm.envs.push_t import PushT
from scd_wm.envs.sb3_vec_env import SB3VecEnv
from scd_wm.evaluation.bootstrap import bootstrap_mean
from scd_wm.imagined import imagined_vector_env
from scd_wm.training.run_data import open_run_parts

ENV = "scd_wm/PushTState-v0"
MAX_STEPS = 100  # of an episode in the simulator
IMAGINED_STEPS = 20  # of an imagined one; its end is one by time, whose value PPO estimates
NUM_STARTS = 4096  # recorded frames that those begin at
NUM_ENVS = 64  # that are learned in at once
NUM_EPISODES = 50  # in the simulator, before and after
FIRST_SEED = 900_000  # of those episodes
ROUNDS = 2  # of learning, after each of which the return is shown
NEAR = 0.1  # metres within which nearness is felt
GOAL = PushT("state").goal_pose[:2]

Observations = dict[str, np.ndarray]


class Nearness(VectorWrapper):
    """Rewards a pusher that is near the T, and a T that is near its goal, by up to 1/2 each."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step and replace the rewards."""
        observations, _, terminated, truncated, infos = self.env.step(actions)
        rewards = nearness(observations)
        for row in np.flatnonzero(terminated | truncated):  # what is observed there begins anew
            rewards[row] = nearness(infos["final_obs"][row])
        return observations, rewards, terminated, truncated, infos


def nearness(observations: Observations) -> np.ndarray:
    """Return the rewards of observations, (B,), or of a single one, ()."""
    block = observations["block_pose"][..., :2]
    to_block = np.linalg.norm(observations["pusher_pos"] - block, axis=-1)
    to_goal = np.linalg.norm(block - GOAL, axis=-1)
    return 1 - (np.tanh(to_block / NEAR) + np.tanh(to_goal / NEAR)) / 2


def simulated(count: int) -> VectorEnv:
    """Return simulators side by side."""
    make = [lambda: gym.make(ENV, max_episode_steps=MAX_STEPS)] * count
    return Nearness(SyncVectorEnv(make, autoreset_mode="SameStep"))


def imagined(run: str) -> VectorEnv:
    """Return what a world model imagines after frames of its data, one sampler step each."""
    recorded, _ = open_run_parts(run)
    envs = imagined_vector_env(
        run,
        recorded,
        NUM_ENVS,
        history=1,
        num_starts=NUM_STARTS,
        max_steps=IMAGINED_STEPS,
        num_steps=1,
        autoreset_mode="SameStep",
    )
    return Nearness(envs)


def real_returns(act: Callable[[Observations], np.ndarray]) -> np.ndarray:
    """Play episodes in the simulator; return the sum of rewards of each."""
    envs = simulated(NUM_EPISODES)
    observations, _ = envs.reset(seed=FIRST_SEED)
    total, playing = np.zeros(NUM_EPISODES), np.ones(NUM_EPISODES, dtype=bool)
    while playing.any():
        observations, rewards, terminated, truncated, _ = envs.step(act(observations))
        total += rewards * playing
        playing &= ~(terminated | truncated)
    envs.close()
    return total


def report(name: str, returns: np.ndarray, note: str = "") -> None:
    """Print the mean of returns with its 95 % interval."""
    found = bootstrap_mean(returns[:, None], np.arange(len(returns)), seed=0)
    interval = f"{found.mean[0]:6.2f} ({found.low[0]:.2f} to {found.high[0]:.2f})"
    print(f"{name:<22} {interval}  {note}", flush=True)


def learn(envs: VectorEnv, num_steps: int, seed: int) -> None:
    """Learn, and print what the policy comes to in the simulator on the way."""
    seen = VecNormalize(VecMonitor(SB3VecEnv(envs)), norm_reward=False)  # metres are small numbers
    agent = PPO(
        "MultiInputPolicy",
        seen,
        n_steps=32,
        batch_size=128,
        n_epochs=10,
        learning_rate=1e-3,
        gamma=0.95,
        policy_kwargs={"log_std_init": -0.5},
        seed=seed,
        device="cpu",
    )

    def act(observations: Observations) -> np.ndarray:
        return agent.predict(seen.normalize_obs(observations), deterministic=True)[0]

    report(f"seed {seed}, before", real_returns(act))
    cpu_s = 0.0
    for _ in range(ROUNDS):
        started = time.process_time()
        agent.learn(num_steps // ROUNDS, reset_num_timesteps=False)
        cpu_s += time.process_time() - started
        known = np.mean([episode["r"] for episode in agent.ep_info_buffer or []])
        note = f"{known:.2f} where it learned, {cpu_s:.0f} CPU s"
        report(f"seed {seed}, {agent.num_timesteps} steps", real_returns(act), note)


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description="Learn inside a world model of PushT's state.")
    parser.add_argument("run", help=f"run folder of a world model of {ENV}")
    parser.add_argument("--steps", type=int, default=65_536, help="imagined, for each seed")
    parser.add_argument("--seeds", type=number_list, default=(0, 1, 2), help="of the learner")
    parser.add_argument("--simulator", action="store_true", help="learn there instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    report("random actions", real_returns(lambda _: random.uniform(-1, 1, (NUM_EPISODES, 2))))
    for seed in args.seeds:
        learn(simulated(NUM_ENVS) if args.simulator else imagined(args.run), args.steps, seed)


if __name__ == "__main__":
    main()
