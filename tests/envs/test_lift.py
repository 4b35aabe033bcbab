"""Physics and rules of Lift."""

from __future__ import annotations

import numpy as np
import pytest

from scd_wm.envs.lift import (
    CUBE,
    HOLD_STEPS,
    LIFT_HEIGHT,
    LOWEST,
    MAX_STEP,
    MAX_TURN,
    OPEN,
    REACH,
    Lift,
)

GRIP, RELEASE = 1.0, -1.0


@pytest.fixture(scope="module")
def env() -> Lift:
    return Lift("state")


def start(env: Lift, z: float = LOWEST) -> None:
    """Put the cube in the middle and the open hand at a height above it."""
    env.reset(seed=0)
    state = env.state
    state[:6] = state[25:31] = [0, 0, z, 0, OPEN, OPEN]
    state[6:13] = [0, 0, CUBE, 1, 0, 0, 0]
    env.reset(options={"state": state})


def move(env: Lift, num_steps: int, up: float = 0.0, grip: float = 0.0) -> list[dict]:
    """Take equal steps and return what the last of each returned."""
    return [env.step(np.array([0, 0, up, 0, grip]))[-1] for _ in range(num_steps)]


def lifted(env: Lift) -> Lift:
    """Return the environment with the cube held in the air."""
    start(env)
    move(env, 5, grip=GRIP)
    move(env, 10, up=1, grip=GRIP)
    return env


def test_a_gripped_cube_is_lifted(env: Lift) -> None:
    lifted(env)
    assert env.height > 0.1
    np.testing.assert_allclose(env.cube_pos[:2], env.eef_pos[:2], atol=0.003)
    assert env.gripper_qpos == pytest.approx([CUBE, CUBE], abs=0.002)


def test_an_open_hand_lifts_nothing(env: Lift) -> None:
    start(env)
    infos = move(env, 15, up=1)
    assert env.eef_pos[2] > 0.15
    assert all(info["height"] < 0.001 and not info["success"] for info in infos)


def test_the_cube_falls_when_the_hand_opens(env: Lift) -> None:
    lifted(env)
    move(env, 8, grip=RELEASE)
    assert env.height < 0.002
    assert env.eef_pos[2] > 0.1


def test_zeros_go_on_holding_the_cube(env: Lift) -> None:
    lifted(env)
    before = env.cube_pos
    move(env, 50)
    np.testing.assert_allclose(env.cube_pos, before, atol=0.004)


def test_a_cube_without_friction_slips(env: Lift) -> None:
    """Nothing but friction holds it."""
    slippery = Lift("state")
    slippery._model.geom_friction[:] = 1e-4
    lifted(slippery)
    assert slippery.height < 0.01


def test_all_rests_without_actions(env: Lift) -> None:
    env.reset(seed=3)
    before = env.state
    move(env, 20)
    np.testing.assert_allclose(env.state, before, atol=1e-3)


@pytest.mark.parametrize("axis", range(4))
def test_a_step_moves_the_hand_by_what_it_says(env: Lift, axis: int) -> None:
    start(env, z=0.1)
    action = np.zeros(5)
    action[axis] = 0.5
    before = np.array([*env.eef_pos, env.eef_yaw])
    for _ in range(4):
        env.step(action)
    move(env, 3)  # until it has caught up
    moved = np.array([*env.eef_pos, env.eef_yaw]) - before
    expected = np.zeros(4)
    expected[axis] = 4 * 0.5 * (MAX_TURN if axis == 3 else MAX_STEP)
    np.testing.assert_allclose(moved, expected, atol=5e-4)


def test_random_actions_keep_the_hand_in_its_reach_and_all_in_the_space(env: Lift) -> None:
    for seed in range(4):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        for step in range(60):
            action = env.action_space.sample()
            action[:3] = (env.cube_pos - env.eef_pos) / MAX_STEP if step % 20 > 8 else action[:3]
            observation, reward, *_ = env.step(action)
            assert env.observation_space.contains(observation)
            assert 0 <= reward <= 1
            assert np.abs(env.eef_pos[:2]).max() < REACH + 0.005
            assert env.cube_pos[2] > 0.9 * CUBE


def test_a_blocked_hand_comes_free_at_once(env: Lift) -> None:
    """Its target stays near where it is, however long it pushed."""
    start(env, z=0.12)
    move(env, 20, up=-1, grip=GRIP)  # fingers closed, onto the cube
    low = env.eef_pos[2]
    assert low > 0.04
    move(env, 4, up=1)
    assert env.eef_pos[2] > low + 0.015


def test_a_restored_state_continues_with_the_same_bits(env: Lift) -> None:
    lifted(env)
    middle = env.state
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 5))
    first = [env.step(action) for action in actions]
    other = Lift("state")
    other.reset(seed=0, options={"state": middle})
    np.testing.assert_equal([other.step(action) for action in actions], first)


def test_success_is_a_cube_held_high_for_some_steps(env: Lift) -> None:
    lifted(env)
    start(env)
    infos = [*move(env, 5, grip=GRIP), *move(env, 20, up=1, grip=GRIP)]
    high = [info["height"] >= LIFT_HEIGHT for info in infos]
    success = [info["success"] for info in infos]
    assert success.index(True) == high.index(True) + HOLD_STEPS - 1
    assert all(high[high.index(True) :])


def test_success_terminates_and_its_reward_is_nearly_one(env: Lift) -> None:
    lifted(env)
    terminated = False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(np.array([0, 0, 1, 0, GRIP]))
    assert info["success"]
    assert not truncated
    assert reward == pytest.approx(1, abs=0.03)


def test_the_reward_rises_towards_the_cube_and_with_it(env: Lift) -> None:
    def reward(z: float) -> float:
        start(env, z=z)
        return env.step(np.zeros(5))[1]

    low, near = reward(0.15), reward(LOWEST)
    lifted(env)
    assert 0 < low < near < 0.25 < env.step(np.zeros(5))[1]


def test_starts_are_free_and_differ(env: Lift) -> None:
    states = []
    for seed in range(100):
        _, info = env.reset(seed=seed)
        assert not info["contact"]
        assert not info["success"]
        states.append(env.state)
    low, high = np.min(states, axis=0), np.max(states, axis=0)
    assert ((high - low)[[0, 1, 6, 7]] > 0.17).all()


def test_contact_is_told(env: Lift) -> None:
    start(env)
    infos = move(env, 5, grip=GRIP)
    assert not infos[0]["contact"]
    assert infos[-1]["contact"]


@pytest.mark.parametrize("action", [np.zeros(4), np.full(5, np.nan), np.full(5, np.inf)])
def test_bad_actions_are_refused(env: Lift, action: np.ndarray) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match="five finite numbers"):
        env.step(action)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([0] * 5, "a state is 32 finite numbers"),
        ([np.nan] * 32, "a state is 32 finite numbers"),
        ([0] * 32, "quaternion must have length 1"),
    ],
)
def test_bad_states_are_refused(env: Lift, state: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        env.reset(options={"state": state})
