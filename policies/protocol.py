"""What a policy is: something that looks at an observation and chooses an action."""

from __future__ import annotations

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
