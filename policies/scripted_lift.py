"""A scripted gripper for Lift: above the cube, down, close, up; again if the cube is lost.

It reads the simulator's state (`env.unwrapped`), not the observation, and so works for every
observation type.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from scd_wm.envs.lift import (
    HIGHEST,
    LOWEST,
    MAX_STEP,
    MAX_TURN,
    MAX_YAW,
    OPEN,
    Lift,
)
from scd_wm.policies.noisy import NoisyPolicy

GAIN = 0.8  # share of the remaining way that is asked for in one step
BESIDE = 0.008  # metres beside the cube's middle, below which the hand goes down
AWRY = 0.1  # radians from the cube's sides, below which it goes down
DEEP = 0.006  # metres above the cube's middle, below which the fingers close
GRASP_STEPS = 4  # that closing takes
LOST = 0.03  # metres between fingertips and cube at which a lift has failed


class ScriptedLift(NoisyPolicy):
    """Grasps the cube by two of its sides and lifts it.

    Args:
        env: A Lift environment, wrapped or not.
        noise: Standard deviation of Gaussian noise added to every action, in units of the action.
            More noise makes a policy of less skill.

    Raises:
        ValueError: If `env` is no Lift or `noise` is negative.
    """

    def __init__(self, env: gym.Env, noise: float = 0.1) -> None:
        self._env = self._unwrapped(env, Lift)
        super().__init__(noise)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random depends on the seed."""
        super().reset(seed)
        self._pace = self._rng.uniform(0.4, 0.9)  # share of the greatest speed
        self._hover = self._rng.uniform(0.06, 0.09)  # above the cube's middle, metres
        self._phase = "approach"
        self._num_grasped = 0  # steps of the current grasp

    def act(self, observation: Any) -> np.ndarray:
        """Return the next action, (5,) float32; `observation` is not read."""
        self._choose_phase()
        action = np.array([*self._motion(), self._turn(), -1 if self._phase == "approach" else 1])
        return self._noisy(action)

    def _choose_phase(self) -> None:
        env = self._env
        away = env.eef_pos - env.cube_pos
        if self._phase == "approach":
            if self._is_above() and away[2] < DEEP and env.gripper_qpos.min() > 0.8 * OPEN:
                self._phase, self._num_grasped = "grasp", 0
        elif np.linalg.norm(away) > LOST:
            self._phase = "approach"
        elif self._num_grasped >= GRASP_STEPS:
            self._phase = "lift"
        self._num_grasped += 1

    def _motion(self) -> np.ndarray:
        """Return the wanted motion of the hand, (3,), in units of the action."""
        env = self._env
        if self._phase == "lift":
            target = np.array([*env.eef_pos[:2], HIGHEST])
        elif self._phase == "grasp":
            target = env.eef_pos
        else:
            target = env.cube_pos
            target[2] = max(target[2], LOWEST)
            if not self._is_above():
                target[2] += self._hover
        way = GAIN * (target - env.eef_pos) / MAX_STEP
        if self._phase == "approach" and not self._is_above() and way[2] > 0.5:
            way[:2] = 0  # first up, so that the fingers do not push the cube away
        return np.clip(way, -self._pace, self._pace)

    def _turn(self) -> float:
        """Return the wanted turn, in units of the action."""
        return float(np.clip(GAIN * self._awry() / MAX_TURN, -1, 1))

    def _is_above(self) -> bool:
        """Return whether the hand may go down here."""
        env = self._env
        beside = float(np.linalg.norm((env.eef_pos - env.cube_pos)[:2]))
        return beside < BESIDE and abs(self._awry()) < AWRY

    def _awry(self) -> float:
        """Return the angle by which to turn to the nearest sides of the cube within reach."""
        w, x, y, z = self._env.cube_quat
        angle = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        quarter = np.pi / 2
        yaws = angle + quarter * np.arange(-4, 5)
        yaws = yaws[np.abs(yaws) < MAX_YAW]
        return float(yaws[np.argmin(np.abs(yaws - self._env.eef_yaw))] - self._env.eef_yaw)
