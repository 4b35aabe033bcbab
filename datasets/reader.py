"""What every reader of a data set provides, whatever the format on disk.

Axes: T steps (actions) of an episode. To add a format, write one class with `info` and `read` and
list it in `scd_wm.datasets.formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

ACTION = (
    "action"  # the key of `Reader.read` for actions; the outcomes' keys are scd_wm.spec.OUTCOMES
)


@dataclass(frozen=True)
class Field:
    """One observation key: its shape in one frame, its dtype on disk, and what it is."""

    shape: tuple[int, ...]  # (H, W, 3) of an image, (D,) of a vector
    dtype: str  # NumPy's name, such as "uint8"
    kind: Literal["image", "vector"]


@dataclass(frozen=True)
class EpisodeInfo:
    """One episode: T actions, and T + 1 observations or, where the last is not stored, T."""

    name: str
    num_actions: int
    has_last_observation: bool
    missing: frozenset[str] = frozenset()  # observation keys that only others have
    image_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # if not the field's
    success: bool | None = None  # of the whole episode, where the format says so without a flag

    @property
    def num_observations(self) -> int:
        """Frames whose observation is stored."""
        return self.num_actions + self.has_last_observation


@dataclass(frozen=True)
class SourceInfo:
    """All that is known of a data set without reading its frames."""

    path: Path
    format: str
    fields: Mapping[str, Field]  # observation keys
    action_dim: int
    outcomes: tuple[str, ...]  # a subset of scd_wm.spec.OUTCOMES: those that `read` gives
    fps: float | None  # steps a second; None where the data does not say
    episodes: tuple[EpisodeInfo, ...]
    skipped: tuple[str, ...] = ()  # a line for each thing that is not used, with the reason
    metadata: Mapping[str, Any] = field(default_factory=dict)  # the format's own, in JSON types
    masks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # subset: names of episodes


class Reader(Protocol):
    """Random access to one data set. Instances may be pickled and used from several processes."""

    @property
    def info(self) -> SourceInfo:
        """What the data set holds."""

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop - 1` of `key` in an episode.

        Args:
            episode: Index into `info.episodes`.
            key: An observation key, whose rows are frames, or "action", "reward", "terminated" or
                "success", whose rows are steps.
            start: First row, at least 0.
            stop: One past the last row, at most the rows stored.

        Returns:
            (stop - start, ...) in the dtype on disk; images (stop - start, H, W, 3) uint8.

        Raises:
            ValueError: If what is stored there is damaged; names file, episode and key.
        """


class ImageSource(NamedTuple):
    """Where the images of one camera in one episode come from."""

    path: Path
    part: str = ""  # which of the file's images, where it holds those of several


@runtime_checkable
class VideoReader(Reader, Protocol):
    """A reader whose images are decoded from files so slowly that they are kept in a cache."""

    def image_source(self, episode: int, key: str) -> ImageSource | None:
        """Return the source of all images of an episode's camera; None if `read` is fast."""

    def decode(self, episode: int, key: str) -> Iterator[np.ndarray]:
        """Yield the images of an episode's camera in order, (H, W, 3) uint8 each."""
