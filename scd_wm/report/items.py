"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scd_wm.evaluation.result import Evaluation


@dataclass(frozen=True)
class Video:
    """A film to be shown."""

    name: str  # of its file, without suffix
    caption: str
    mp4: bytes


@dataclass(frozen=True, kw_only=True)
class EpisodeFilm:
    """A real episode of a policy beside the same one in imagination."""

    policy: str
    kind: str  # why it is shown: "agree", "disagree", or "judge" where the imagined is in doubt
    caption: str
    mp4: bytes


@dataclass(frozen=True)
class Picture:
    """An image to be shown."""

    name: str  # of its file, without suffix
    caption: str
    png: bytes


@dataclass(frozen=True)
class Drawing:
    """A plot to be shown."""

    title: str
    caption: str
    svg: str  # an element to put into a page


@dataclass(frozen=True, kw_only=True)
class Media:
    """All that is shown of one world model; a world without cameras has drawings only."""

    comparisons: tuple[Video, ...]  # real beside imagined
    futures: tuple[Video, ...]  # several imagined from one start
    actions: tuple[Video, ...]  # one start under several actions
    strips: tuple[Picture, ...]
    drawings: tuple[Drawing, ...]  # tracks of vectors and of objects
    history: int  # real frames given
    horizon: int  # frames imagined
    fps: float  # of the videos

    @property
    def videos(self) -> tuple[Video, ...]:
        """All videos."""
        return (*self.comparisons, *self.futures, *self.actions)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """One world model in a report."""

    name: str  # a few words, such as "from scratch, 4 minutes"
    description: str  # one or two sentences for somebody who knows nothing of it
    evaluation: Evaluation
    media: Media
    log: Sequence[Mapping[str, Any]] = ()  # lines of the run's log.jsonl
    config: Mapping[str, Any]  # everything that is configured, of JSON types
    data: Mapping[str, Any]  # what the data is, name to value
    facts: Mapping[str, Any]  # short facts on the run, name to value, such as parameters and steps
    diagnosis: Mapping[str, Any] | None = None  # of the data, as the doctor gives it in JSON types
