"""Rectangles in the plane: corners, shared area, distance to a point.

A shape is a set of rectangles that share no area, in the frame of a body; a pose (x, y, angle in
radians) puts it in the plane.

Axes: R rectangles of a shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """Rectangles in a body's frame.

    Args:
        centers: Middles of the rectangles, (R, 2).
        half_sizes: Half of their sides, (R, 2), along the body's axes.
    """

    centers: np.ndarray
    half_sizes: np.ndarray

    @property
    def area(self) -> float:
        """Area of the whole shape."""
        return float(4 * self.half_sizes.prod(axis=1).sum())

    def corners(self, pose: np.ndarray) -> np.ndarray:
        """Return the corners of every rectangle, counter-clockwise, (R, 4, 2).

        Args:
            pose: Where the body is, (3,): x, y, angle.
        """
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
        local = self.centers[:, None] + signs * self.half_sizes[:, None]  # (R, 4, 2)
        return local @ rotation(pose[2]).T + np.asarray(pose[:2])

    def distance(self, points: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Return how far points are outside of the shape, (...,); 0 inside.

        Args:
            points: Points in the plane, (..., 2).
            pose: Where the body is, (3,).
        """
        local = to_body(points, pose)
        outside = np.abs(local[..., None, :] - self.centers) - self.half_sizes  # (..., R, 2)
        return np.linalg.norm(np.maximum(outside, 0), axis=-1).min(axis=-1)


def rotation(angle: float) -> np.ndarray:
    """Return the matrix that turns a vector counter-clockwise, (2, 2)."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def to_body(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return points of the plane in the frame of a body at `pose`, (..., 2)."""
    return (np.asarray(points) - np.asarray(pose[:2])) @ rotation(pose[2])


def to_plane(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return points of the frame of a body at `pose` in the plane, (..., 2)."""
    return np.asarray(points) @ rotation(pose[2]).T + np.asarray(pose[:2])


def overlap_area(first: np.ndarray, second: np.ndarray) -> float:
    """Return the area that two shapes share.

    Args:
        first: Corners of one shape, (R, 4, 2), as from `Shape.corners`.
        second: Corners of the other, (S, 4, 2).
    """
    return sum(convex_overlap(a, b) for a in first.tolist() for b in second.tolist())


def convex_overlap(subject: list[Point], window: list[Point]) -> float:
    """Return the area that two convex polygons share, corners counter-clockwise.

    Sutherland and Hodgman (1974): cut `subject` by each side of `window` in turn.
    """
    for start, end in zip(window, window[1:] + window[:1], strict=True):
        subject = _cut(subject, start, end)
        if not subject:
            return 0.0
    return _polygon_area(subject)


def _cut(polygon: list[Point], start: Point, end: Point) -> list[Point]:
    """Return the part of `polygon` to the left of the line from `start` to `end`."""
    normal_x, normal_y = start[1] - end[1], end[0] - start[0]
    sides = [normal_x * (x - start[0]) + normal_y * (y - start[1]) for x, y in polygon]
    kept: list[Point] = []
    for i, (point, side) in enumerate(zip(polygon, sides, strict=True)):
        before, before_side = polygon[i - 1], sides[i - 1]
        if (side > 0) != (before_side > 0):
            share = before_side / (before_side - side)
            kept.append(
                (
                    before[0] + share * (point[0] - before[0]),
                    before[1] + share * (point[1] - before[1]),
                )
            )
        if side > 0:
            kept.append(point)
    return kept


def _polygon_area(polygon: list[Point]) -> float:
    """Return the area of a polygon with its corners counter-clockwise (shoelace formula)."""
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2
