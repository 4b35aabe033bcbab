"""All that the doctor measures of a data set, before any judgement.

One pass over the numbers of all episodes and a look at some images; then the checks need no reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scd_wm.datasets.doctor_actions import ActionStats, action_stats
from scd_wm.datasets.doctor_images import CameraSurvey, survey_images
from scd_wm.datasets.doctor_motion import MotionStats, motion_stats
from scd_wm.datasets.doctor_numbers import NumberSurvey, survey_numbers
from scd_wm.datasets.reader import Reader
from scd_wm.progress import progress_bar


@dataclass(frozen=True, kw_only=True)
class ExamConfig:
    """How much of a data set is looked at.

    Raises:
        ValueError: If a value is outside what its comment allows.
    """

    episodes: int | None = None  # whose numbers are read, spread evenly; None for all, at least 1
    images: int = 12  # episodes of each camera whose images are looked at; 0 for none
    image_s: float = 45.0  # seconds after which no further images are read; at least 0
    progress: bool = False  # show progress bars on a terminal

    def __post_init__(self) -> None:
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes must be at least 1 or None, got {self.episodes}")
        if self.images < 0:
            raise ValueError(f"images must be at least 0, got {self.images}")
        if not self.image_s >= 0:
            raise ValueError(f"image_s must be at least 0, got {self.image_s}")


@dataclass(frozen=True, kw_only=True)
class Exam:
    """What was measured of a data set."""

    config: ExamConfig
    numbers: NumberSurvey
    cameras: dict[str, CameraSurvey]
    actions: ActionStats
    motion: MotionStats

    def episode_name(self, index: int) -> str:
        """Return the name of one of the reader's episodes."""
        return self.numbers.info.episodes[index].name


def examine(reader: Reader, config: ExamConfig) -> Exam:
    """Measure a data set; what is damaged in it is noted and does not stop the exam."""
    total = len(reader.info.episodes)
    stride = 1 if config.episodes is None else max(1, -(-total // config.episodes))
    numbers = survey_numbers(reader, _watched(range(0, total, stride), "numbers", config))
    cameras = survey_images(
        reader, config.images, config.image_s, lambda work: iter(_watched(work, "images", config))
    )
    actions = action_stats(numbers.sample, reader.info.action_dim)
    return Exam(
        config=config,
        numbers=numbers,
        cameras=cameras,
        actions=actions,
        motion=motion_stats(numbers, actions, cameras),
    )


def _watched(work: Sequence[Any], what: str, config: ExamConfig) -> Any:
    """Return the work, with a progress bar on a terminal that goes away in the end."""
    hidden = None if config.progress else True  # None: where there is no terminal
    return progress_bar(work, desc=f"reading {what}", unit="episode", leave=False, disable=hidden)
