"""Where a disc can push a shape in the plane, and its shortest ways around it.

Axes: N points of the graph, C samples on the way between two of them, K pushes.
"""

from __future__ import annotations

import numpy as np

from scd_wm.envs.planar_shapes import Shape, to_plane

SLACK = 0.003  # metres that a way may be nearer to the shape than asked
RETREAT = 0.03  # metres
NUM_SAMPLES = 32  # on a straight way; the longest has one about every 2 cm


def path_around(
    shape: Shape, pose: np.ndarray, start: np.ndarray, end: np.ndarray, gap: float, reach: float
) -> list[np.ndarray] | None:
    """Return the corners of the shortest way from `start` to `end` that keeps off a shape.

    The way goes over the corners of the shape's rectangles, moved outwards by `gap`.

    Args:
        shape: What to go around.
        pose: Where it is, (3,): x, y, angle.
        start: Where the way begins, (2,). If that is nearer than `gap`, the way may be as near at
            first.
        end: Where it ends, (2,).
        gap: Distance to keep between the way and the shape.
        reach: The way stays within -reach and reach in both directions.

    Returns:
        Points (2,) after `start`, the last of them `end`; None if there is no way.
    """
    around = Shape(shape.centers, shape.half_sizes + 1.1 * gap).corners(pose).reshape(-1, 2)
    allowed = (np.abs(around).max(axis=1) <= reach) & (shape.distance(around, pose) >= gap)
    retreat = _farthest_around(shape, pose, start, reach)
    points = np.stack([start, end, retreat, *around[allowed]])  # (N, 2)
    lengths = _straight_lengths(shape, pose, points, gap)
    return _shortest(points, lengths)


def free_point(
    shape: Shape, pose: np.ndarray, gap: float, reach: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a point at least `gap` from the shape and within `reach`, (2,)."""
    points = rng.uniform(-reach, reach, (64, 2))
    return points[np.argmax(shape.distance(points, pose) >= gap)]


def moved_pose(
    pose: np.ndarray, contact: np.ndarray, normal: np.ndarray, way: np.ndarray, radius: float
) -> np.ndarray:
    """Predict where quasi-static pushes without friction bring a body.

    Args:
        pose: Where the body is, (3,).
        contact: Where it is pushed, in its frame, (K, 2): one row for each of K pushes.
        normal: Direction of the force, into the body, in its frame, (K, 2).
        way: What the pusher moves while it touches, in the plane, (K, 2).
        radius: Square root of the ratio of angular to linear friction of the body on the table.

    Returns:
        Poses after the pushes, (K, 3).
    """
    num_parts = 5  # the lever changes as the body turns
    poses = np.tile(np.asarray(pose, np.float64), (len(contact), 1))
    lever = contact[:, 0] * normal[:, 1] - contact[:, 1] * normal[:, 0]  # (K,) of the unit force
    for _ in range(num_parts):
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        force = np.stack(
            [cos * normal[:, 0] - sin * normal[:, 1], sin * normal[:, 0] + cos * normal[:, 1]], 1
        )
        depth = np.maximum((way * force).sum(axis=1), 0) / num_parts
        moved = depth / (1 + (lever / radius) ** 2)
        poses[:, :2] += moved[:, None] * force
        poses[:, 2] += moved * lever / radius**2
    return poses


def draw_contacts(
    shape: Shape, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points on the sides of the shape's rectangles.

    Returns:
        Points, (K, 2), and the directions into the rectangle, (K, 2), both in the body's frame.
    """
    rectangle = rng.integers(0, len(shape.centers), count)
    axis = rng.integers(0, 2, count)
    sign = rng.choice([-1.0, 1.0], count)
    share = rng.uniform(-0.95, 0.95, (count, 2))
    share[np.arange(count), axis] = sign
    normals = np.zeros((count, 2))
    normals[np.arange(count), axis] = -sign
    return shape.centers[rectangle] + share * shape.half_sizes[rectangle], normals


def turned(vectors: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return vectors, (K, 2), turned counter-clockwise by angles, (K,)."""
    cos, sin = np.cos(angles), np.sin(angles)
    x, y = vectors[:, 0], vectors[:, 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)


def body_to_plane(vectors: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return directions of a body's frame in the plane, (..., 2)."""
    return to_plane(vectors, np.array([0.0, 0.0, pose[2]]))


def _farthest_around(shape: Shape, pose: np.ndarray, point: np.ndarray, reach: float) -> np.ndarray:
    """Return the place near `point` farthest from the shape, (2,): the way out of a corner."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    places = point + RETREAT * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return places[np.argmax(shape.distance(np.clip(places, -reach, reach), pose))].clip(
        -reach, reach
    )


def _straight_lengths(shape: Shape, pose: np.ndarray, points: np.ndarray, gap: float) -> np.ndarray:
    """Return lengths of the straight ways between points, (N, N); infinity if not `gap` clear."""
    shares = np.linspace(0, 1, NUM_SAMPLES)[:, None]
    samples = points[:, None, None] * (1 - shares) + points[None, :, None] * shares  # (N, N, C, 2)
    nearest = shape.distance(samples, pose).min(axis=2)  # (N, N)
    at_points = shape.distance(points, pose)  # (N,)
    needed = np.minimum(gap, np.minimum(at_points[:, None], at_points[None])) - SLACK
    lengths = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return np.where(nearest >= needed, lengths, np.inf)


def _shortest(points: np.ndarray, lengths: np.ndarray) -> list[np.ndarray] | None:
    """Return the points on the shortest way from point 0 to point 1 (Dijkstra), without point 0."""
    num_points = len(points)
    cost, before = np.full(num_points, np.inf), np.zeros(num_points, np.int64)
    cost[0] = 0
    to_visit = list(range(num_points))
    while to_visit:
        current = min(to_visit, key=lambda i: cost[i])
        to_visit.remove(current)
        through = cost[current] + lengths[current]
        before = np.where(through < cost, current, before)
        cost = np.minimum(cost, through)
    if not np.isfinite(cost[1]):
        return None
    way = [1]
    while before[way[-1]] != 0:
        way.append(int(before[way[-1]]))
    return [points[i] for i in reversed(way)]
