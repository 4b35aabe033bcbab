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

from scd_wm.collect import wilson_interval
from scd_wm.envs.info import is_success
from scd_wm.policies.protocol import Policy

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
    env: gym.Env, policy: Policy, seed: int, before_step: Callable[[], None] | None = None
) -> Played:
    """Play one episode, to its end or to the first success.

    Args:
        env: The environment.
        policy: Who acts.
        seed: Of the episode and of the policy.
        before_step: Called when an action is chosen and not yet taken.
    """
    observation, _ = env.reset(seed=seed)
    policy.reset(seed)
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
