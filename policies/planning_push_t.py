"""An expert for PushT that tries its pushes in a simulator of its own and does the best one.

It reads the simulator's state (`env.unwrapped.state`), not the observation, and so works for every
observation type. A push is a straight way into the T. It draws pushes on all sides, foresees where
each would bring the T, improves the best by trying others like it (a cross-entropy search), goes
around the T to the start of the push, and pushes; when something goes otherwise, it plans anew.

Axes: K pushes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import gymnasium as gym
import numpy as np

from scd_wm.envs.planar_shapes import to_plane
from scd_wm.envs.push_t import MAX_STEP, REACH, SUCCESS_OVERLAP, WORKSPACE, PushT
from scd_wm.policies.planar_path import (
    body_to_plane,
    draw_contacts,
    moved_pose,
    turned,
)
from scd_wm.policies.pusher import MAX_WAY_STEPS, TURN_RADIUS, Pusher, arc_distance

NUM_DRAWN = 192  # pushes that are ranked by a formula
NUM_TRIED = 24  # of those, the best, that are simulated first
NUM_KEPT = 4  # of those, around which others are tried
ROUNDS = 2
NUM_NEAR = 12  # others in a round
SPREADS = np.array([0.006, 0.006, 0.15])  # of start (metres) and angle (radians) around the best
MAX_PUSH_STEPS = 8
STEP_COST = 0.0008  # metres of distance to the goal that a step is worth
SAFE = 0.19  # corners of the T beyond this are near a wall
WALL_COST = 1.0  # metres of distance to the goal that a metre beyond is worth
NEARER = 0.004  # metres by which a push may start nearer to the T than ways are
DETOUR = 0.03  # metres by which a push may be worse than the best where none brings the T nearer
SURPRISE = 0.004  # metres from where the T was foreseen, above which a plan is given up


@dataclass(frozen=True)
class Push:
    """A straight push and what it would do."""

    way: tuple[np.ndarray, ...]  # (2,) around the T, to where the pusher's centre begins
    angle: float  # direction in the plane, radians
    cost: float = np.inf
    points: tuple[np.ndarray, ...] = ()  # (2,) where the pusher goes, a step each
    poses: tuple[np.ndarray, ...] = ()  # (3,) where the T is after each step

    @property
    def start(self) -> np.ndarray:
        """Where the push begins, (2,)."""
        return self.way[-1]


class PlanningPushT(Pusher):
    """Brings the T onto the goal by pushes that it has foreseen in a simulator.

    Args:
        env: A PushT environment, wrapped or not.
        noise: Standard deviation of Gaussian noise added to every action, in units of the action.

    Raises:
        ValueError: If `env` is no PushT or `noise` is negative.
    """

    def __init__(self, env: gym.Env, noise: float = 0.01) -> None:
        super().__init__(env, noise)
        self._foresight = PushT("state")
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random depends on the seed."""
        super().reset(seed)
        self._give_up()

    def act(self, observation: Any) -> np.ndarray:
        """Return the next target of the pusher, (2,) float32; `observation` is not read."""
        if self._is_surprised() or self._way_steps > MAX_WAY_STEPS:
            self._give_up()
        if not self._way and not self._points:
            self._choose()
        point = self._next_point_of_way() if self._way else self._next_point_of_push()
        return self._action_to(point)

    def _give_up(self) -> None:
        self._way.clear()
        self._points: deque[np.ndarray] = deque()
        self._poses: deque[np.ndarray] = deque()  # foreseen after each of the points
        self._expected: np.ndarray | None = None  # pose of the T now
        self._way_steps = 0

    def _is_surprised(self) -> bool:
        """Return whether the T is not where it was foreseen."""
        if self._expected is None:
            return False
        return float(arc_distance(self._env.block_pose[None], self._expected)[0]) > SURPRISE

    def _next_point_of_push(self) -> np.ndarray:
        self._expected = self._poses.popleft()
        return self._points.popleft()

    def _choose(self) -> None:
        """Plan the next push and the way to it; without any, walk to a random point."""
        self._give_up()
        if pushes := self._plan():
            self._way.extend(pushes[0].way)
            self._points.extend(pushes[0].points)
            self._poses.extend(pushes[0].poses)
            self._expected = self._env.block_pose
        else:
            self._walk_anywhere()

    def _plan(self) -> list[Push]:
        """Return foreseen pushes, the best first; none if the pusher gets to no start."""
        pushes = sorted((self._foresee(p) for p in self._draw()), key=lambda p: p.cost)
        for i in range(ROUNDS):
            near = [self._foresee(p) for p in self._like(pushes[:NUM_KEPT], 0.5**i)]
            pushes = sorted([*pushes, *near], key=lambda p: p.cost)
        if pushes and pushes[0].cost > float(self._cost(self._env.block_pose[None])[0]):
            luck = self._rng.exponential(DETOUR, len(pushes))  # or it goes round in circles
            pushes = [pushes[i] for i in np.argsort([p.cost for p in pushes] + luck)]
        return pushes

    def _draw(self) -> list[Push]:
        """Draw pushes on all sides and return those that a formula likes best."""
        env, rng = self._env, self._rng
        contacts, normals = draw_contacts(env.shape, NUM_DRAWN, rng)
        starts = to_plane(contacts - normals * self._gap, env.block_pose)
        directions = turned(body_to_plane(normals, env.block_pose), rng.normal(0, 0.3, NUM_DRAWN))
        lengths = rng.uniform(0.01, MAX_PUSH_STEPS * MAX_STEP, NUM_DRAWN)
        ways = directions * lengths[:, None]
        poses = moved_pose(env.block_pose, contacts, normals, ways, TURN_RADIUS)
        cost = self._cost(poses) + self._way_cost([env.pusher_pos, starts])
        angles = np.arctan2(directions[:, 1], directions[:, 0])
        possible = (self._push_from(starts[i], angles[i]) for i in np.argsort(cost))
        return list(islice((push for push in possible if push is not None), NUM_TRIED))

    def _like(self, best: list[Push], scale: float) -> list[Push]:
        """Draw pushes like the best ones."""
        pushes = []
        for i in range(NUM_NEAR if best else 0):
            push = best[i % len(best)]
            x, y, turn = self._rng.normal(0, scale * SPREADS)
            start = push.start + np.array([x, y])
            pushes.append(self._push_from(start, push.angle + turn))
        return [push for push in pushes if push is not None]

    def _push_from(self, start: np.ndarray, angle: float) -> Push | None:
        """Return the push that starts here, or None if the pusher cannot get here."""
        distance = float(self._env.shape.distance(start, self._env.block_pose))
        if np.abs(start).max() > REACH or distance < self._gap - NEARER:
            return None
        way = self._path(start)
        return None if way is None else Push(tuple(way), angle)

    def _foresee(self, push: Push) -> Push:
        """Simulate a push and return it, cut where it has brought the T nearest to the goal."""
        simulator = self._foresight
        simulator.reset(options={"state": np.array([*push.start, *self._env.block_pose])})
        step = MAX_STEP * np.array([np.cos(push.angle), np.sin(push.angle)])
        points, poses, overlaps = [], [], []
        for i in range(MAX_PUSH_STEPS):
            points.append(push.start + (i + 1) * step)
            _, _, success, _, info = simulator.step(points[-1] / REACH)
            poses.append(simulator.block_pose)
            overlaps.append(info["overlap"])
            if success or (i > 0 and not info["contact"]):
                break
        cost = self._cost(np.stack(poses)) + STEP_COST * np.arange(len(poses))
        cost -= np.array(overlaps) >= SUCCESS_OVERLAP
        best = int(np.argmin(cost))
        total = float(cost[best] + self._way_cost([self._env.pusher_pos, *push.way]))
        return Push(
            push.way, push.angle, total, tuple(points[: best + 1]), tuple(poses[: best + 1])
        )

    def _cost(self, poses: np.ndarray) -> np.ndarray:
        """Return how bad poses of the T are, (K,) metres: far from the goal, or near a wall."""
        corners = np.stack([self._env.shape.corners(pose).reshape(-1, 2) for pose in poses])
        farthest = np.minimum(np.abs(corners).max(axis=(1, 2)), WORKSPACE)
        return arc_distance(poses, self._env.goal_pose) + WALL_COST * np.maximum(farthest - SAFE, 0)

    def _way_cost(self, corners: Sequence[np.ndarray]) -> Any:
        """Return what a way over points, each (2,) or (K, 2), costs, in metres."""
        return (
            sum(np.linalg.norm(b - a, axis=-1) for a, b in pairwise(corners)) * STEP_COST / MAX_STEP
        )
