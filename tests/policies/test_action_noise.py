"""Noise on actions: its size and limits, and that an episode has the same wherever it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from scd_wm.policies.action_noise import ActionNoise
from scd_wm.policies.batched import Replay

WIDE = Box(np.array([-3, 0], np.float32), np.array([5, 100], np.float32))


def still(count: int, at: tuple[float, float] = (1, 50)) -> Replay:
    return Replay(np.broadcast_to(np.array(at, np.float32), (count, 1, 2)))


def played(policy: ActionNoise, seed: int, count: int, steps: int = 3) -> np.ndarray:
    policy.reset(seed)
    return np.stack([policy.act({"x": np.zeros((count, 1))}) for _ in range(steps)], axis=1)


def test_an_episode_has_the_same_noise_alone_and_among_others() -> None:
    many = played(ActionNoise(still(4), 0.1, WIDE), 7, 4)
    for row in range(4):
        alone = played(ActionNoise(still(1), 0.1, WIDE), 7 + row, 1)
        np.testing.assert_array_equal(many[row], alone[0])
    assert len(np.unique(many)) == many.size
    again = ActionNoise(still(4), 0.1, WIDE)
    np.testing.assert_array_equal(played(again, 7, 4), many)
    np.testing.assert_array_equal(played(again, 7, 4), many)  # after a reset too


def test_its_deviation_is_in_halves_of_the_range() -> None:
    noise = played(ActionNoise(still(500), 0.1, WIDE), 0, 500, 20) - [1, 50]
    np.testing.assert_allclose(noise.std(axis=(0, 1)), [0.4, 5], rtol=0.03)
    np.testing.assert_allclose(noise.mean(axis=(0, 1)), [0, 0], atol=0.2)


def test_actions_stay_within_their_limits_and_without_noise_as_they_are() -> None:
    loud = played(ActionNoise(still(50), 10, WIDE), 0, 50)
    for extreme in (loud.min(axis=(0, 1)), loud.max(axis=(0, 1))):
        assert WIDE.contains(extreme)
    assert loud.dtype == np.float32
    silent = played(ActionNoise(still(2), 0, WIDE), 0, 2)
    np.testing.assert_array_equal(silent, np.broadcast_to([1, 50], silent.shape))


@pytest.mark.parametrize(
    ("noise", "space", "message"),
    [
        (-0.1, WIDE, "noise must be 0 or more, got -0.1"),
        (float("nan"), WIDE, "noise must be 0 or more, got nan"),
        (0.1, Discrete(3), r"needs a Box with bounds, got Discrete\(3\)"),
        (0.1, Box(-np.inf, np.inf, (2,)), "needs a Box with bounds"),
    ],
)
def test_what_cannot_be_is_refused(noise: float, space: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActionNoise(still(1), noise, space)


def test_chunks_are_refused() -> None:
    class Chunks:
        def reset(self, seed: int) -> None:
            pass

        def act(self, observation: Any) -> np.ndarray:
            return np.zeros((1, 3, 2), np.float32)

    policy = ActionNoise(Chunks(), 0.1, WIDE)
    policy.reset(0)
    with pytest.raises(ValueError, match=r"noise is put on actions \(B, A\), the policy gave \(1"):
        policy.act({})
