"""A scripted pusher for PushT that makes data full of contact.

It reads the simulator's state (`env.unwrapped.state`), not the observation, and so works for every
observation type. It draws a pose that the T shall reach, the goal or a random one; picks a push
that brings the T nearer and stays clear of the walls; goes around the T to the start of the push;
pushes; and picks the next.

Axes: K candidate pushes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from scd_wm.envs.planar_shapes import rotation, to_plane
from scd_wm.envs.push_t import MAX_STEP, REACH, WORKSPACE
from scd_wm.policies.planar_path import (
    body_to_plane,
    draw_contacts,
    moved_pose,
    turned,
)
from scd_wm.policies.pusher import CLEARANCE, MAX_WAY_STEPS, TURN_RADIUS, Pusher, arc_distance

NUM_CANDIDATES = 128
TRAVEL_COST = 0.8  # metres of distance to the target that a metre of way is worth
SAFE = 0.18  # corners of the T beyond this are near a wall
NEAR = 0.1  # distance to the target, metres, below which pushes are finer
ARRIVED = 0.01  # distance to the target, metres, at which another is drawn
LOST = 0.02  # a push ends when the rims are so far apart
MAX_PUSHES = 8  # towards a random pose
GOAL_PUSHES = 15  # towards the goal


@dataclass(frozen=True)
class Push:
    """A push, straight or turning with the T."""

    start: np.ndarray  # (2,) where the pusher's centre begins, clear of the T
    direction: np.ndarray  # (2,) unit vector
    length: float  # from `start`, metres
    speed: float  # metres a step
    follows: bool  # does the direction turn with the T, which keeps the pusher on its side


class ScriptedPushT(Pusher):
    """Pushes the T towards the goal, or anywhere, from all sides.

    Args:
        env: A PushT environment, wrapped or not.
        noise: Standard deviation of Gaussian noise added to every action, in units of the action.
        directed: Share of target poses that are the goal; the others are drawn at random.
        wander: Share of pushes that are followed by a walk to a random free point.

    Raises:
        ValueError: If `env` is no PushT, `noise` is negative or a share is not in [0, 1].
    """

    def __init__(
        self, env: gym.Env, noise: float = 0.03, directed: float = 0.4, wander: float = 0.05
    ) -> None:
        super().__init__(env, noise)
        for name, share in (("directed", directed), ("wander", wander)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {share}")
        self.directed, self.wander = directed, wander
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random depends on the seed."""
        super().reset(seed)
        self._push: Push | None = None
        self._pushed = 0.0  # metres of the current push that are done
        self._num_touched = 0  # steps of the current push with contact
        self._target = self._env.goal_pose
        self._pushes_left = 0

    def act(self, observation: Any) -> np.ndarray:
        """Return the next target of the pusher, (2,) float32; `observation` is not read."""
        if self._way_steps > MAX_WAY_STEPS:
            self._way.clear()  # something blocks it
        if not self._way and (self._push is None or self._push_is_over()):
            self._choose()
        point = self._next_point_of_way() if self._way else self._next_point_of_push()
        return self._action_to(point)

    def _next_point_of_push(self) -> np.ndarray:
        assert self._push is not None, "a push was chosen"
        push, env = self._push, self._env
        if self._pushed == 0:
            self._angle, self._line = env.block_pose[2], push.start
        turn = env.block_pose[2] - self._angle if push.follows else 0.0
        self._pushed += push.speed
        self._line = self._line + push.speed * rotation(turn) @ push.direction
        return self._line

    def _push_is_over(self) -> bool:
        """Return whether the push is done, has lost the T, or has brought it to a wall."""
        assert self._push is not None, "a push was chosen"
        env = self._env
        rims = float(env.shape.distance(env.pusher_pos, env.block_pose)) - env.pusher_radius
        self._num_touched += rims < 0.001
        farthest, num_touched = self._farthest_corner(), self._num_touched
        pinned = farthest > WORKSPACE - 0.01 and num_touched > 3
        at_wall = farthest > max(SAFE + 0.02, self._farthest + 0.005) or pinned
        lost = num_touched > 0 and rims > LOST
        return self._pushed >= self._push.length or lost or at_wall

    def _choose(self) -> None:
        """Choose the next push and the way to it; without any, walk to a random point."""
        if self._pushes_left == 0 or self._away(self._env.block_pose[None])[0] < ARRIVED:
            self._target = self._draw_target()
            to_goal = self._target is self._env.goal_pose
            self._pushes_left = GOAL_PUSHES if to_goal else int(self._rng.integers(2, MAX_PUSHES))
        self._pushes_left -= 1
        self._way_steps = 0
        self._push, self._pushed, self._num_touched = None, 0.0, 0
        if self._rng.random() < self.wander:
            self._walk_anywhere()
            return
        for push in self._candidates():
            if (way := self._path(push.start)) is not None:
                self._push, self._farthest = push, self._farthest_corner()
                self._way.extend(way)
                return
        self._walk_anywhere()

    def _candidates(self) -> list[Push]:
        """Return pushes that the pusher could do, the most useful first."""
        env, rng = self._env, self._rng
        contacts, normals = draw_contacts(env.shape, NUM_CANDIDATES, rng)
        starts = to_plane(contacts - normals * self._gap, env.block_pose)
        angles = rng.normal(0, 0.25, NUM_CANDIDATES)
        directions = turned(body_to_plane(normals, env.block_pose), angles)
        away = float(self._away(env.block_pose[None])[0])
        near = float(np.clip(away / NEAR, 0.1, 1))  # low: pushes are short, and worth a way
        lengths = rng.uniform(0.05, 0.3, NUM_CANDIDATES) * near + 0.005
        ends = starts + directions * (lengths + CLEARANCE)[:, None]
        ways = directions * lengths[:, None]
        poses = moved_pose(env.block_pose, contacts, normals, ways, TURN_RADIUS)
        cost = self._cost(poses) + rng.gumbel(0, 0.01, NUM_CANDIDATES) * near
        travel_cost = 0.0 if self._farthest_corner() > SAFE + 0.04 else TRAVEL_COST * near**2
        cost += travel_cost * np.linalg.norm(starts - env.pusher_pos, axis=1)
        free = env.shape.distance(starts, env.block_pose) > self._gap - 1e-6
        possible = free & (np.abs(np.concatenate([starts, ends], 1)).max(axis=1) <= REACH)
        order = [i for i in np.argsort(cost) if possible[i]]
        speeds = rng.uniform(0.15, 0.6, NUM_CANDIDATES) * MAX_STEP
        follows = rng.random(NUM_CANDIDATES) < 0.7
        return [
            Push(starts[i], directions[i], lengths[i] + CLEARANCE, speeds[i], follows[i])
            for i in order
        ]

    def _cost(self, poses: np.ndarray) -> np.ndarray:
        """Return how bad poses of the T are, (K,) metres: far from the target, or near a wall."""
        corners = np.stack([self._env.shape.corners(pose).reshape(-1, 2) for pose in poses])
        inside = poses.copy()  # the walls push the T back
        inside[:, :2] -= np.maximum(corners.max(axis=1) - WORKSPACE, 0)
        inside[:, :2] += np.maximum(-WORKSPACE - corners.min(axis=1), 0)
        farthest = np.minimum(np.abs(corners).max(axis=(1, 2)), WORKSPACE)
        return self._away(inside) + 5 * np.maximum(farthest - SAFE, 0)

    def _away(self, poses: np.ndarray) -> np.ndarray:
        """Return how far poses are from the target, (K,) metres; turns count by their arc."""
        return arc_distance(poses, self._target)

    def _farthest_corner(self) -> float:
        """Return how far out the T reaches, metres."""
        return float(np.abs(self._env.shape.corners(self._env.block_pose)).max())

    def _draw_target(self) -> np.ndarray:
        if self._rng.random() < self.directed:
            return self._env.goal_pose
        return self._rng.uniform([-0.12, -0.12, -np.pi], [0.12, 0.12, np.pi])
