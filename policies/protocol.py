"""What a policy is: something that looks at an observation and chooses an action.

`Policy` acts in one environment, as scripted pushers and experts do that read its simulator.
`BatchedPolicy` acts in many at once, as what is learned or planned does. `policies/batched.py`
makes either from the other.

Axes: B environments, K actions of a chunk, A values of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Policy(Protocol):
    """Chooses actions for one environment, one episode after the other.

    All randomness comes from the seed of `reset`: the same seed and observations give the same
    actions.
    """

    def reset(self, seed: int) -> None:
        """Begin an episode; call it after the environment was reset."""
        ...

    def act(self, observation: Any) -> np.ndarray:
        """Return an action inside the action space for what the environment returned last."""
        ...


class BatchedPolicy(Protocol):
    """Chooses actions for B environments whose episodes began together.

    B is that of the observations, and the same from one `reset` to the next. All randomness comes
    from the seed of `reset`.
    """

    def reset(self, seed: int) -> None:
        """Begin B episodes."""
        ...

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return actions for what the environments show now.

        Args:
            observation: Cameras (B, H, W, C) uint8 and vectors (B, D) float32, by name.

        Returns:
            Actions (B, A) float32, in the units of the data. A chunk (B, K, A) holds those of the
            next K steps; `policies.batched.OneAtATime` plays it, and others refuse it.
        """
        ...
