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
from scd_wm.policies.goals import FeatureGoal, ImageGoal, OutcomeGoal, SumOfGoals, VectorGoal
from scd_wm.policies.mpc import MPC, ImaginedCosts, MPCConfig, excess, worst_where_not
from scd_wm.policies.planner import ActionLimits
from scd_wm.policies.planners import make_planner
from tests.familiar import calibrated

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


class Known(torch.nn.Module):
    """A familiarity that knows contexts by a table of its own."""

    def __init__(self, uncertainty: Any) -> None:
        super().__init__()
        self.uncertainty = uncertainty

    def forward(self, context: Tensor) -> Tensor:
        return self.uncertainty(context)


def short_cut() -> Any:
    """A model in which going left is cheap, and off the data.

    The action taken is what the context says, and the goal likes the left.
    """
    model = testing.model(STATE).eval()
    taken: list[Tensor] = []
    read_frame = model.next_frame

    def next_frame(frame: Any, *settings: Any) -> Any:
        taken.append(frame.action[:, 0])
        return read_frame(frame, *settings)

    model.next_frame = next_frame  # type: ignore[method-assign, assignment]  # a tiny world
    model.familiarity = Known(lambda _: (taken[-1] < -0.2).float())  # type: ignore[assignment]  # same

    def goal(_: Frames) -> Tensor:
        return taken[-1]  # -1 is the cheapest

    return model, goal


def first_action(config: MPCConfig) -> float:
    model, goal = short_cut()
    mpc = MPC(model, goal, cem(candidates=60, iterations=4), LIMITS, config)
    observation = {k: v[:, 0] for k, v in testing.clip(STATE, 1, 1).vectors.items()}
    return mpc.act(observation)[0, 0].item()


def test_pessimism_keeps_a_plan_off_the_cheap_path_that_nobody_has_seen() -> None:
    assert first_action(MPCConfig()) < -0.7
    assert first_action(MPCConfig(pessimism=5.0)) >= -0.2
    assert first_action(MPCConfig(pessimism=0.01)) < -0.7  # less than there is to gain


def test_a_plan_that_leaves_the_data_gains_nothing_by_what_it_promises_there() -> None:
    assert first_action(MPCConfig(stop_at=0.5)) >= -0.2


def test_costs_after_the_data_was_left_are_the_worst_that_was_believed() -> None:
    costs = torch.tensor([[[1.0, 2.0, 3.0], [4.0, -9.0, -9.0]], [[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]]])
    believed = torch.tensor(
        [[[True, True, True], [True, False, False]], [[False, False, False], [False] * 3]]
    )
    wanted = [[[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]], [[5.0, 5.0, 5.0], [5.0, 5.0, 5.0]]]
    assert worst_where_not(costs, believed).tolist() == wanted


def test_trusted_uncertainty_costs_nothing_and_being_wholly_off_costs_one() -> None:
    found = excess(torch.tensor([0.0, 0.95, 0.975, 1.0]), 0.95)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.5, 1.0]), atol=1e-5, rtol=0)


def test_pessimism_counts_once_for_every_frame() -> None:
    model = calibrated(testing.model(STATE))
    state = imagination.begin(model, testing.clip(STATE, 2, 3), torch.tensor([5, 6]))
    plans = torch.rand(2, 4, 3, 2) * 2 - 1
    goal = VectorGoal("a", torch.ones(2))
    settings: dict[str, Any] = {"discount": 0.5, "final_weight": 3.0}
    bold, wary = (
        ImaginedCosts(model, state, goal, MPCConfig(pessimism=p, trusted=0.2, **settings))(plans)
        for p in (0.0, 2.0)
    )
    for index in range(4):
        seen = imagination.stack(
            list(imagination.imagine(model, state.clone(), plans[:, index]))
        ).uncertainty
        assert seen is not None
        extra = 2 * ((seen - 0.2).clamp(min=0) / 0.8 * torch.tensor([1, 0.5, 0.75])).sum(1)
        torch.testing.assert_close((wary - bold)[:, index], extra, atol=1e-4, rtol=1e-4)


def test_pessimism_needs_a_model_that_knows_its_data() -> None:
    for config in (MPCConfig(pessimism=1.0), MPCConfig(stop_at=0.9)):
        with pytest.raises(ValueError, match="run scd-wm calibrate RUN"):
            MPC(testing.model(STATE), VectorGoal("a", torch.ones(2)), cem(), LIMITS, config)
    with pytest.raises(ValueError, match=r"pessimism must be 0 or more, .* got -1"):
        MPCConfig(pessimism=-1)


@pytest.mark.parametrize("architecture", ["scd", "entangled"])
def test_a_goal_of_features_is_reached_by_the_goal_itself(architecture: str) -> None:
    model = testing.entangled(IMAGES) if architecture == "entangled" else testing.model(IMAGES)
    clip = testing.clip(IMAGES, 3, 1)
    entries = {**clip.images, **clip.vectors}
    seen = Frames(
        {k: v[:, 0] for k, v in clip.images.items()},
        {k: v[:, 0] for k, v in clip.vectors.items()},
        {},
    )
    whole = FeatureGoal(model.eval(), {k: v[1, 0] for k, v in entries.items()})
    cost = whole(seen)
    assert cost.shape == (3,)
    assert cost[1] < 1e-5 < cost[[0, 2]].min()
    picture = FeatureGoal(model, {"top": entries["top"][1, 0]})
    other = replace(seen, vectors={"proprio": seen.vectors["proprio"] + 5})
    torch.testing.assert_close(picture(seen), picture(other))  # what a goal lacks does not count
    assert not torch.isclose(whole(seen), whole(other)).any()


def test_goals_of_features_that_the_model_cannot_see_are_refused() -> None:
    model = testing.model(IMAGES)
    for observation, message in (
        ({}, "needs some of .'proprio', 'top'., got nothing"),
        ({"side": torch.zeros(2)}, r"'side' in a goal of features is \(2,\)"),
        ({"top": torch.zeros(8, 8, 3)}, r"'top' in a goal of features is \(8, 8, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            MPC(model, FeatureGoal(model, observation), cem(), LIMITS)


def test_no_more_of_a_plan_is_taken_than_there_is() -> None:
    with pytest.raises(ValueError, match="execute=4 actions of a plan, but a plan has 3"):
        MPC(testing.model(IMAGES), OutcomeGoal(), cem(), LIMITS, MPCConfig(execute=4))
