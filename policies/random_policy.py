"""Policies that do not look: random actions, and none."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box


class RandomPolicy:
    """Random actions within the action space.

    Args:
        env: Environment whose action space is sampled.
        smoothness: 0 draws every action anew. Above 0, actions of a bounded Box move from the last
            towards a random target, keeping this share of the last action; a new target is drawn
            on average every tenth step.

    Raises:
        ValueError: If `smoothness` is not in [0, 1), or is above 0 for an action space that is no
            bounded Box.
    """

    def __init__(self, env: gym.Env, smoothness: float = 0.0) -> None:
        space = env.action_space
        if not 0 <= smoothness < 1:
            raise ValueError(f"smoothness must be at least 0 and below 1, got {smoothness}")
        if smoothness > 0 and not (isinstance(space, Box) and space.is_bounded()):
            raise ValueError(f"smoothness needs a bounded Box of actions, got {space}; use 0")
        self.smoothness = smoothness
        self._space = deepcopy(space)  # seeded by `reset`, which must not change another's
        self._rng = np.random.default_rng()
        self._action = self._target = np.zeros(space.shape or ())

    def reset(self, seed: int) -> None:
        """Begin an episode; actions depend on the seed alone."""
        self._rng = np.random.default_rng(seed)
        self._space.seed(seed)
        if self.smoothness > 0:
            self._action, self._target = self._draw(), self._draw()

    def act(self, observation: Any) -> np.ndarray:
        """Return the next random action."""
        if self.smoothness == 0:
            return np.asarray(self._space.sample())
        if self._rng.random() < 0.1:
            self._target = self._draw()
        self._action = self.smoothness * self._action + (1 - self.smoothness) * self._target
        return self._action.astype(self._space.dtype)

    def _draw(self) -> np.ndarray:
        assert isinstance(self._space, Box), "checked in the constructor"
        return self._rng.uniform(self._space.low, self._space.high)


class ZeroPolicy:
    """Always the same action: zeros, clipped into the action space."""

    def __init__(self, env: gym.Env) -> None:
        space = env.action_space
        zero = np.zeros(space.shape or (), space.dtype)
        self._action = np.clip(zero, space.low, space.high) if isinstance(space, Box) else zero

    def reset(self, seed: int) -> None:
        """Begin an episode."""

    def act(self, observation: Any) -> np.ndarray:
        """Return the action."""
        return self._action.copy()
