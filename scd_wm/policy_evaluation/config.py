"""What an evaluation of policies may be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIN_AT_ONCE = 3  # so that every batch has two episodes, which may exchange actions


@dataclass(frozen=True, kw_only=True)
class PolicyEvaluationConfig:
    """Which episodes are played, and what is said of them.

    Raises:
        ValueError: If a number is out of range.
    """

    episodes: int = 50  # starts, the same for all policies and worlds; of a table at most so many
    seed: int = 0  # of the first start, the first episode and the resampling
    max_steps: int | None = None  # of an episode; None takes the environment's limit
    num_steps: int | None = None  # sampler steps of an imagined frame; None takes the model's own
    real: Path | None = None  # table of real results that stands in for the simulator
    data: Path | None = None  # where a table's starts are recorded, if not in a simulator
    classifier: Path | None = None  # of `scd-wm train-success`: judges imagined frames
    off_data: float = 0.99  # uncertainty above which an episode has left the data
    off_data_frames: int = 3  # in a row that must be above it: of 200 real frames two are by chance
    at_once: int = 25  # episodes imagined in one batch, at most; others differ by rounding only
    videos: int = 1  # of each kind for each policy
    resamples: int = 2000  # of the bootstrap

    def __post_init__(self) -> None:
        least = {"episodes": 2, "seed": 0, "off_data_frames": 1, "videos": 0, "resamples": 1}
        least["at_once"] = MIN_AT_ONCE
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be {value} or more, got {getattr(self, name)}")
        for name in ("max_steps", "num_steps"):
            value_or_none = getattr(self, name)
            if value_or_none is not None and value_or_none < 1:
                raise ValueError(f"{name} must be 1 or more, got {value_or_none}")
        if not 0 <= self.off_data <= 1:
            raise ValueError(f"off_data must be in [0, 1], got {self.off_data}")
        if self.data is not None and self.real is None:
            raise ValueError("data is for the starts of a table of real results; give real too")
