"""Worlds that are wrong on purpose: another's actions, and nothing at all."""

from __future__ import annotations

import numpy as np
import pytest

from scd_wm import testing
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.envs.null_worlds import NothingChanges, ShuffledActions


def dreams(count: int = 3) -> ImaginedVectorEnv:
    spec = testing.image_spec()
    return ImaginedVectorEnv(testing.model(spec), testing.clip(spec, 3, 2), count, max_steps=4)


OPTIONS = {"start": np.array([0, 1, 2])}


def test_each_episode_is_what_the_giver_s_actions_lead_to() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 2)).astype(np.float32)
    plain, shuffled = dreams(), ShuffledActions(dreams(), np.array([1, 2, 0]))
    for envs in (plain, shuffled):
        envs.reset(seed=5, options=OPTIONS)
    expected = plain.step(actions[[1, 2, 0]])
    found = shuffled.step(actions)
    for name, values in expected[0].items():
        np.testing.assert_array_equal(found[0][name], values)
    np.testing.assert_array_equal(found[1], expected[1])
    plain.reset(seed=5, options=OPTIONS)
    assert (plain.step(actions)[1] != expected[1]).all()  # and its own lead elsewhere


@pytest.mark.parametrize("giver", [[0, 2, 1], [1, 1, 0], [1, 0]])
def test_a_giver_must_be_somebody_else(giver: list[int]) -> None:
    with pytest.raises(ValueError, match="giver must name everybody else once"):
        ShuffledActions(dreams(), np.array(giver))


def test_nothing_changes_until_the_limit() -> None:
    envs = NothingChanges(dreams())
    first, info = envs.reset(seed=5, options=OPTIONS)
    assert info["start"].tolist() == [0, 1, 2]
    for step in range(4):
        seen, rewards, terminated, truncated, info = envs.step(np.ones((3, 2), np.float32))
        for name, values in first.items():
            np.testing.assert_array_equal(seen[name], values)
        assert not rewards.any()
        assert not terminated.any()
        assert truncated.tolist() == [step == 3] * 3
        assert "success" not in info
        seen["proprio"][:] = 0  # a caller's change must not come back
    envs.reset(seed=5, options=OPTIONS)
    assert not envs.step(np.ones((3, 2), np.float32))[3].any()
