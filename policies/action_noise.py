"""Any policy made worse by degrees: noise on its actions, the same for an episode in every world.

Axes: B environments, A values of an action.
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from scd_wm.policies.protocol import BatchedPolicy

STREAM = 1  # keeps this noise apart from what a policy draws itself with the same seed


class ActionNoise:
    """Adds Gaussian noise to a policy's actions and clips them into the action space.

    Row i of `reset(seed)` gets the noise of row 0 of `reset(seed + i)`, so an episode has the same
    noise whether it is played alone or with others.

    Args:
        policy: Returns actions (B, A); of what plays chunks, what plays them
            (`policies.batched.OneAtATime`).
        noise: Its standard deviation, in halves of an action's range.
        actions: The action space.

    Raises:
        ValueError: If `noise` is negative or the space has no bounds.
    """

    def __init__(self, policy: BatchedPolicy, noise: float, actions: gym.Space) -> None:
        if not noise >= 0:
            raise ValueError(f"noise must be 0 or more, got {noise}")
        if not isinstance(actions, Box) or not actions.is_bounded():
            raise ValueError(f"noise on actions needs a Box with bounds, got {actions}")
        self.policy, self.noise, self.actions = policy, noise, actions
        self._seed = 0
        self._randoms: list[np.random.Generator] = []

    def reset(self, seed: int) -> None:
        """Begin episodes."""
        self.policy.reset(seed)
        self._seed, self._randoms = seed, []

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return actions, (B, A) float32.

        Raises:
            ValueError: If the policy returns something else.
        """
        actions = np.asarray(self.policy.act(observation))
        if actions.ndim != 2:
            raise ValueError(f"noise is put on actions (B, A), the policy gave {actions.shape}")
        if not self._randoms:
            rows = range(len(actions))
            self._randoms = [np.random.default_rng([STREAM, self._seed + row]) for row in rows]
        drawn = np.stack([random.normal(size=actions.shape[1]) for random in self._randoms])
        low, high = self.actions.low, self.actions.high
        noisy = actions + self.noise * (high - low) / 2 * drawn
        return np.clip(noisy, low, high).astype(np.float32)
