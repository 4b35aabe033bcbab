"""Imagined worlds that are wrong on purpose, to stand beside the real thing.

What a measure says of them it says of a world model that understands nothing.

Axes: B sub-environments, A values of an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper

from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv


class ShuffledActions(VectorWrapper):
    """Each episode is driven by the actions that are chosen in another.

    A policy sees its own episode and acts on it, but what it does happens elsewhere.

    Args:
        envs: The imagined environments.
        giver: Whose actions each gets, (B,); nobody's own.

    Raises:
        ValueError: If somebody gets their own, or somebody's are used twice.
    """

    def __init__(self, envs: ImaginedVectorEnv, giver: np.ndarray) -> None:
        super().__init__(envs)
        rows = np.arange(envs.num_envs)
        if sorted(giver) != rows.tolist() or (giver == rows).any():
            raise ValueError(f"giver must name everybody else once, got {giver.tolist()}")
        self.giver = giver

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Imagine a frame under the actions of others.

        Args:
            actions: (B, A).
        """
        return self.env.step(np.asarray(actions)[self.giver])


class NothingChanges(VectorWrapper):
    """Shows its first observation again and again: no reward, no success, no end but the limit.

    Args:
        envs: The imagined environments, of which only the starts and the limit are used.
    """

    def __init__(self, envs: ImaginedVectorEnv) -> None:
        super().__init__(envs)
        self.dreams = envs
        self._shown: dict[str, np.ndarray] = {}
        self._num_steps = 0

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start all episodes, as the environments do."""
        self._shown, info = self.dreams.reset(seed=seed, options=dict(options or {}))
        self._num_steps = 0
        return deepcopy(self._shown), info

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Let a moment pass."""
        self._num_steps += 1
        no = np.zeros(self.num_envs, bool)
        is_last = np.full(self.num_envs, self._num_steps >= self.dreams.max_steps)
        return deepcopy(self._shown), np.zeros(self.num_envs), no, is_last, {}
