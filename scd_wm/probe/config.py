"""How a diffuser is probed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_CLIPS = 5  # fewer say little of a model, whatever they say


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What is looked at, and what counts as much or little when a split is suggested.

    Raises:
        ValueError: If a value is outside what its comment allows.
    """

    clips: int = 16  # different ones, spread over the episodes; 5 or more
    frames: int = 4  # of each clip that are denoised, each with its full history; 2 or more
    num_steps: int = 8  # of the sampler in which features and attention are looked at; 2 or more
    levels: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25, 0.1)  # noise levels of the losses, in (0, 1]
    middle: tuple[int, int] | None = None  # first and last middle layer; None: the middle half
    plateau: float = 0.95  # centred cosine between steps from which features count as the same
    near_zero: float = 0.1  # attention on the past below this part of the uniform share is none
    matters: float = 0.05  # relative rise of the sample error from which a layer must run each step
    seed: int = 0  # of clips and noise

    def __post_init__(self) -> None:
        for name, least in (("clips", LEAST_CLIPS), ("frames", 2), ("num_steps", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if not self.levels or not all(0 < level <= 1 for level in self.levels):
            raise ValueError(f"levels must be noise levels above 0, at most 1, got {self.levels}")
        if not -1 <= self.plateau <= 1:
            raise ValueError(f"plateau must be a cosine from -1 to 1, got {self.plateau}")
        if not (0 <= self.near_zero < math.inf and 0 <= self.matters < math.inf):
            raise ValueError(
                f"near_zero and matters must be 0 or more, got {self.near_zero} and {self.matters}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")

    def check_clips(self, counts: Sequence[int], where: str) -> None:
        """Raise ValueError if there are too few clips, of batches with so many each."""
        if sum(counts) < LEAST_CLIPS:
            raise ValueError(f"{sum(counts)} clips {where}; the probes need {LEAST_CLIPS} or more")
