"""Areas and distances of planar shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scd_wm.envs.planar_shapes import Shape, overlap_area, to_body, to_plane

T = Shape(np.array([[0.0, 0.3], [0.0, -0.4]]), np.array([[0.8, 0.2], [0.2, 0.5]]))
SQUARE = Shape(np.zeros((1, 2)), np.full((1, 2), 0.5))
RNG = np.random.default_rng(0)
POSES = [(RNG.uniform([-0.5, -0.5, -9], [0.5, 0.5, 9]), RNG.normal(size=3)) for _ in range(20)]


def inside(points: np.ndarray, shape: Shape, pose: np.ndarray) -> np.ndarray:
    """Return which points lie in the shape, by the sides of its rectangles alone."""
    local = to_body(points, pose)[..., None, :]
    return (np.abs(local - shape.centers) < shape.half_sizes).all(-1).any(-1)


@pytest.mark.parametrize(("first", "second"), POSES)
def test_overlap_equals_counted_points(first: np.ndarray, second: np.ndarray) -> None:
    axis = np.linspace(-2, 2, 800, endpoint=False) + 0.0025
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    counted = (inside(grid, T, first) & inside(grid, T, second)).mean() * 16
    assert overlap_area(T.corners(first), T.corners(second)) == pytest.approx(counted, abs=4e-3)


def test_overlap_of_a_turned_square_is_an_octagon() -> None:
    turned = overlap_area(SQUARE.corners(np.zeros(3)), SQUARE.corners(np.array([0, 0, np.pi / 4])))
    assert turned == pytest.approx(2 * math.sqrt(2) - 2)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (5.0, 0.0)])
def test_overlap_of_shifted_squares(shift: float, expected: float) -> None:
    moved = SQUARE.corners(np.array([shift, 0, 0]))
    assert overlap_area(SQUARE.corners(np.zeros(3)), moved) == pytest.approx(expected)


@pytest.mark.parametrize(("pose", "_"), POSES)
def test_a_shape_covers_itself(pose: np.ndarray, _: np.ndarray) -> None:
    assert overlap_area(T.corners(pose), T.corners(pose)) == pytest.approx(T.area)


@pytest.mark.parametrize(("pose", "point"), POSES)
def test_distance_equals_that_of_the_nearest_point(pose: np.ndarray, point: np.ndarray) -> None:
    share = np.linspace(-1, 1, 401)
    local = np.stack(np.meshgrid(share, share), axis=-1)[:, :, None] * T.half_sizes + T.centers
    nearest = np.linalg.norm(to_plane(local, pose) - point[:2], axis=-1).min()
    assert float(T.distance(point[:2], pose)) == pytest.approx(nearest, abs=4e-3)


@pytest.mark.parametrize(("pose", "point"), POSES)
def test_body_and_plane_are_inverse(pose: np.ndarray, point: np.ndarray) -> None:
    np.testing.assert_allclose(to_plane(to_body(point[:2], pose), pose), point[:2], atol=1e-12)
