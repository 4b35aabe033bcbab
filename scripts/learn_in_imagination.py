"""Learn a policy inside a world model with Stable-Baselines3, and play it in the simulator.

PPO sees nothing but what the world model imagines after the first frames of recorded episodes; its
episodes in the simulator, before and after, are played on seeds of their own. With
`--simulator` it learns in the simulator itself, from as many steps.

usage: python scripts/learn_in_imagination.py RUN ENV [--steps N] [--seeds 0,1,2] [--simulator]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from scd_wm.console import number_list
from scd_wm.envs.sb3_vec_env import SB3VecEnv
from scd_wm.evaluation.bootstrap import bootstrap_mean
from scd_wm.evaluation.clips import ClipPlace
from scd_wm.evaluation.evaluate import read_clips
from scd_wm.imagined import imagined_vector_env
from scd_wm.rollout_worlds import recorded_limit
from scd_wm.training.run_data import open_run_parts

NUM_ENVS = 64  # that are learned in at once
NUM_EPISODES = 50  # in the simulator, before and after
FIRST_SEED = 900_000  # of those episodes
ROUNDS = 4  # of learning, after each of which the return is shown

Act = Callable[[dict[str, np.ndarray]], np.ndarray]


def simulated(env_id: str, count: int) -> VectorEnv:
    """Return simulators side by side."""
    return SyncVectorEnv([lambda: gym.make(env_id)] * count, autoreset_mode="SameStep")


def imagined(run: str) -> VectorEnv:
    """Return what a world model imagines after first frames of its data, one sampler step each."""
    recorded, _ = open_run_parts(run)
    places = [ClipPlace(episode, 0) for episode in range(len(recorded.episodes))]
    return imagined_vector_env(
        run,
        read_clips(recorded, places, 1),
        NUM_ENVS,
        max_steps=recorded_limit(recorded),
        num_steps=1,
        autoreset_mode="SameStep",
    )


def real_returns(act: Act, env_id: str) -> np.ndarray:
    """Play episodes in the simulator; return the sum of rewards of each."""
    envs = simulated(env_id, NUM_EPISODES)
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
    print(f"{name:<22} {found.mean[0]:6.2f} ({found.low[0]:.2f} to {found.high[0]:.2f})  {note}")


def learn(envs: VectorEnv, env_id: str, num_steps: int, seed: int) -> None:
    """Learn, and print what the policy comes to in the simulator on the way."""
    agent = PPO(
        "MultiInputPolicy",
        VecMonitor(SB3VecEnv(envs)),
        n_steps=32,
        batch_size=512,
        n_epochs=5,
        learning_rate=1e-3,
        gamma=0.97,
        policy_kwargs={"log_std_init": -0.5},
        seed=seed,
        device="cpu",
    )

    def act(observations: dict[str, np.ndarray]) -> np.ndarray:
        return agent.predict(observations, deterministic=True)[0]

    report(f"seed {seed}, before", real_returns(act, env_id))
    wall, cpu = time.perf_counter(), time.process_time()
    for part in range(1, ROUNDS + 1):
        agent.learn(num_steps // ROUNDS, reset_num_timesteps=False)
        spent = f"{time.process_time() - cpu:.0f} CPU s, {time.perf_counter() - wall:.0f} s"
        report(f"seed {seed}, {agent.num_timesteps} steps", real_returns(act, env_id), spent)


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="run folder of a world model")
    parser.add_argument("env", help="Gymnasium id of the simulator, such as scd_wm/LiftState-v0")
    parser.add_argument("--steps", type=int, default=100_000, help="imagined, for each seed")
    parser.add_argument("--seeds", type=number_list, default=(0, 1, 2), help="of the learner")
    parser.add_argument("--simulator", action="store_true", help="learn there instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    space, random = gym.make(args.env).action_space, np.random.default_rng(0)
    shape = (NUM_EPISODES, *space.shape)
    report("random actions", real_returns(lambda _: random.uniform(-1, 1, shape), args.env))
    for seed in args.seeds:
        envs = simulated(args.env, NUM_ENVS) if args.simulator else imagined(args.run)
        learn(envs, args.env, args.steps, seed)


if __name__ == "__main__":
    main()
