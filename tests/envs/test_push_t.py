"""Physics, pictures and rules of PushT."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from scd_wm.envs.push_t import MAX_STEP, REACH, SUCCESS_OVERLAP, WORKSPACE, PushT, pixel_of


@pytest.fixture(scope="module")
def env() -> PushT:
    return PushT("state")


@pytest.fixture(scope="module")
def image_env() -> Iterator[PushT]:
    env = PushT("image")
    yield env
    env.close()


def chase(env: PushT, rng: np.random.Generator) -> np.ndarray:
    """Return an action that runs the pusher into the T somewhere."""
    return (env.block_pose[:2] + rng.normal(0, 0.05, 2)) / REACH


def gap(env: PushT) -> float:
    """Return the distance between the rims of pusher and T, metres."""
    return float(env.shape.distance(env.pusher_pos, env.block_pose)) - env.pusher_radius


def test_the_pusher_reaches_a_near_target_in_one_step(env: PushT) -> None:
    env.reset(options={"state": [-0.2, 0.1, 0.1, -0.1, 0.3]})
    env.step(np.array([-0.18, 0.12]) / REACH)
    np.testing.assert_allclose(env.pusher_pos, [-0.18, 0.12], atol=1e-4)


def test_the_pusher_goes_straight_and_not_too_far(env: PushT) -> None:
    env.reset(options={"state": [-0.2, 0.1, 0.1, -0.1, 0.3]})
    env.step(np.array([-0.2 + 0.3, 0.1 + 0.4 / 4]) / REACH)
    way = np.array([0.3, 0.1]) / math.hypot(0.3, 0.1) * MAX_STEP
    np.testing.assert_allclose(env.pusher_pos, np.array([-0.2, 0.1]) + way, atol=1e-4)


def test_the_t_rests_unless_touched(env: PushT) -> None:
    rng = np.random.default_rng(0)
    num_untouched = 0
    for seed in range(10):
        env.reset(seed=seed)
        for _ in range(30):
            before = env.block_pose
            *_, info = env.step(chase(env, rng) if rng.random() < 0.5 else rng.uniform(-1, 1, 2))
            if not info["contact"] and np.abs(env.shape.corners(before)).max() < WORKSPACE:
                num_untouched += 1
                np.testing.assert_allclose(env.block_pose, before, atol=1e-5)
    assert num_untouched > 50


def test_the_t_stops_when_the_pusher_stops(env: PushT) -> None:
    env.reset(options={"state": [-0.14, 0.03, 0, 0, 0.0]})
    start = env.block_pose
    for _ in range(3):
        *_, info = env.step(np.array([1.0, 0.03 / REACH]))
    pushed = env.block_pose
    assert info["contact"]
    assert np.abs(pushed - start).max() > 0.02
    env.step(env.pusher_pos / REACH)
    np.testing.assert_allclose(env.block_pose, pushed, atol=2e-4)


@pytest.mark.parametrize("seed", range(8))
def test_where_the_t_goes_does_not_depend_on_speed(env: PushT, seed: int) -> None:
    angle = env.np_random.uniform(0, 6) if env.reset(seed=seed) else 0.0
    direction = np.array([math.cos(angle), math.sin(angle)])
    start = -0.12 * direction
    poses = []
    for num_steps in (5, 10, 15):
        env.reset(options={"state": [*start, 0.02 * direction[1], -0.02 * direction[0], seed]})
        for i in range(num_steps):
            env.step((start + 0.15 * direction * (i + 1) / num_steps) / REACH)
        poses.append(env.block_pose)
    assert np.abs(poses[0] - [0.02 * direction[1], -0.02 * direction[0], seed]).max() > 0.02
    for pose in poses[1:]:
        np.testing.assert_allclose(pose[:2], poses[0][:2], atol=0.005)
        assert pose[2] == pytest.approx(poses[0][2], abs=0.06)


def test_all_stays_inside_and_apart(env: PushT) -> None:
    rng = np.random.default_rng(1)
    for seed in range(6):
        env.reset(seed=seed)
        for step in range(60):
            if step % 10 == 0:
                away = rng.uniform(-0.2, 0.2, 2)
            env.step((env.block_pose[:2] + (away if step % 10 > 4 else 0)) / REACH)
            assert np.abs(env.pusher_pos).max() + env.pusher_radius < WORKSPACE + 0.002
            assert np.abs(env.shape.corners(env.block_pose)).max() < WORKSPACE + 0.004
            assert gap(env) > -0.004


def test_a_restored_state_continues_with_the_same_bits(env: PushT) -> None:
    rng = np.random.default_rng(2)
    env.reset(seed=5)
    for _ in range(8):
        env.step(chase(env, rng))
    middle = env.state
    actions = [chase(env, rng) for _ in range(10)]
    first = [env.step(action) for action in actions]
    other = PushT("state")
    other.reset(seed=0, options={"state": middle})
    np.testing.assert_equal([other.step(action) for action in actions], first)
    assert any(info["contact"] for *_, info in first)


def test_states_equal_those_of_other_mujoco_versions(env: PushT) -> None:
    """The reference is MuJoCo 3.3.0's, with contact in 10 of the 18 steps; 4.0.0 gives it too."""
    reference = [
        0.03010422680662077,
        0.06383697671041816,
        0.1323279918001048,
        -0.04316818251320556,
        -0.8619818875255418,
    ]
    env.reset(options={"state": [-0.14, 0.03, 0.0, 0.0, 0.2]})
    for x, y in [(0, 0.1), (0.4, 0.1), (0.4, 0.2), (0.4, 0.9), (0.2, 0.4), (-0.5, -0.5)] * 3:
        env.step(np.array([x, y]))
    np.testing.assert_allclose(env.state, reference, atol=1e-6)


