"""Experts for the tasks of other packages. They read the simulator's state, not the observation."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from scd_wm.envs.meta_world import ACTION_REPEAT, MetaWorld
from scd_wm.envs.robosuite_lift import RobosuiteLift
from scd_wm.policies.noisy import NoisyPolicy

MAX_STEP = 0.05  # what an action of 1 moves robosuite's hand by, metres
HOVER = 0.06  # above the cube, metres
BESIDE = 0.012  # metres beside the cube's middle, below which the hand goes down
DEEP = 0.01  # metres above the cube's middle, below which the fingers close
GRASP_STEPS = 6  # that closing takes
LOST = 0.04  # metres between hand and cube at which a lift has failed
GENTLE = ACTION_REPEAT / 2  # share of Meta-World's expert's motion: it knows no held actions


class MetaWorldExpert(NoisyPolicy):
    """Meta-World's own expert of the task.

    Args:
        env: A MetaWorld environment, wrapped or not.
        noise: Standard deviation of Gaussian noise added to every action, in units of the action.

    Raises:
        ValueError: If `env` is no MetaWorld or `noise` is negative.
    """

    def __init__(self, env: gym.Env, noise: float = 0.1) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self._env = self._unwrapped(env, MetaWorld)
        super().__init__(noise)
        self._expert = ENV_POLICY_MAP[self._env.task]()
        self.reset(0)

    def act(self, observation: Any) -> np.ndarray:
        """Return the next action, (4,) float32; `observation` is not read."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that actions are clipped, which they are
            wanted = self._expert.get_action(self._env.expert_observation)
        action = np.clip(wanted, -1, 1)
        return self._noisy(np.array([*action[:3] / GENTLE, action[3]]))


class RobosuiteLiftExpert(NoisyPolicy):
    """Above the cube, down, close, up; again if the cube is lost.

    Args:
        env: A RobosuiteLift environment, wrapped or not.
        noise: Standard deviation of Gaussian noise added to every action, in units of the action.

    Raises:
        ValueError: If `env` is no RobosuiteLift or `noise` is negative.
    """

    def __init__(self, env: gym.Env, noise: float = 0.1) -> None:
        self._env = self._unwrapped(env, RobosuiteLift)
        super().__init__(noise)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random depends on the seed."""
        super().reset(seed)
        self._phase, self._num_grasped = "approach", 0

    def act(self, observation: Any) -> np.ndarray:
        """Return the next action, (7,) float32; `observation` is not read."""
        way = self._env.cube_pos - self._env.eef_pos
        self._choose_phase(way)
        if self._phase == "approach" and np.linalg.norm(way[:2]) > BESIDE:
            way[2] += HOVER
        elif self._phase == "grasp":
            way[:] = 0
        elif self._phase == "lift":
            way[:] = (0, 0, MAX_STEP)
        closed = -1 if self._phase == "approach" else 1
        return self._noisy(np.array([*np.clip(2 * way / MAX_STEP, -1, 1), 0, 0, 0, closed]))

    def _choose_phase(self, way: np.ndarray) -> None:
        if self._phase == "approach":
            if np.linalg.norm(way[:2]) < BESIDE and abs(way[2]) < DEEP:
                self._phase, self._num_grasped = "grasp", 0
        elif np.linalg.norm(way) > LOST:
            self._phase = "approach"
        elif self._num_grasped >= GRASP_STEPS:
            self._phase = "lift"
        self._num_grasped += 1
