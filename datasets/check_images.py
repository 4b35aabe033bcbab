"""Checks of the doctor on what cameras show: nothing, the dark, a frozen picture, the same twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scd_wm.datasets.doctor_exam import Exam
from scd_wm.datasets.doctor_finding import Finding, listed
from scd_wm.datasets.doctor_images import CameraSurvey, Stretch

DARK, BRIGHT = 12.0, 243.0  # mean grey levels
BLANK = 2.0  # deviation of grey levels below which an image shows nothing
STATIC, NEARLY_STATIC = 0.02, 0.1  # grey levels of change of nearly all frames
FROZEN = 0.01  # grey levels of change below which a frame repeats the one before
FROZEN_SHARE = 0.05  # of the steps in which the robot moves
MOVING = 0.3  # of the median speed, above which the robot moves
FROZEN_RUN = 3  # repeated frames in a row that make a freeze
PATCH = 8  # side of the patches that most presets cut images into, pixels


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
                what=f"{'nothing' if never else 'hardly anything'} moves in {camera.name} (99 of 100"
                f" images change by less than {max(high, 0.01):.2g} grey levels)",
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
        steps = [(s, _moves(exam, s)) for s in camera.stretches]
        known = [(s, moves) for s, moves in steps if moves is not None and moves.any()]
        if not known or float(np.quantile(camera.joined("changes"), 0.99)) < STATIC:
            continue
        repeats = [(s, (s.changes < FROZEN) & moves, moves) for s, moves in known]
        share = sum(r.sum() for _, r, _ in repeats) / sum(m.sum() for _, _, m in repeats)
        every = _alternates([(s.changes < FROZEN)[m] for s, _, m in repeats])
        frozen = [s for s, r, _ in repeats if _longest_run(r) >= FROZEN_RUN]
        if share > FROZEN_SHARE or (frozen and not every):
            yield _frozen_finding(exam, camera, frozen, float(share), every)


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


def _frozen_finding(
    exam: Exam, camera: CameraSurvey, frozen: list[Stretch], share: float, every: int | None
) -> Finding:
    names = [exam.episode_name(s.episode) for s in frozen]
    rhythm = f"; regularly, {every} frames alike" if every else ""
    where = f"; frozen for {FROZEN_RUN} frames or more in {listed(names)}" if names else ""
    return Finding(
        code="frozen_images",
        severity="warning",
        what=f"{camera.name} repeats the frame before in {share:.0%} of the steps in which the "
        f"robot moves{rhythm}{where if not every else ''}",
        advice=f"the camera is slower than the control: --frame-skip {every} uses each picture once"
        if every
        else "frames were lost while recording: leave these episodes out, or record with time "
        "stamps and pick the nearest picture",
        episodes=tuple(names),
        keys=(camera.name,),
        numbers={"share": share, "every": every},
    )


def _moves(exam: Exam, stretch: Stretch) -> np.ndarray | None:
    """Return in which steps of a stretch the robot moves, (N - 1,) bool; None if not known."""
    sample = {e.index: e for e in exam.numbers.sample}
    episode = sample.get(stretch.episode)
    if episode is None or not episode.vectors:
        return None
    speed = np.zeros(min(len(v) for v in episode.vectors.values()) - 1)
    for vector, rows in episode.vectors.items():
        std = exam.numbers.moments[vector].std
        scaled = np.diff(rows, axis=0)[: len(speed)] / np.where(std > 1e-9, std, np.inf)
        speed += (scaled**2).sum(axis=1)
    part = np.sqrt(speed[stretch.start : stretch.start + len(stretch.changes)])
    usual = float(np.median(part)) if len(part) else 0.0
    return part > max(MOVING * usual, 1e-6)


def _alternates(repeats: list[np.ndarray]) -> int | None:
    """Return after how many frames a new picture comes, if that is regular: 2, 3, 4 or None."""
    flags = np.concatenate(repeats)
    for every in (2, 3, 4):
        share = float(flags.mean())
        if abs(share - (every - 1) / every) < 0.08:
            later = np.concatenate([r[every:] == r[:-every] for r in repeats if len(r) > every])
            if len(later) and later.mean() > 0.85:
                return every
    return None


def _longest_run(flags: np.ndarray) -> int:
    padded = np.concatenate([[False], flags, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0
