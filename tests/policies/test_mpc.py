"""Goals, the costs of imagined plans, and control with a model that is the world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import scd_wm
from scd_wm import imagination, testing
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.imagination import Frames
from scd_wm.policies.goals import ImageGoal, OutcomeGoal, SumOfGoals, VectorGoal
from scd_wm.policies.mpc import MPC, ImaginedCosts, MPCConfig
from scd_wm.policies.planner import ActionLimits
from scd_wm.policies.planners import make_planner

IMAGES, STATE = testing.image_spec(), testing.state_spec()
LIMITS = ActionLimits(-torch.ones(2), torch.ones(2))


def cem(**changes: Any) -> Any:
    return make_planner("cem", **{"horizon": 3, "candidates": 40, "iterations": 3, **changes})


def frames() -> Frames:
    image = torch.zeros(2, 16, 24, 3, dtype=torch.uint8)
    image[1, 0, 0] = 255
    vectors = {"proprio": torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 9.0]])}
    outcome = {"reward": torch.tensor([1.0, 2.0]), "success": torch.tensor([0.25, 1.0])}
    return Frames({"top": image}, vectors, outcome)


def test_goals_are_distances_in_the_units_of_the_data() -> None:
    black = torch.zeros(16, 24, 3, dtype=torch.uint8)
    corner = torch.zeros(16, 24, dtype=torch.bool)
    corner[0, :2] = True
    for goal, wanted in (
        (ImageGoal("top", black), [0, 1 / (16 * 24)]),
        (ImageGoal("top", black, corner), [0, 0.5]),
        (VectorGoal("proprio", torch.zeros(2), (0, 1)), [0, 5]),
        (OutcomeGoal("reward"), [-1, -2]),
        (OutcomeGoal("success"), [0.75, 0]),
        (
            SumOfGoals([OutcomeGoal("reward"), lambda f: f.vectors["proprio"][:, 2]], [2, 1]),
            [-2, 5],
        ),
    ):
        torch.testing.assert_close(goal(frames()), torch.tensor(wanted, dtype=torch.float32))


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (ImageGoal("side", torch.zeros(1)), "no camera 'side'; the model has .'top'"),
        (ImageGoal("top", torch.zeros(8, 8, 3)), r"must be \(16, 24, 3\) pixels, got \(8, 8, 3\)"),
        (ImageGoal("top", torch.zeros(16, 24, 3), torch.zeros(16, 24, dtype=torch.bool)), "cover"),
        (VectorGoal("arm", torch.zeros(3)), "no vector 'arm'; the model has .'proprio'"),
        (VectorGoal("proprio", torch.zeros(2)), r"values 0 to 2 .* got \(2,\) numbers"),
        (SumOfGoals([OutcomeGoal("fame")], [1.0]), "does not predict 'fame'"),
    ],
)
def test_goals_that_the_model_cannot_tell_are_refused(goal: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MPC(testing.model(IMAGES), goal, cem(), LIMITS)


@pytest.mark.parametrize("architecture", ["scd", "entangled"])
def test_costs_are_those_of_rollouts(architecture: str) -> None:
    model = testing.entangled(STATE) if architecture == "entangled" else testing.model(STATE)
    history = testing.clip(STATE, 2, 3)
    state = imagination.begin(model.eval(), history, torch.tensor([5, 6]))
    plans = torch.rand(2, 4, 3, 2) * 2 - 1
    goal, config = (
        VectorGoal("a", torch.ones(2)),
        MPCConfig(action_repeat=2, discount=0.5, final_weight=3.0),
    )
    costs = ImaginedCosts(model, state, goal, config)(plans)
    for index in range(4):
        actions = plans[:, index].repeat_interleave(2, dim=1)
        seen = scd_wm.rollout(model, history, actions, seeds=torch.tensor([5, 6]))
        each = (seen.vectors["a"] - 1).norm(dim=-1)  # (B, 6)
        weights = torch.tensor([1, 0.5, 0.25, 0.125, 0.0625, 3 * 0.03125])
        torch.testing.assert_close(costs[:, index], (each * weights).sum(1))


def test_what_is_observed_is_what_the_model_goes_on_from() -> None:
    model, clip = testing.model(IMAGES).eval(), testing.clip(IMAGES, 2, 4)
    clip = replace(clip, outcome={k: torch.zeros_like(v) for k, v in clip.outcome.items()})
    whole = imagination.begin(model, clip)
    state = imagination.begin(model, clip.frames(0, 1))
    for t in range(1, 4):
        entries = {**clip.images, **clip.vectors, "unknown": torch.zeros(2, 4, 1)}
        seen = imagination.observed(IMAGES, {k: v[:, t] for k, v in entries.items()})
        imagination.observe(model, state, clip.actions[:, t - 1], seen)
    action = torch.zeros(2, 2)
    a, b = (imagination.step(model, s, action) for s in (whole, state))
    for name in a.observation:
        torch.testing.assert_close(a.observation[name], b.observation[name])


def play(env: ImaginedVectorEnv, act: Any, steps: int = 6) -> Tensor:
    """Return the mean distance of vector "a" from the goal over an episode, (B,)."""
    observation, _ = env.reset(seed=0)
    apart = []
    for _ in range(steps):
        observation = env.step(act(observation))[0]
        apart.append(np.linalg.norm(observation["a"] - 1, axis=1))
    return torch.from_numpy(np.mean(apart, axis=0))


@pytest.mark.parametrize("planner", ["cem", "icem", "mppi"])
def test_a_model_that_is_the_world_is_steered_to_the_goal(planner: str) -> None:
    model = testing.model(STATE)
    env = ImaginedVectorEnv(model, testing.clip(STATE, 4, 1), 4)
    search = make_planner(planner, horizon=3, candidates=40, iterations=3)
    mpc = MPC(model, VectorGoal("a", torch.ones(2)), search, LIMITS)
    env.action_space.seed(0)
    planned, idle = play(env, mpc.act), play(env, lambda _: np.zeros((4, 2)))
    drawn = play(env, lambda _: env.action_space.sample())
    assert planned.mean() < min(idle.mean(), drawn.mean())
    assert (planned < idle).float().mean() > 0.7


def test_plans_are_followed_as_long_as_asked_and_the_rest_warms_the_next() -> None:
    model, calls = testing.model(STATE), []
    planner = cem()

    class Spy:
        horizon = planner.horizon

        def plan(self, *args: Any) -> Any:
            calls.append(args[-1])
            return planner.plan(*args)

    config = MPCConfig(action_repeat=2, execute=2)
    mpc = MPC(model, VectorGoal("a", torch.ones(2)), Spy(), LIMITS, config)
    observation = {k: v[:, 0] for k, v in testing.clip(STATE, 2, 1).vectors.items()}
    actions = [mpc.act(observation) for _ in range(5)]
    assert len(calls) == 2
    assert calls[0] is None
    assert calls[1].shape == (2, 3, 2)
    np.testing.assert_array_equal(actions[0], actions[1])
    np.testing.assert_array_equal(actions[2], actions[3])
    assert not np.array_equal(actions[1], actions[2])
    mpc.reset(0)
    np.testing.assert_array_equal(mpc.act(observation), actions[0])


def test_observations_that_do_not_fit_are_refused() -> None:
    mpc = MPC(testing.model(STATE), VectorGoal("a", torch.ones(2)), cem(), LIMITS)
    with pytest.raises(ValueError, match=r"the observation lacks \['b'\]; it has \['a'\]"):
        mpc.act({"a": np.zeros((1, 2))})
    with pytest.raises(ValueError, match=r"'b' in history is \(3,\), the model reads \(4,\)"):
        mpc.act({"a": np.zeros((1, 2)), "b": np.zeros((1, 3))})
    with pytest.raises(ValueError, match="limits are of 3 values, the model's actions have 2"):
        MPC(mpc.model, mpc.goal, cem(), ActionLimits(-torch.ones(3), torch.ones(3)))
