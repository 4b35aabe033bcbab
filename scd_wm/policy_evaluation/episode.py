"""One episode of one policy in one world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scd_wm.evaluation.result import COPY_LAST, SHUFFLED, WORLD_MODEL

REAL = "real"
IMAGINED = (WORLD_MODEL, SHUFFLED, COPY_LAST)
LIKELY = 0.5  # probability above which a success is counted


@dataclass(frozen=True, kw_only=True)
class Episode:
    """What came of an episode; None where it is not known or does not apply."""

    policy: str  # its name
    start: str  # what it began from
    seed: int | None = None  # of what the policy and the dream draw
    world: str  # REAL or one of IMAGINED
    success: bool
    total_reward: float | None = None
    num_steps: int | None = None
    success_probability: float | None = None  # the highest that was predicted
    uncertainty: float | None = None  # the highest that lasted for some frames in a row
    judged: float | None = None  # the judge's highest probability of success in an imagined frame

    @property
    def is_judged_success(self) -> bool:
        """Whether the judge saw a success."""
        return self.judged is not None and self.judged > LIKELY

    def row(self) -> Mapping[str, Any]:
        """Return the episode as a row of the table."""
        return {
            "policy": self.policy,
            "start": self.start,
            "seed": self.seed,
            "world": self.world,
            "success": int(self.success),
            "return": self.total_reward,
            "steps": self.num_steps,
            "success_probability": self.success_probability,
            "uncertainty": self.uncertainty,
            "judge": self.judged,
        }
