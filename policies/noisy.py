"""What policies share that read the simulator's state and make errors on purpose."""

from __future__ import annotations

from typing import Any, TypeVar

import gymnasium as gym
import numpy as np

Env = TypeVar("Env", bound=gym.Env)


class NoisyPolicy:
    """Adds noise to what it wants to do.

    Args:
        noise: Standard deviation of Gaussian noise added to every action, in units of the action.

    Raises:
        ValueError: If `noise` is negative.
    """

    def __init__(self, noise: float) -> None:
        if noise < 0:
            raise ValueError(f"noise must be at least 0, got {noise}")
        self.noise = noise

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random depends on the seed."""
        self._rng = np.random.default_rng(seed)

    def _noisy(self, action: np.ndarray) -> np.ndarray:
        """Return what is done where `action` is wanted, (A,) float32, -1 to 1."""
        action = action + self._rng.normal(0, 1, len(action)) * self.noise
        return np.clip(action, -1, 1).astype(np.float32)

    def _unwrapped(self, env: gym.Env[Any, Any], kind: type[Env]) -> Env:
        """Return the environment below all wrappers, which must be of a kind.

        Raises:
            ValueError: If it is of another.
        """
        if not isinstance(env.unwrapped, kind):
            raise ValueError(
                f"{type(self).__name__} needs a {kind.__name__} environment, got {env.unwrapped}"
            )
        return env.unwrapped
