"""Checks of the doctor on what cameras show: nothing, darkness, one picture again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from scd_wm.datasets.doctor_exam import Exam
from scd_wm.datasets.doctor_finding import Finding, listed
from scd_wm.datasets.doctor_images import CameraSurvey, Stretch

DARK, BRIGHT = 12.0, 243.0  # mean grey levels
BLANK = 2.0  # deviation of grey levels below which an image shows nothing
STATIC, NEARLY_STATIC = 0.02, 0.1  # grey levels of change of nearly all frames
FROZEN = 0.01  # grey levels of change below which a frame repeats the one before
FROZEN_SHARE = 0.05  # of the steps in which the robot moves
CLEAR = 0.7  # of the speed that a quarter of the steps exceed, above which the robot clearly moves
RUN = 3  # repeated frames in a row that make a freeze
SLOW, MIN_FLOOR = 0.3, 10  # of that, below which it hardly moves; such steps to know noise by
PATCH = 8  # side of the patches that most presets cut images into, pixels


class ClearSteps(NamedTuple):
    """What a camera does in the steps of a stretch in which the robot clearly moves."""

    stretch: Stretch
    repeats: np.ndarray  # (N,) bool: the frame repeats the one before
    moves: np.ndarray  # (N,) bool


def check_looked_at(exam: Exam) -> Iterator[Finding]:
    """Say how much was looked at, where it is less than was asked for."""
    for camera in exam.cameras.values():
        looked = len(camera.stretches) + len(camera.problems)
        asked = min(exam.config.images, camera.num_episodes)
        if looked < asked:
            yield Finding(
                code="images_not_seen",
                severity="info",
                what=f"time was up after {looked} of {asked} episodes of {camera.name}",
                advice="give more time with --seconds to look at more",
                keys=(camera.name,),
                numbers={"looked_at": looked, "asked_for": asked},
            )


def check_pictures(exam: Exam) -> Iterator[Finding]:
    """Find cameras that show nothing, and pictures that are too dark or too bright."""
    for camera in exam.cameras.values():
        if not camera.num_images:
            continue
        brightness, contrast = camera.joined("brightness"), camera.joined("contrast")
        cases = (
            ("blank", contrast < BLANK, "shows a plain colour", "look whether its cap was on, or "
             "rendering failed; leave it out with --cameras"),
            ("dark", (brightness < DARK) & (contrast >= BLANK), "is nearly black",
             "raise exposure or light when recording; the model sees little here"),
            ("bright", (brightness > BRIGHT) & (contrast >= BLANK), "is nearly white",
             "lower the exposure when recording; the model sees little here"),
        )  # fmt: skip
        for code, flags, what, advice in cases:
            if (share := float(flags.mean())) > 0.01:
                yield Finding(
                    code=f"{code}_images",
                    severity="warning",
                    what=f"{camera.name} {what} in {share:.0%} of the {camera.num_images} images "
                    "looked at",
                    advice=advice,
                    keys=(camera.name,),
                    numbers={"share": share, "num_images": camera.num_images},
                )


def check_static_cameras(exam: Exam) -> Iterator[Finding]:
    """Find cameras in which nothing moves."""
    for camera in exam.cameras.values():
        changes = camera.joined("changes")
        if not len(changes) or float(camera.joined("contrast").max()) < BLANK:
            continue
        high = float(np.quantile(changes, 0.99))
        if high < NEARLY_STATIC:
            never = high < STATIC
            yield Finding(
                code="static_camera",
                severity="warning",
                what=f"{'nothing' if never else 'hardly anything'} moves in {camera.name}: 99 of "
                f"100 images change by less than {max(high, 0.01):.2g} grey levels",
                advice="leave it out with --cameras"
                if never
                else "the robot is too small in it or hidden; crop it, take a larger --frame-skip, "
                "or leave it out",
                keys=(camera.name,),
                numbers={"change_q99": high},
            )


def check_frozen(exam: Exam) -> Iterator[Finding]:
    """Find frames that repeat the one before while the robot moves."""
    for camera in exam.cameras.values():
        seen = clear_steps(exam, camera)
        share = sum(r.sum() for _, r, _ in seen) / max(1, sum(m.sum() for _, _, m in seen))
        every = rhythm(seen)
        frozen = [
            exam.episode_name(stretch.episode)
            for stretch, r, m in seen
            if _longest_run(r) >= RUN or r.sum() > FROZEN_SHARE * m.sum()
        ]
        held = any(_longest_run(r) >= RUN for _, r, _ in seen)
        if share > FROZEN_SHARE or (held and not every):
            yield _frozen_finding(camera, frozen, float(share), every)


def check_same_cameras(exam: Exam) -> Iterator[Finding]:
    """Find one camera under two names."""
    digests = {
        name: {s.episode: s.digest for s in camera.stretches}
        for name, camera in exam.cameras.items()
    }
    names = [name for name in digests if digests[name]]
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            common = digests[first].keys() & digests[second].keys()
            if common and all(digests[first][i] == digests[second][i] for i in common):
                yield Finding(
                    code="same_camera",
                    severity="warning",
                    what=f"{first} and {second} show the same pictures",
                    advice=f"leave one out: --cameras with {first} alone",
                    keys=(first, second),
                    numbers={"episodes_compared": len(common)},
                )


def check_sizes(exam: Exam) -> Iterator[Finding]:
    """Find image sizes that cannot be cut into patches."""
    for camera in exam.cameras.values():
        height, width = camera.shape[:2]
        if height % PATCH or width % PATCH:
            nearest = [max(PATCH, round(side / PATCH) * PATCH) for side in (height, width)]
            yield Finding(
                code="image_size",
                severity="info",
                what=f"{camera.name} is {height}x{width}, which patches of {PATCH} pixels do not "
                "divide",
                advice=f"pass --image-size {nearest[0]}x{nearest[1]}, or less",
                keys=(camera.name,),
                numbers={"shape": list(camera.shape)},
            )


def clear_steps(exam: Exam, camera: CameraSurvey) -> list[ClearSteps]:
    """Return for each stretch in which steps a frame is repeated, and in which the robot moves."""
    speeds = [(s, speed) for s in camera.stretches if len(speed := _speed(exam, s))]
    if not speeds or float(np.quantile(camera.joined("changes"), 0.99)) < STATIC:
        return []
    every = np.concatenate([speed for _, speed in speeds])
    clear = max(CLEAR * float(np.quantile(every, 0.75)), 1e-6)
    floor = _noise_floor(speeds, SLOW * clear)
    return [
        ClearSteps(s, _repeats(s.changes, 2 * floor) & (speed > clear), speed > clear)
        for s, speed in speeds
    ]


def rhythm(seen: Sequence[ClearSteps]) -> int | None:
    """Return after how many frames a new picture comes, if that is regular: 2, 3, 4 or None."""
    share = sum(r.sum() for _, r, _ in seen) / max(1, sum(m.sum() for _, _, m in seen))
    for every in (2, 3, 4):
        pairs = [(r[every:] == r[:-every])[m[every:] & m[:-every]] for _, r, m in seen]
        alike = np.concatenate([np.zeros(0, bool), *pairs])
        if abs(share - (every - 1) / every) < 0.1 and len(alike) and alike.mean() > 0.8:
            return every
    return None


def _frozen_finding(
    camera: CameraSurvey, episodes: list[str], share: float, every: int | None
) -> Finding:
    if every:
        where = f": a new picture comes every {every} frames"
        advice = f"the camera is slower than the control: --frame-skip {every} uses each once"
    else:
        where = f", in {len(episodes)} of {len(camera.stretches)} episodes looked at"
        where += f" ({listed(episodes)})"
        advice = (
            "pictures were lost or came late while recording: leave these parts out, or pick for "
            "each step the picture nearest in time; a larger --frame-skip hides it"
        )
    return Finding(
        code="frozen_images",
        severity="warning",
        what=f"{camera.name} repeats the frame before in {share:.0%} of the steps in which the "
        f"robot clearly moves{where}",
        advice=advice,
        episodes=tuple(episodes),
        keys=(camera.name,),
        numbers={"share": share, "every": every},
    )


def _speed(exam: Exam, stretch: Stretch) -> np.ndarray:
    """Return how fast all vectors change in each step of a stretch, (N - 1,); none if not known.

    A camera that compresses well also repeats frames where hardly anything moves, so what counts is
    what it does while the robot clearly moves.
    """
    episode = next((e for e in exam.numbers.sample if e.index == stretch.episode), None)
    if episode is None or not episode.vectors:
        return np.zeros(0)
    speed = np.zeros(min(len(rows) for rows in episode.vectors.values()) - 1)
    for vector, rows in episode.vectors.items():
        std = exam.numbers.moments[vector].std
        scaled = np.diff(rows, axis=0)[: len(speed)] / np.where(std > 1e-9, std, np.inf)
        speed += (scaled**2).sum(axis=1)
    return np.sqrt(speed[stretch.start : stretch.start + len(stretch.changes)])


def _noise_floor(speeds: Sequence[tuple[Stretch, np.ndarray]], slow: float) -> float:
    """Return the median change of images that are no repeats while the robot hardly moves."""
    changes = np.concatenate([s.changes[speed < slow] for s, speed in speeds])
    changes = changes[changes >= FROZEN]
    return float(np.median(changes)) if len(changes) >= MIN_FLOOR else 0.0


def _repeats(changes: np.ndarray, least: float) -> np.ndarray:
    """Return which steps repeat the frame before and are made up for by a change above `least`.

    Args:
        changes: Of the images, (N,).
        least: Change that noise alone does not make. Compression repeats frames in which hardly
            anything moves; the next frame then differs by no more than noise.

    Returns:
        (N,) bool.
    """
    is_repeat = changes < FROZEN
    follows = np.full(len(changes), 0.0)
    after = 0.0
    for step in range(len(changes) - 1, -1, -1):
        after = after if is_repeat[step] else float(changes[step])
        follows[step] = after
    return is_repeat & (follows > least)


def _longest_run(flags: np.ndarray) -> int:
    padded = np.concatenate([[False], flags, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0
