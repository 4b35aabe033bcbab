"""Policies for many environments at once, made of a function, of a record, or of one for each.

Axes: B environments, K actions of a chunk, T recorded steps, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from scd_wm.envs.names import find_name
from scd_wm.policies.protocol import BatchedPolicy, Policy

Function = Callable[[dict[str, Tensor]], Tensor]
"""Maps an observation, its entries with axis B in front, to actions, (B, A) or chunks (B, K, A)."""


class EachAlone:
    """One policy for each environment, such as scripted ones.

    Args:
        policies: Those of environments 0 to B - 1.

    Raises:
        ValueError: If there are none.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        if not policies:
            raise ValueError("give a policy for each environment, got none")
        self.policies = list(policies)

    def reset(self, seed: int) -> None:
        """Begin episodes, of seeds `seed`, `seed` + 1, ..."""
        for row, policy in enumerate(self.policies):
            policy.reset(seed + row)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return actions, (B, A).

        Raises:
            ValueError: If there are more or fewer environments than policies.
        """
        check_batch(observation, len(self.policies), "policies")
        rows = [{k: v[row] for k, v in observation.items()} for row in range(len(self.policies))]
        pairs = zip(self.policies, rows, strict=True)
        return np.stack([np.asarray(policy.act(own)) for policy, own in pairs])


class SingleEnvPolicy:
    """A batched policy for one environment: meets `Policy`."""

    def __init__(self, batched: BatchedPolicy) -> None:
        self.batched = batched

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self.batched.reset(seed)

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Return an action, (A,), for an observation without axis B."""
        return self.batched.act({k: np.asarray(v)[None] for k, v in observation.items()})[0]


class FromFunction:
    """A function or `torch.nn.Module` as a policy; a module is put into evaluation mode.

    Args:
        function: Called with tensors, images uint8 and vectors float32 as they are observed; all
            that it must remember is its own.
        device: Where it wants them.
    """

    def __init__(self, function: Function, device: str | torch.device = "cpu") -> None:
        self.function = function.eval() if isinstance(function, nn.Module) else function
        self.device = torch.device(device)

    def reset(self, seed: int) -> None:
        """Begin episodes: calls the function's own `reset(seed)`, if it has one."""
        reset = getattr(self.function, "reset", None)
        if callable(reset):
            reset(seed)

    @torch.inference_mode()
    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return actions, (B, A), or chunks, (B, K, A)."""
        tensors = {k: torch.as_tensor(v, device=self.device) for k, v in observation.items()}
        return torch.as_tensor(self.function(tensors)).float().cpu().numpy()


class Replay:
    """Recorded actions, whatever is seen; the last is held when they are over.

    Args:
        actions: (B, T, A) with T >= 1.

    Raises:
        ValueError: If they have another number of axes, or there are none.
    """

    def __init__(self, actions: np.ndarray) -> None:
        self.actions = np.asarray(actions, np.float32)
        if self.actions.ndim != 3 or self.actions.shape[1] < 1:
            raise ValueError(f"actions must be (B, T, A) with T >= 1, got {self.actions.shape}")
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Go back to the first action; nothing is random."""
        self.time = 0

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the actions of the next step, (B, A).

        Raises:
            ValueError: If there are more or fewer environments than records.
        """
        check_batch(observation, len(self.actions), "records")
        now = self.actions[:, min(self.time, self.actions.shape[1] - 1)]
        self.time += 1
        return now.copy()


class OneAtATime:
    """Plays the chunks of a policy: it is asked again when its actions are taken.

    Args:
        policy: Returns (B, K, A), or (B, A), which is passed on.
        execute: Actions that are taken of a chunk; None takes all.

    Raises:
        ValueError: If `execute` is below 1.
    """

    def __init__(self, policy: BatchedPolicy, execute: int | None = None) -> None:
        if execute is not None and execute < 1:
            raise ValueError(f"execute must be 1 or more, got {execute}")
        self.policy, self.execute = policy, execute
        self._queue: list[np.ndarray] = []

    @property
    def observation_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """What the policy says that it reads; see `check_policy`."""
        return getattr(self.policy, "observation_shapes", {})

    @property
    def action_dim(self) -> int | None:
        """What the policy says of its actions."""
        return getattr(self.policy, "action_dim", None)

    def reset(self, seed: int) -> None:
        """Begin episodes."""
        self._queue = []
        self.policy.reset(seed)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the actions of one step, (B, A).

        Raises:
            ValueError: If the policy does not return a row for each environment.
        """
        if not self._queue:
            actions = np.asarray(self.policy.act(observation))
            count = len(next(iter(observation.values())))
            if actions.ndim not in (2, 3) or len(actions) != count:
                raise ValueError(
                    f"a policy returns ({count}, A) for {count} environments, or chunks "
                    f"({count}, K, A); this one returned {actions.shape}"
                )
            chunk = actions[:, None] if actions.ndim == 2 else actions
            self._queue = list(chunk[:, : self.execute].swapaxes(0, 1))
        return self._queue.pop(0)


def check_batch(observation: Mapping[str, np.ndarray], count: int, what: str) -> None:
    """Raise ValueError unless an observation is of `count` environments."""
    found = {len(values) for values in observation.values()}
    if found != {count}:
        raise ValueError(f"{sorted(found)} environments, but {count} {what}")


def check_policy(policy: object, observations: gym.Space, actions: gym.Space) -> None:
    """Raise ValueError where a policy says that it does not fit an environment's spaces.

    A policy may say what it reads, `observation_shapes` (by name, of one environment), and how many
    values its actions have, `action_dim`; of one that says nothing nothing is checked.
    """
    wanted: Mapping[str, tuple[int, ...]] = getattr(policy, "observation_shapes", {})
    if not isinstance(observations, gym.spaces.Dict):
        raise ValueError(
            f"a policy reads a Dict of observations, the environment has {observations}"
        )
    given = observations.spaces
    for name, shape in wanted.items():
        found = find_name(name, given)
        if found is None:
            raise ValueError(
                f"the policy reads {name!r}, which is not observed; there are {sorted(given)}"
            )
        if given[found].shape != tuple(shape):
            raise ValueError(
                f"the policy reads {name!r} of {tuple(shape)}, observed is {given[found].shape}"
            )
    dim = getattr(policy, "action_dim", None)
    if dim is not None and (not isinstance(actions, Box) or actions.shape != (dim,)):
        raise ValueError(f"the policy has {dim} values of action, the environment takes {actions}")