def test_the_start_is_free_inside_and_no_success(env: PushT) -> None:
    poses = []
    for seed in range(200):
        _, info = env.reset(seed=seed)
        assert not info["success"]
        assert not info["contact"]
        assert gap(env) > 0.004
        assert np.abs(env.shape.corners(env.block_pose)).max() < WORKSPACE
        poses.append(env.block_pose)
    low, high = np.min(poses, axis=0), np.max(poses, axis=0)
    assert (high - low > [0.28, 0.28, 6.0]).all()


class Drawn(np.random.Generator):
    """Gives the values of a list, one for each call."""

    def __init__(self, values: list[np.ndarray]) -> None:
        super().__init__(np.random.PCG64(0))
        self._values = iter(values)

    def uniform(self, *_: Any, **__: Any) -> Any:
        return next(self._values)


def test_a_start_on_the_goal_touched_or_outside_is_drawn_again() -> None:
    env = PushT("state")
    far, free = np.array([-0.2, -0.2]), np.array([0.1, 0.1, 1.0])
    draws = [far, env.goal_pose, free[:2], free, far, np.array([0.2, 0.2, 0.0]), far, free]
    env.np_random = Drawn(draws)
    env.reset()
    np.testing.assert_array_equal(env.state, [*far, *free])


@pytest.mark.parametrize(("shift", "success"), [(0.0, True), (0.002, True), (0.01, False)])
def test_success_ends_the_episode(env: PushT, shift: float, success: bool) -> None:
    block = env.goal_pose + np.array([shift, 0, 0])
    env.reset(options={"state": [-0.2, -0.2, *block]})
    _, reward, terminated, truncated, info = env.step(np.array([-0.2, -0.2]) / REACH)
    assert info["success"] == terminated == success
    assert not truncated
    assert reward == pytest.approx(min(info["overlap"] / SUCCESS_OVERLAP, 1))
    assert (reward == 1) == success


def test_overlap_of_a_shift_along_the_bar_has_a_closed_form(env: PushT) -> None:
    angle, shift = env.goal_pose[2], 0.03
    block = env.goal_pose + shift * np.array([math.cos(angle), math.sin(angle), 0])
    env.reset(options={"state": [-0.2, -0.2, *block]})
    half_sizes = env.shape.half_sizes
    lost = sum(2 * height * shift for _, height in half_sizes)
    assert env.overlap() == pytest.approx(1 - lost / env.shape.area)


def test_the_origin_of_the_t_is_its_centroid(env: PushT) -> None:
    areas = env.shape.half_sizes.prod(axis=1)
    np.testing.assert_allclose(areas @ env.shape.centers / areas.sum(), 0, atol=1e-6)


