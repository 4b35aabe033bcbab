"""Episodes that a policy played: playing them, honest starts, and what is said of them."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from scd_wm.envs.info import is_success
from scd_wm.evaluation.rates import wilson_interval
from scd_wm.policies.protocol import BatchedPolicy, Policy

Watch = Callable[[Mapping[str, np.ndarray], Mapping[str, Any], np.ndarray], None]
"""Is shown observations (B, ...), info, and which episodes go on, (B,) bool, after every step."""

MAX_REFUSED = 1000  # starts in a row that satisfy the goal already


@dataclass(frozen=True)
class Played:
    """One episode."""

    seed: int
    success: bool
    num_steps: int
    total_reward: float
    cpu_s: float  # of all decisions


def play(
    env: gym.Env,
    policy: Policy,
    seed: int,
    before_step: Callable[[], None] | None = None,
    policy_seed: int | None = None,
) -> Played:
    """Play one episode, to its end or to the first success.

    Args:
        env: The environment.
        policy: Who acts.
        seed: Of the episode and of the policy.
        before_step: Called when an action is chosen and not yet taken.
        policy_seed: Of the policy alone, if it has another.
    """
    observation, _ = env.reset(seed=seed)
    policy.reset(seed if policy_seed is None else policy_seed)
    total, cpu_s, num_steps, success, is_over = 0.0, 0.0, 0, False, False
    while not is_over:
        started = time.process_time()
        action = policy.act(observation)
        cpu_s += time.process_time() - started
        if before_step is not None:
            before_step()
        observation, reward, terminated, truncated, info = env.step(action)
        success = success or is_success(info)
        total, num_steps = total + float(reward), num_steps + 1
        is_over = bool(terminated or truncated or success)
    return Played(seed, success, num_steps, total, cpu_s)


def play_imagined(
    envs: VectorEnv,
    policy: BatchedPolicy,
    seed: int,
    starts: Sequence[int],
    watch: Watch | None = None,
    bar: Any = None,
) -> list[Played]:
    """Play an imagined episode from every start, each to its end or to the first success.

    All are imagined in one batch, in which an episode that is over goes on unseen.

    Args:
        envs: The imagined environments, one a start.
        policy: Who acts in all.
        seed: Of the first episode, and of what its policy draws; those after it count on from it.
        starts: Numbers of the starts.
        watch: Is shown every frame, the first too; before each step is said who goes on.
        bar: A progress bar of steps.
    """
    observations, info = envs.reset(seed=seed, options={"start": np.array(starts)})
    policy.reset(seed)
    count = envs.num_envs
    alive, success = np.ones(count, bool), np.zeros(count, bool)
    steps, returns, cpu_s = np.zeros(count, int), np.zeros(count), 0.0
    if watch is not None:
        watch(observations, info, alive)
    while alive.any():
        started = time.process_time()
        actions = np.asarray(policy.act(observations))
        cpu_s += (time.process_time() - started) / count * int(alive.sum())
        observations, rewards, terminated, truncated, info = envs.step(actions)
        if watch is not None:
            watch(observations, info, alive)
        steps[alive] += 1
        returns[alive] += rewards[alive]
        success |= alive & np.asarray(info.get("success", np.zeros(count, bool)))
        alive &= ~(terminated | truncated | success)
        if bar is not None:
            bar.set_postfix_str(f"{success.sum()}/{count} succeeded", refresh=False)
            bar.update()
    share = cpu_s / steps.sum()
    rows = zip(range(seed, seed + count), success, steps, returns, strict=True)
    return [Played(s, bool(w), int(n), float(r), share * n) for s, w, n, r in rows]


def honest_seeds(env: gym.Env, first: int, count: int) -> tuple[list[int], list[int]]:
    """Return seeds whose starts are no success, and those before them that were refused.

    Args:
        env: The environment.
        first: The first seed to try.
        count: Seeds wanted.

    Raises:
        ValueError: If there seem to be none.
    """
    seeds: list[int] = []
    refused: list[int] = []
    seed = first
    while len(seeds) < count:
        (refused if is_success(env.reset(seed=seed)[1]) else seeds).append(seed)
        if len(refused) - len(seeds) >= MAX_REFUSED:
            raise ValueError(f"of {len(refused)} starts nearly all satisfy the goal already")
        seed += 1
    return seeds, refused


def sum_up(played: Sequence[Played]) -> dict[str, Any]:
    """Return what the episodes of a policy come to, in JSON types."""
    won = [p for p in played if p.success]
    low, high = wilson_interval(len(won), len(played))
    return {
        "success": len(won),
        "episodes": len(played),
        "success_rate": len(won) / len(played),
        "success_interval": [low, high],
        "mean_steps_to_success": float(np.mean([p.num_steps for p in won])) if won else None,
        "mean_total_reward": float(np.mean([p.total_reward for p in played])),
        "cpu_s_a_decision": sum(p.cpu_s for p in played) / sum(p.num_steps for p in played),
    }


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows with the same names as text with a line of names at the top."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for index, row in enumerate(rows):
        if index == 0:
            writer.writerow(row)
        writer.writerow(row.values())
    return text.getvalue()
