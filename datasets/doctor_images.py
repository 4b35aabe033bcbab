"""The doctor's look at images: a stretch of some episodes of every camera, small.

Axes: N images of a stretch, H height, W width. Never more than a stretch of small images is in
memory, and no video is decoded beyond what is looked at.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from scd_wm.datasets.doctor_numbers import READ_ERRORS
from scd_wm.datasets.image_batches import image_batches, video_file
from scd_wm.datasets.reader import Reader
from scd_wm.datasets.resize import resize_images

STRETCH = 512  # images of a stretch, at most
BATCH = 32  # images in memory at their full size
SMALL = 64  # longer side of the images that are compared, pixels
SKIPS = (1, 2, 3, 4, 6, 8)  # frames apart at which change is measured
STRIP_FRAMES, STRIP_HEIGHT, STRIPS = 8, 96, 3  # of the film strips kept


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What is kept of consecutive images of one episode and camera."""

    episode: int  # index of the reader's episodes
    start: int  # frame
    changes: np.ndarray  # (N - 1,) mean absolute change to the next image, grey levels
    brightness: np.ndarray  # (N,) mean grey level, 0 to 255
    contrast: np.ndarray  # (N,) deviation of grey levels within an image
    change_at_skip: dict[int, float]  # frames apart: median change
    digest: str  # of the small images: equal for equal images
    strip: np.ndarray | None  # (F, h, w, 3) uint8, frames spread over the stretch


@dataclass(kw_only=True)
class CameraSurvey:
    """What was seen of one camera."""

    name: str
    shape: tuple[int, ...]
    num_episodes: int  # that have it
    stretches: list[Stretch] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)  # episode: why it cannot be read

    @property
    def num_images(self) -> int:
        """Images looked at."""
        return sum(len(stretch.brightness) for stretch in self.stretches)

    def joined(self, name: str) -> np.ndarray:
        """Return "changes", "brightness" or "contrast" of all stretches."""
        parts = [getattr(stretch, name) for stretch in self.stretches]
        return np.concatenate([np.zeros(0, np.float32), *parts])


def survey_images(
    reader: Reader,
    episodes_a_camera: int,
    budget_s: float,
    watch: Callable[[list[tuple[str, int]]], Iterator[tuple[str, int]]] = iter,
) -> dict[str, CameraSurvey]:
    """Look at a stretch of some episodes of every camera.

    Args:
        reader: Of the data set.
        episodes_a_camera: How many, spread evenly over those that have the camera.
        budget_s: Seconds after which no further stretch is begun.
        watch: Goes over the work, (camera, episode) each; a progress bar.
    """
    info, end = reader.info, time.monotonic() + budget_s
    surveys: dict[str, CameraSurvey] = {}
    work: list[tuple[int, str, int]] = []
    for name, entry in info.fields.items():
        if entry.kind == "image":
            having = [i for i, e in enumerate(info.episodes) if name not in e.missing]
            surveys[name] = CameraSurvey(name=name, shape=entry.shape, num_episodes=len(having))
            chosen = _spread(having, episodes_a_camera)
            work += [(turn, name, episode) for turn, episode in enumerate(chosen)]
    for name, episode in watch([job[1:] for job in sorted(work)]):
        if time.monotonic() > end:
            continue
        survey = surveys[name]
        try:
            stretch = _look(reader, episode, name, len(survey.stretches) < STRIPS)
            survey.stretches.append(stretch)
        except READ_ERRORS as error:
            survey.problems[info.episodes[episode].name] = " ".join(str(error).split())
    return surveys


def _spread(items: Sequence[int], count: int) -> list[int]:
    """Return at most `count` items, spread evenly, in an order that covers the range early."""
    if count <= 0 or not items:
        return []
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    order = sorted(range(len(places)), key=lambda i: _reversed_bits(i))
    return [items[places[i]] for i in order]


def _reversed_bits(number: int) -> int:
    return int(f"{number:016b}"[::-1], 2)


def _look(reader: Reader, episode: int, camera: str, wants_strip: bool) -> Stretch:
    """Read a stretch batch by batch, and keep small images of it while it lasts."""
    total = reader.info.episodes[episode].num_observations
    length = min(total, STRETCH)
    start = 0 if video_file(reader, episode, camera) else (total - length) // 2
    shown = set(np.linspace(0, length - 1, STRIP_FRAMES).round().astype(int).tolist())
    small: list[np.ndarray] = []
    strip: list[np.ndarray] = []
    row = 0
    for batch in image_batches(reader, episode, camera, (start, start + length), BATCH):
        small.append(resize_images(batch, _scaled(batch.shape[1:3], SMALL, max)))
        if wants_strip:
            picked = batch[[i for i in range(len(batch)) if row + i in shown]]
            strip.append(resize_images(picked, _scaled(batch.shape[1:3], STRIP_HEIGHT, min)))
        row += len(batch)
    if row < length or not row:
        raise ValueError(f"has {row} images, its episode needs {length}")
    return _stretch(episode, start, np.concatenate(small), strip)


def _stretch(episode: int, start: int, small: np.ndarray, strip: list[np.ndarray]) -> Stretch:
    """Reduce small images, (N, h, w, 3) uint8, to a few numbers each."""
    grey = small.astype(np.float32).mean(axis=-1)  # (N, h, w)
    changes = {k: np.abs(grey[k:] - grey[:-k]).mean(axis=(1, 2)) for k in SKIPS if k < len(grey)}
    return Stretch(
        episode=episode,
        start=start,
        changes=changes.get(1, np.zeros(0, np.float32)),
        brightness=grey.mean(axis=(1, 2)),
        contrast=grey.std(axis=(1, 2)),
        change_at_skip={k: float(np.median(values)) for k, values in changes.items()},
        digest=hashlib.sha256(small.tobytes()).hexdigest(),
        strip=np.concatenate(strip) if strip else None,
    )


def _scaled(
    size: tuple[int, ...], side: int, which: Callable[[tuple[int, ...]], int]
) -> tuple[int, int]:
    """Return a size of the same shape whose longer or shorter side is at most `side`."""
    factor = min(1.0, side / which(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