def test_objects_are_found_by_colour_where_they_are(image_env: PushT) -> None:
    rng = np.random.default_rng(4)
    for seed in range(40):
        observation, _ = image_env.reset(seed=seed)
        for _ in range(12 * (seed % 2)):
            observation, *_ = image_env.step(chase(image_env, rng))
        truth = {"pusher": image_env.pusher_pos, "block": image_env.block_pose[:2]}
        for name, colour in image_env.metadata["tracked_colours"].items():
            distance = np.linalg.norm(observation["top_image"] - np.array(colour["rgb"]), axis=-1)
            rows, columns = np.nonzero(distance < colour["tolerance"])
            found = np.array([columns.mean(), rows.mean()])
            assert np.linalg.norm(found - pixel_of(truth[name], 64)) < 0.7


def test_the_picture_has_four_flat_colours_and_their_blends(image_env: PushT) -> None:
    image = image_env.reset(seed=0)[0]["top_image"]
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    flat = colours[counts > 10]
    expected = [(36, 69, 219), (184, 229, 184), (219, 41, 41), (245, 245, 245)]
    assert {tuple(colour) for colour in flat.tolist()} >= set(expected)
    assert counts[counts > 10].sum() > 0.95 * 64 * 64


@pytest.mark.parametrize("size", [32, 50, 96])
def test_images_of_any_size_show_the_same(image_env: PushT, size: int) -> None:
    env = PushT(image_size=size, render_mode="rgb_array")
    image = env.reset(seed=1)[0]["top_image"]
    assert image.shape == (size, size, 3)
    np.testing.assert_array_equal(env.render(), image)
    red = np.linalg.norm(image - np.array([219, 41, 41]), axis=-1) < 140
    expected = env.shape.area / (2 * WORKSPACE) ** 2
    assert red.mean() == pytest.approx(expected, rel=0.15)
    env.close()


def test_close_frees_the_renderer_and_the_next_image_makes_one() -> None:
    env = PushT()
    before = env.reset(seed=0)[0]["top_image"]
    env.close()
    env.close()
    np.testing.assert_array_equal(env.reset(seed=0)[0]["top_image"], before)
    env.close()


def test_targets_outside_of_the_action_space_are_clipped(env: PushT) -> None:
    env.reset(seed=0)
    start = env.state
    env.step(np.array([5.0, -7.0]))
    clipped = env.state
    env.reset(options={"state": start})
    env.step(np.array([1.0, -1.0]))
    np.testing.assert_array_equal(env.state, clipped)


@pytest.mark.parametrize("action", [np.zeros(3), np.array([np.nan, 0]), np.array([np.inf, 0])])
def test_bad_actions_are_refused(env: PushT, action: np.ndarray) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        env.step(action)


@pytest.mark.parametrize("state", [[0] * 4, [np.nan] * 5])
def test_bad_states_are_refused(env: PushT, state: list[float]) -> None:
    with pytest.raises(ValueError, match="five finite numbers"):
        env.reset(options={"state": state})


def test_states_outside_the_walls_are_refused(env: PushT) -> None:
    with pytest.raises(ValueError, match="within"):
        env.reset(options={"state": [0.3, 0, 0, 0, 0]})


def test_a_disturbance_moves_the_target_as_far_as_it_says_and_a_seed_says_all() -> None:
    env, start = PushT("state", disturbance=0.004), {"state": [-0.1, 0.1, 0.1, -0.1, 0.3]}

    def ends(seed: int) -> np.ndarray:
        """Return where the pusher is after each command to stay where it began."""
        env.reset(seed=seed, options=start)
        stay, places = env.pusher_pos / REACH, []
        for _ in range(200):
            env.step(stay)
            places.append(env.pusher_pos)
        return np.stack(places)

    found = ends(0)
    np.testing.assert_allclose(found.std(axis=0), 0.004, rtol=0.15)
    np.testing.assert_allclose(found.mean(axis=0), [-0.1, 0.1], atol=0.001)
    np.testing.assert_array_equal(found, ends(0))
    assert (found != ends(1)).all()


def test_disturbed_targets_stay_within_reach() -> None:
    wild = PushT("state", disturbance=0.1)
    wild.reset(seed=0)
    for _ in range(50):
        wild.step(np.array([1.0, 1.0]))
        assert np.abs(wild.pusher_pos).max() <= REACH + 1e-3


@pytest.mark.parametrize("disturbance", [-0.01, 1.0, math.nan])
def test_impossible_disturbances_are_refused(disturbance: float) -> None:
    with pytest.raises(ValueError, match=r"disturbance must be from 0 to 0\.225 m"):
        PushT("state", disturbance=disturbance)
