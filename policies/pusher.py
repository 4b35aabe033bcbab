"""What policies for PushT share: ways around the T, walked point by point."""

from __future__ import annotations

from collections import deque

import gymnasium as gym
import numpy as np

from scd_wm.envs.push_t import MAX_STEP, REACH, PushT
from scd_wm.policies.noisy import NoisyPolicy
from scd_wm.policies.planar_path import free_point, path_around

CLEARANCE = 0.008  # between the rims of pusher and T on the way to a push
TURN_RADIUS = (
    0.053  # of the T's friction on the table: sqrt of angular over linear damping in push_t.xml
)
MAX_WAY_STEPS = 40  # after which something blocks the way


class Pusher(NoisyPolicy):
    """Walks around the T before it pushes.

    Args:
        env: A PushT environment, wrapped or not.
        noise: See `NoisyPolicy`.

    Raises:
        ValueError: If `env` is no PushT or `noise` is negative.
    """

    def __init__(self, env: gym.Env, noise: float) -> None:
        self._env = self._unwrapped(env, PushT)
        super().__init__(noise)
        self._gap = self._env.pusher_radius + CLEARANCE  # from the pusher's centre to the T

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random depends on the seed."""
        super().reset(seed)
        self._way: deque[np.ndarray] = deque()
        self._way_steps = 0  # done of the current way

    def _action_to(self, point: np.ndarray) -> np.ndarray:
        """Return the action that goes to a point of the plane, or near it."""
        return self._noisy(point / REACH)

    def _next_point_of_way(self) -> np.ndarray:
        """Return the next point on the way; it leaves the list when one step gets there."""
        self._way_steps += 1
        point = self._way[0]
        if np.linalg.norm(point - self._env.pusher_pos) <= MAX_STEP:
            self._way.popleft()
        return point

    def _walk_anywhere(self) -> None:
        """Take the way to a random point; straight, into the T, if there is no other."""
        env = self._env
        end = free_point(env.shape, env.block_pose, self._gap, REACH, self._rng)
        self._way.extend(self._path(end) or [end])

    def _path(self, end: np.ndarray) -> list[np.ndarray] | None:
        """Return the way around the T from the pusher to `end`, if there is one."""
        env = self._env
        return path_around(env.shape, env.block_pose, env.pusher_pos, end, self._gap, REACH)


def arc_distance(poses: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return how far poses of the T, (K, 3), are from another, (K,) metres; turns by their arc."""
    turns = np.angle(np.exp(1j * (poses[:, 2] - target[2])))
    return np.linalg.norm(poses[:, :2] - target[:2], axis=1) + TURN_RADIUS * np.abs(turns)
