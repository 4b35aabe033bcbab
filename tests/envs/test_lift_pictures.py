"""What the cameras of Lift show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from scd_wm.envs.lift import Lift
from scd_wm.evaluation.locate import TrackedColour, locate


@pytest.fixture(scope="module")
def image_env() -> Iterator[Lift]:
    env = Lift("image")
    yield env
    env.close()


def test_the_images_and_proprio_do_not_hold_the_cubes_position(image_env: Lift) -> None:
    assert set(image_env.reset(seed=0)[0]) == {
        "front_image",
        "wrist_image",
        "eef_pos",
        "eef_vel",
        "eef_yaw",
        "gripper_qpos",
    }
    vectors = []
    image_env.reset(seed=0)
    for cube in ((0.05, 0.02), (-0.08, 0.07)):
        state = image_env.state
        state[6:8] = cube
        observation, _ = image_env.reset(options={"state": state})
        vectors.append({k: v for k, v in observation.items() if not k.endswith("_image")})
    np.testing.assert_equal(vectors[0], vectors[1])


def project(env: Lift, camera: str, point: np.ndarray) -> np.ndarray:
    """Return where a point is in an image, (2,) column and row."""
    place, axes = env._data.camera(camera).xpos, env._data.camera(camera).xmat.reshape(3, 3)
    x, y, z = (point - place) @ axes
    scale = env.image_size / 2 / np.tan(np.deg2rad(env._model.camera(camera).fovy[0]) / 2)
    return env.image_size / 2 - 0.5 + scale * np.array([x / -z, y / z])


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_the_cube_is_found_by_colour_where_it_is(image_env: Lift, camera: str) -> None:
    colour = Lift.metadata["tracked_colours"]["cube"]
    num_seen = 0
    for seed in range(25):
        observation, _ = image_env.reset(seed=seed)
        place = project(image_env, camera, image_env.cube_pos)
        image = torch.from_numpy(observation[f"{camera}_image"])[None, None]
        found = locate(image, TrackedColour(tuple(colour["rgb"]), colour["tolerance"]))
        if place.min() > 8 and place.max() < 55 and found.mass > 20:  # all of it, and not hidden
            num_seen += 1
            assert (
                np.linalg.norm(found.position[0, 0].numpy() - place) < 4
            )  # a finger may hide a part
    assert num_seen >= 8


def test_the_gripper_is_seen_by_both_cameras(image_env: Lift) -> None:
    colour = Lift.metadata["tracked_colours"]["gripper"]
    for seed in range(10):
        observation, _ = image_env.reset(seed=seed)
        for camera in ("front", "wrist"):
            image = torch.from_numpy(observation[f"{camera}_image"])[None, None]
            found = locate(image, TrackedColour(tuple(colour["rgb"]), colour["tolerance"]))
            place = project(image_env, camera, image_env.eef_pos)
            assert found.mass > 3
            assert np.linalg.norm(found.position[0, 0].numpy() - place) < 5


def test_the_wrist_camera_moves_with_the_hand_and_the_front_one_does_not(image_env: Lift) -> None:
    corners = []
    image_env.reset(seed=0)
    for z in (0.1, 0.15):
        state = image_env.state
        state[[2, 27]] = z  # where the hand is, and its target
        observation, _ = image_env.reset(options={"state": state})
        corners.append({k: observation[f"{k}_image"][-8:, :8] for k in ("front", "wrist")})
    np.testing.assert_array_equal(corners[0]["front"], corners[1]["front"])
    assert (corners[0]["wrist"] != corners[1]["wrist"]).any()


@pytest.mark.parametrize("size", [32, 96])
def test_images_of_any_size_show_the_same(size: int) -> None:
    env = Lift(image_size=size, render_mode="rgb_array")
    image = env.reset(seed=1)[0]["front_image"]
    assert image.shape == (size, size, 3)
    np.testing.assert_array_equal(env.render(), image)
    usual = Lift()
    expected = usual.reset(seed=1)[0]["front_image"]
    assert image.mean() == pytest.approx(expected.mean(), rel=0.02)
    env.close()
    usual.close()
