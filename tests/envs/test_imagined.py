"""A world model as a Gymnasium environment: the contract, and that it is `rollout` and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import scd_wm
from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.envs.imagined_env import ImaginedEnv
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec
from tests.familiar import calibrated

SPECS = {"images": testing.image_spec(), "state": testing.state_spec()}
NUM_STARTS = 5


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> Spec:
    return SPECS[request.param]


def world(spec: Spec) -> tuple[WorldModel, Clip]:
    """Return a model that does something and histories of two frames."""
    return testing.model(spec), testing.clip(spec, NUM_STARTS, 2)


def same(a: Any, b: Any) -> None:
    """Check that observations, rewards, flags or nested ones of these are equal, bit for bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, tuple | list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def close(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """Check that observations agree but for rounding, which depends on the size of a batch."""
    assert a.keys() == b.keys()
    for key, values in a.items():
        assert values.dtype == b[key].dtype
        tolerance = 1 if values.dtype == np.uint8 else 1e-5
        np.testing.assert_allclose(values.astype(float), b[key].astype(float), atol=tolerance)


def row(observations: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    return {name: values[index] for name, values in observations.items()}


@pytest.mark.filterwarnings("ignore:.*A Box observation space")  # vectors have no limits
def test_it_passes_gymnasium_s_checks(spec: Spec) -> None:
    model, starts = world(spec)
    mode = "rgb_array" if spec.cameras else None
    env = gym.make(
        "scd_wm/Imagined-v0", model=model, starts=starts, render_mode=mode, terminate_at=1.0
    )
    check_env(env.unwrapped, skip_render_check=mode is None)


def test_it_imagines_what_a_rollout_does(spec: Spec) -> None:
    model, starts = world(spec)
    env = ImaginedVectorEnv(model, starts, 3)
    first, info = env.reset(seed=7, options={"start": np.array([4, 0, 2])})
    assert info["start"].tolist() == [4, 0, 2]
    assert all(v in env.single_observation_space for v in (row(first, i) for i in range(3)))
    for name, values in {**starts.images, **starts.vectors}.items():
        np.testing.assert_array_equal(first[name], values[[4, 0, 2], -1].numpy())
    actions = env.action_space.sample()
    noises = torch.tensor(
        [int(gym.utils.seeding.np_random(7 + i)[0].integers(2**31)) for i in range(3)]
    )
    history = starts.map(lambda x: x[torch.tensor([4, 0, 2])])
    wanted = scd_wm.rollout(model, history, torch.from_numpy(actions)[:, None], seeds=noises)
    seen, rewards, terminated, _, info = env.step(actions)
    for name, values in {**wanted.images, **wanted.vectors}.items():
        np.testing.assert_array_equal(seen[name], values[:, 0].numpy())
    if "reward" in spec.outcomes:
        np.testing.assert_allclose(rewards, wanted.outcome["reward"][:, 0].numpy())
        np.testing.assert_array_equal(terminated, (wanted.outcome["terminated"] > 0.5)[:, 0])
        probability = wanted.outcome["success"][:, 0].numpy()
        np.testing.assert_allclose(info["success_probability"], probability)
        assert info["success"].tolist() == (probability > 0.5).tolist()
    else:
        assert rewards.tolist() == [0, 0, 0]
        assert info == {}


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_it_resets_itself_as_gymnasium_s_own_vector_environment_does(spec: Spec, mode: str) -> None:
    model, starts = world(spec)
    ours = ImaginedVectorEnv(model, starts, 2, max_steps=3, autoreset_mode=mode)
    singles = [lambda: ImaginedEnv(model, starts, max_steps=3)] * 2
    theirs = SyncVectorEnv(singles, autoreset_mode=AutoresetMode(mode))
    ours.action_space.seed(0)
    close(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    for _ in range(9):
        actions = ours.action_space.sample()
        a, b = ours.step(actions), theirs.step(actions)
        close(a[0], b[0])
        np.testing.assert_allclose(a[1], b[1], atol=1e-5)
        same(a[2:4], b[2:4])
        assert {k for k in a[4] if k.startswith("final")} == {
            k for k in b[4] if k.startswith("final")
        }
        if "final_obs" in a[4]:
            same(a[4]["_final_obs"], b[4]["_final_obs"])
            for index in np.flatnonzero(a[4]["_final_obs"]):
                close(a[4]["final_obs"][index], b[4]["final_obs"][index])


def test_one_row_is_reset_without_touching_the_others(spec: Spec) -> None:
    model, starts = world(spec)
    options: dict[str, Any] = {"autoreset_mode": "Disabled", "terminate_at": 1.0}
    whole, partly = (ImaginedVectorEnv(model, starts, 3, **options) for _ in range(2))
    for env in (whole, partly):
        env.reset(seed=1)
        env.action_space.seed(2)
        env.step(env.action_space.sample())
    partly.reset(seed=[None, 9, None], options={"reset_mask": np.array([False, True, False])})
    single = ImaginedVectorEnv(model, starts, 1, **options)
    single.reset(seed=9)
    for _ in range(4):
        actions = whole.action_space.sample()
        a, b, c = whole.step(actions)[0], partly.step(actions)[0], single.step(actions[1:2])[0]
        for index in (0, 2):
            close(row(a, index), row(b, index))
        close(row(b, 1), row(c, 0))


def test_a_snapshot_is_a_place_to_come_back_to_any_number_of_times(spec: Spec) -> None:
    env = ImaginedVectorEnv(*world(spec), 2, max_steps=4)
    env.reset(seed=3)
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    saved, actions = env.snapshot(), [env.action_space.sample() for _ in range(6)]
    first = [env.step(a) for a in actions]  # goes over an end and a new beginning
    for _ in range(2):
        env.restore(saved)
        same([env.step(a) for a in actions], first)


def test_branches_go_on_from_here_and_differ_by_noise_unless_they_share_it(spec: Spec) -> None:
    env = ImaginedVectorEnv(*world(spec), 2, num_steps=2, terminate_at=1.0)
    env.reset(seed=3)
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    shared, own = env.branch(3, common_noise=True), env.branch(3)
    actions = env.action_space.sample()
    each = np.repeat(actions, 3, axis=0)
    wanted, a, b = env.step(actions)[0], shared.step(each)[0], own.step(each)[0]
    for index in range(6):
        close(row(a, index), row(wanted, index // 3))
    name = next(iter(b))
    assert not np.array_equal(b[name][0], b[name][1])
    assert own.num_envs == 6


def test_the_same_seed_gives_the_same_bits_and_another_does_not(spec: Spec) -> None:
    def play(seed: int) -> list[Any]:
        env = ImaginedEnv(*world(spec), num_steps=2, terminate_at=1.0)
        env.action_space.seed(0)
        return [env.reset(seed=seed)[0], *(env.step(env.action_space.sample()) for _ in range(3))]

    same(play(4), play(4))
    with pytest.raises(AssertionError):
        same(play(4), play(5))


def test_rendering_shows_all_cameras_side_by_side() -> None:
    spec = testing.image_spec()
    envs = ImaginedVectorEnv(*world(spec), 2, render_mode="rgb_array")
    observations, _ = envs.reset(seed=0)
    pictures = envs.render()
    assert pictures is not None
    np.testing.assert_array_equal(pictures[1], observations["top"][1])
    inner = ImaginedEnv(*world(spec), render_mode="rgb_array", terminate_at=1.0)
    env: gym.Env = gym.wrappers.TimeLimit(inner, 2)
    env.reset(seed=0)
    assert not env.step(env.action_space.sample())[3]
    assert env.step(env.action_space.sample())[3]
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (16, 24, 3)


def test_gym_makes_them_from_paths(small_run: Path, robot_file: Path) -> None:
    env = gym.make("scd_wm/Imagined-v0", model=small_run, starts=robot_file, max_steps=3)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    assert observation["top"].shape == (16, 16, 3)
    envs = gym.make_vec("scd_wm/Imagined-v0", num_envs=4, model=small_run)
    assert isinstance(envs.unwrapped, ImaginedVectorEnv)
    envs.reset(seed=0)
    assert envs.step(envs.action_space.sample())[1].shape == (4,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 0}, "num_envs must be 1 or more, got 0"),
        ({"max_steps": 0}, "max_steps must be 1 or more, got 0"),
        ({"render_mode": "human"}, "render_mode must be 'rgb_array' or None, got 'human'"),
        ({"render_mode": "rgb_array"}, "a world without cameras has nothing to render"),
        (
            {"action_space": gym.spaces.Box(-1, 1, (3,))},
            r"shape \(3,\), the model's actions have 2",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImaginedVectorEnv(*world(testing.state_spec()), **changes)


def test_actions_of_another_range_ask_for_their_space() -> None:
    far = testing.state_spec()
    action = scd_wm.spec.VectorSpec(dim=1, mean=(90.0,), std=(40.0,), delta_std=(1.0,))
    spec = Spec(vectors=far.vectors, action=action)
    with pytest.raises(ValueError, match=r"means \(90\).*give action_space"):
        ImaginedVectorEnv(*world(spec))
    space = gym.spaces.Box(0, 180, (1,))
    assert ImaginedVectorEnv(*world(spec), action_space=space).single_action_space == space


def test_wrong_calls_say_what_is_wrong() -> None:
    env = ImaginedVectorEnv(*world(testing.state_spec()), 2, max_steps=1, autoreset_mode="Disabled")
    with pytest.raises(gym.error.ResetNeeded, match="call reset first"):
        env.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="start must be numbers from 0 to 4, got 5"):
        env.reset(options={"start": 5})
    with pytest.raises(ValueError, match=r"unknown options \['begin'\]"):
        env.reset(options={"begin": 5})
    with pytest.raises(ValueError, match="never reset"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"finite and of shape \(2, 2\), got \(2, 3\)"):
        env.step(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full((2, 2), np.nan))
    env.step(np.zeros((2, 2)))
    with pytest.raises(gym.error.ResetNeeded, match=r"episodes \[0, 1\] are over"):
        env.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="the snapshot has 2 sub-environments, this has 1"):
        ImaginedVectorEnv(*world(testing.state_spec())).restore(env.snapshot())


def test_info_tells_the_uncertainty_of_those_that_stepped(spec: Spec) -> None:
    model, starts = calibrated(testing.model(spec)), testing.clip(spec, NUM_STARTS, 2)
    env = ImaginedVectorEnv(model, starts, 2, max_steps=2, terminate_at=1.0)
    assert "uncertainty" not in env.reset(seed=3)[1]
    seen: list[np.ndarray] = []
    for _ in range(4):  # the third step starts both anew
        info = env.step(np.full((2, 2), 0.5, np.float32))[4]
        assert {"uncertainty", "_uncertainty"} <= info.keys()
        assert "off_data" not in info
        assert info["_uncertainty"].tolist() == [len(seen) != 2] * 2
        seen.append(info["uncertainty"])
    assert seen[2].tolist() == [0, 0]
    single = ImaginedEnv(model, starts, terminate_at=1.0)
    single.reset(seed=3)
    for t in range(2):
        found = single.step(np.full(2, 0.5, np.float32))[4]["uncertainty"]
        assert isinstance(found, float)
        np.testing.assert_allclose(found, seen[t][0], atol=1e-3)
    env.close()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_an_episode_off_the_data_is_truncated_and_said_to_be(spec: Spec, mode: str) -> None:
    model, starts = calibrated(testing.model(spec)), testing.clip(spec, NUM_STARTS, 2)
    options: dict[str, Any] = {"terminate_at": 1.0, "autoreset_mode": mode}
    free = ImaginedVectorEnv(model, starts, 4, **options)
    free.reset(seed=3)
    actions = np.array([[0.1, 0.1], [60, -60], [-0.1, 0.2], [-60, 60]], np.float32)
    known = free.step(actions)[4]["uncertainty"]
    limit = 0.99
    assert (known[[1, 3]] > limit).all()  # actions of a hundred deviations
    assert (known[[0, 2]] < limit).all()
    env = ImaginedVectorEnv(model, starts, 4, stop_at=limit, **options)
    env.reset(seed=3)
    _, _, terminated, truncated, info = env.step(actions)
    assert truncated.tolist() == info["off_data"].tolist() == [False, True, False, True]
    assert not terminated.any()
    assert info["_off_data"].all()
    if mode == "SameStep":
        last = info["final_info"]
        assert info["_final_info"].tolist() == [False, True, False, True]
        assert last["off_data"][[1, 3]].tolist() == [True, True]
        np.testing.assert_allclose(last["uncertainty"][[1, 3]].astype(float), known[[1, 3]])
    if mode == "NextStep":
        info = env.step(actions)[4]
        assert info["_off_data"].tolist() == [True, False, True, False]
        assert not info["off_data"][[1, 3]].any()
    branch = env.branch(2) if mode == "SameStep" else None
    assert branch is None or branch.stop_at == limit


def test_stopping_off_the_data_needs_a_model_that_knows_it(spec: Spec) -> None:
    model, starts = world(spec)
    with pytest.raises(ValueError, match=r"stop_at needs a model that knows .* scd-wm calibrate"):
        ImaginedVectorEnv(model, starts, stop_at=0.99)
    with pytest.raises(ValueError, match=r"stop_at must be in \[0, 1\], got 2"):
        ImaginedVectorEnv(calibrated(model), starts, stop_at=2)
