"""Policies for many environments, made of functions, records and policies for one."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn

import scd_wm.envs.registration  # noqa: F401  (makes the environments known)
from scd_wm import testing
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.envs.names import find_name
from scd_wm.policies.batched import (
    EachAlone,
    FromFunction,
    OneAtATime,
    Replay,
    SingleEnvPolicy,
    check_policy,
)
from scd_wm.policies.mpc import MPC
from scd_wm.policies.planner import ActionLimits
from scd_wm.policies.planners import make_planner
from scd_wm.policies.protocol import BatchedPolicy
from scd_wm.policies.random_policy import RandomPolicy
from scd_wm.policies.registry import make_policy

BATCH = 3
STATE = testing.state_spec()
OBSERVED = {"a": np.arange(BATCH * 2, dtype=np.float32).reshape(BATCH, 2)}


class Doubles(nn.Module):
    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        assert not self.training
        return 2 * observation["a"]


def env() -> gym.Env:
    return gym.make("scd_wm/PushTState-v0")


def test_a_module_acts_on_all_rows_at_once() -> None:
    policy = FromFunction(Doubles())
    np.testing.assert_array_equal(policy.act(OBSERVED), 2 * OBSERVED["a"])


def test_a_function_with_a_memory_is_reset() -> None:
    class Counts:
        seeds: list[int] = []  # noqa: RUF012  (of the only one there is)

        def reset(self, seed: int) -> None:
            self.seeds.append(seed)

        def __call__(self, observation: dict[str, Tensor]) -> Tensor:
            return observation["a"]

    counts = Counts()
    FromFunction(counts).reset(7)
    assert counts.seeds == [7]


def test_each_row_gets_its_own_policy_seed_and_observation() -> None:
    single = env()
    rows = EachAlone([RandomPolicy(single) for _ in range(BATCH)])
    rows.reset(5)
    drawn = rows.act(OBSERVED)
    for row in range(BATCH):
        alone = RandomPolicy(single)
        alone.reset(5 + row)
        np.testing.assert_array_equal(drawn[row], alone.act(None))
    with pytest.raises(ValueError, match=r"\[3\] environments, but 2 policies"):
        EachAlone(rows.policies[:2]).act(OBSERVED)


def test_single_is_the_batched_policy_of_one_row() -> None:
    policy = SingleEnvPolicy(FromFunction(Doubles()))
    np.testing.assert_array_equal(policy.act({"a": [1.0, 2.0]}), [2, 4])


def test_replay_holds_its_last_action() -> None:
    record = np.arange(BATCH * 2 * 1, dtype=np.float32).reshape(BATCH, 2, 1)
    policy = Replay(record)
    played = np.stack([policy.act(OBSERVED) for _ in range(3)], axis=1)
    np.testing.assert_array_equal(played, record[:, [0, 1, 1]])
    policy.reset(0)
    np.testing.assert_array_equal(policy.act(OBSERVED), record[:, 0])
    with pytest.raises(ValueError, match=r"\[3\] environments, but 2 records"):
        Replay(record[:2]).act(OBSERVED)


@pytest.mark.parametrize(("execute", "asked"), [(None, [0, 4]), (2, [0, 2, 4]), (9, [0, 4])])
def test_chunks_are_played_one_action_at_a_time(execute: int | None, asked: list[int]) -> None:
    seen: list[int] = []
    time = 0

    def chunk(observation: dict[str, Tensor]) -> Tensor:
        seen.append(time)
        return torch.full((BATCH, 4, 2), 10.0 * time) + torch.arange(4)[:, None]

    policy = OneAtATime(FromFunction(chunk), execute)
    policy.reset(0)
    for time in range(6):
        last = max(t for t in asked if t <= time)
        np.testing.assert_array_equal(
            policy.act(OBSERVED), np.full((BATCH, 2), 10 * last + time - last)
        )
    assert seen == asked
    policy.reset(0)
    time = 8
    assert policy.act(OBSERVED)[0, 0] == 80  # what was left of the last chunk is forgotten


@pytest.mark.parametrize("shape", [(2,), (BATCH + 1, 2), (BATCH, 4, 2, 1)])
def test_actions_without_a_row_for_each_environment_are_refused(shape: tuple[int, ...]) -> None:
    policy = OneAtATime(FromFunction(lambda seen: torch.zeros(shape)))
    policy.reset(0)
    with pytest.raises(
        ValueError, match=rf"returns \({BATCH}, A\).*returned {re.escape(str(shape))}"
    ):
        policy.act(OBSERVED)


def contract() -> dict[str, BatchedPolicy]:
    model = testing.model(STATE)
    limits = ActionLimits(-torch.ones(2), torch.ones(2))
    planner = make_planner("cem", horizon=2, candidates=4, iterations=1)
    return {
        "function": FromFunction(lambda seen: torch.zeros(len(next(iter(seen.values()))), 2)),
        "chunks": OneAtATime(FromFunction(lambda seen: torch.zeros(BATCH, 2, 2))),
        "replay": Replay(np.zeros((BATCH, 2, 2))),
        "random": EachAlone([RandomPolicy(env()) for _ in range(BATCH)]),
        "zero": EachAlone([make_policy("zero", env()) for _ in range(BATCH)]),
        "mpc": MPC(model, lambda f: f.vectors["a"].norm(dim=-1), planner, limits),
    }


@pytest.mark.parametrize("name", list(contract()))
def test_every_kind_acts_in_imagination_and_repeats_itself(name: str) -> None:
    policy = contract()[name]
    envs = ImaginedVectorEnv(testing.model(STATE), testing.clip(STATE, 2, 3), BATCH)
    runs = []
    for _ in range(2):
        observation, _ = envs.reset(seed=0)
        policy.reset(3)
        actions = []
        for _ in range(3):
            actions.append(policy.act(observation))
            assert actions[-1].shape == (BATCH, 2)
            observation = envs.step(actions[-1])[0]
        runs.append(np.stack(actions))
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize(
    ("shapes", "dim", "message"),
    [
        ({"arm": (2,)}, 2, "reads 'arm', which is not observed; there are .'a'"),
        ({"a": (3,)}, 2, r"reads 'a' of \(3,\), observed is \(2,\)"),
        ({"a": (2,)}, 5, "has 5 values of action"),
    ],
)
def test_a_policy_that_does_not_fit_says_so(shapes: Any, dim: int, message: str) -> None:
    class Policy:
        observation_shapes, action_dim = shapes, dim

    with pytest.raises(ValueError, match=message):
        check_policy(Policy(), Dict(a=Box(-1, 1, (2,))), Box(-1, 1, (2,)))


def test_a_policy_that_fits_or_says_nothing_passes() -> None:
    class Policy:
        observation_shapes, action_dim = {"a": (2,)}, 2

    for policy in (Policy(), FromFunction(Doubles())):
        check_policy(policy, Dict(a=Box(-1, 1, (2,))), Box(-1, 1, (2,)))


def test_arrays_from_a_function_will_do_and_a_box_of_observations_will_not() -> None:
    policy = FromFunction(lambda seen: seen["a"].numpy())  # type: ignore[arg-type,return-value]  # on purpose
    np.testing.assert_array_equal(policy.act(OBSERVED), OBSERVED["a"])
    with pytest.raises(ValueError, match="a policy reads a Dict of observations"):
        check_policy(policy, Box(-1, 1, (2,)), Box(-1, 1, (2,)))


def test_names_are_found_as_they_are_or_flat_where_one_alone_fits() -> None:
    assert find_name("a_b", ["a_b", "a/b"]) == "a_b"
    assert find_name("a_b", ["a/b", "c"]) == "a/b"
    assert find_name("a_b", ["a/b", "a.b"]) is None
    assert find_name("a", ["b"]) is None
