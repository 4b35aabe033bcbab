"""What the doctor suggests to train with, and why."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from scd_wm.datasets.doctor_exam import Exam
from scd_wm.datasets.doctor_finding import Finding, listed, plural
from scd_wm.datasets.doctor_images import SKIPS, CameraSurvey
from scd_wm.datasets.doctor_motion import Likeness
from scd_wm.datasets.measure import MIN_IMAGE_DELTA

VISIBLE = MIN_IMAGE_DELTA * 127.5 / 10  # mean grey levels: a tenth of the picture visibly changes
STEPS_A_TURN = 3  # frames, at least, while motion stays alike
UNKNOWN_SKIP = 4  # the most that is suggested where only images say how much moves
MIN_CLIP, MAX_CLIP = 8, 32  # frames
SAME_UNITS = 0.2  # of the steps a second, within which a slope means velocities
SMALL_SIDE = 64  # pixels, of the preset that is suggested
PATCH = 16  # of that preset


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What to train with."""

    frame_skip: int
    action_mode: str
    num_frames: int  # of a clip; the window is half of it
    cameras: tuple[str, ...]
    vectors: tuple[str, ...]
    image_size: tuple[int, int] | None
    reasons: dict[str, str]  # one sentence on each
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return all of it in JSON types."""
        return asdict(self)


def suggest(exam: Exam, findings: Sequence[Finding]) -> Suggestion:
    """Choose cameras, vectors, frame skip and clip length by what was measured."""
    useless = {f.keys[-1] for f in findings if f.code in ("static_camera", "same_camera")}
    useless |= {
        f.keys[0] for f in findings if f.code == "blank_images" and f.numbers["share"] > 0.5
    }
    cameras = tuple(name for name in exam.numbers.cameras if name not in useless)
    vectors = tuple(name for name in exam.numbers.vectors if len(exam.numbers.moving(name)))
    skip, why_skip = _frame_skip(exam, cameras, findings)
    frames, why_frames = _num_frames(exam, skip)
    mode, why_mode = _action_mode(exam)
    left_out = [
        n for n in (*exam.numbers.cameras, *exam.numbers.vectors) if n not in cameras + vectors
    ]
    why_keys = f"left out: {listed(left_out)}" if left_out else "every camera and vector changes"
    chosen = Suggestion(
        frame_skip=skip,
        action_mode=mode,
        num_frames=frames,
        cameras=cameras,
        vectors=vectors,
        image_size=_image_size([exam.cameras[name] for name in cameras]),
        reasons={
            "frame_skip": why_skip,
            "num_frames": why_frames,
            "action_mode": why_mode,
            "keys": why_keys,
        },
        command="",
    )
    return replace(chosen, command=_command(exam, chosen))


def _frame_skip(exam: Exam, cameras: Sequence[str], findings: Sequence[Finding]) -> tuple[int, str]:
    """Return how many steps to join: until a change shows, but not past where motion is alike."""
    every = [f.numbers["every"] for f in findings if f.code == "frozen_images"]
    if slow := [number for number in every if number]:
        return max(slow), "the camera gives a new picture only so often"
    if not exam.motion.steps_alike:
        skips = [skip for skip in SKIPS if skip <= UNKNOWN_SKIP]
        why = "no vector says how long motion stays alike"
    else:
        alike = min(exam.motion.steps_alike.values())
        least = int(np.clip(alike // STEPS_A_TURN, 1, SKIPS[-1]))
        skips = [least, *(skip for skip in SKIPS if least < skip <= alike // 2)]
        why = f"motion stays alike for {plural(alike, 'step')}, of which a frame may join {least}"
    changes = [_median_change(exam, cameras, skip) for skip in skips]
    first = changes[0]
    if first is None or first >= VISIBLE:
        return skips[0], why
    visible = [s for s, c in zip(skips, changes, strict=True) if c is not None and c >= VISIBLE]
    why += f"; images so far apart differ by only {first:.2g} grey levels"
    return (visible or skips)[0 if visible else -1], why


def _median_change(exam: Exam, cameras: Sequence[str], skip: int) -> float | None:
    """Return the median change between images so far apart, of the camera that sees most."""
    medians = [
        float(np.median([s.change_at_skip[skip] for s in stretches]))
        for name in cameras
        if (stretches := [s for s in exam.cameras[name].stretches if skip in s.change_at_skip])
    ]
    return max(medians, default=None)


def _num_frames(exam: Exam, skip: int) -> tuple[int, str]:
    """Return the frames of a clip: twice what the window must hold."""
    alike = max(exam.motion.steps_alike.values(), default=1)
    lag = max((abs(c.best) for c in exam.motion.actions_to_vectors if c.is_shifted), default=0)
    window = max(MIN_CLIP // 2, -(-max(alike, lag + 2) // skip))
    lengths = exam.numbers.lengths // skip + 1
    longest = int(np.quantile(lengths, 0.1)) if len(lengths) else MAX_CLIP
    frames = int(np.clip(2 * window, 2, max(2, min(MAX_CLIP, longest))))
    known = f"motion stays alike for {plural(alike, 'step')}"
    reason = known if exam.motion.steps_alike else "no vector says how long motion stays alike"
    reason += f" and comes {lag} late" if lag else ""
    cut = ", as far as short episodes allow" if frames == longest < 2 * window else ""
    return frames, f"{reason}; the window is half of the clip{cut}"


def _action_mode(exam: Exam) -> tuple[str, str]:
    """Return how to join the actions of several steps, value by value where they differ."""
    kinds = {x.index: _mode_of(x, exam.numbers.info.fps) for x in exam.motion.likeness}
    modes = [
        kinds.get(value.index) if value.kind == "continuous" else "last"
        for value in exam.actions.values
    ]
    if not kinds or None in modes:
        return "stack", "what actions mean is not clear, and all of them is always right"
    runs = [(mode, len(list(group))) for mode, group in groupby(modes)]
    text = ",".join(f"{mode}*{count}" if count > 1 else str(mode) for mode, count in runs)
    words = {"last": "places, of which the last counts", "sum": "changes, which add up"}
    words["mean"] = "velocities, of which the mean counts"
    seen = " and ".join(words[mode] for mode in dict.fromkeys(kinds.values()) if mode)
    single = str(runs[0][0]) if len(runs) == 1 else text
    return single, f"actions look like {seen}; stack is always right, with a wider action"


def _mode_of(likeness: Likeness, fps: float | None) -> str | None:
    """Return how to join the values of an action that resembles this; None if not known."""
    if likeness.kind == "position":
        return "last"
    if likeness.kind == "change":
        is_rate = fps is not None and abs(abs(likeness.slope) / fps - 1) < SAME_UNITS
        return "mean" if is_rate else "sum"
    return None


def _image_size(cameras: Sequence[CameraSurvey]) -> tuple[int, int] | None:
    """Return a small size of the same shape that patches divide, for all cameras."""
    if not cameras:
        return None
    height, width = cameras[0].shape[:2]
    factor = min(1.0, SMALL_SIDE / max(height, width))
    if height * factor < PATCH or width * factor < PATCH:
        factor = PATCH / min(height, width)
    return (
        max(PATCH, round(height * factor / PATCH) * PATCH),
        max(PATCH, round(width * factor / PATCH) * PATCH),
    )


def _command(exam: Exam, chosen: Suggestion) -> str:
    """Return a command line that trains with what is suggested."""
    words = ["scd-wm", "train", str(exam.numbers.info.path), "--out", "runs/first"]
    words += ["--preset", "tiny" if chosen.cameras else "state"]
    if chosen.cameras:
        words += ["--cameras", ",".join(chosen.cameras)]
    words += ["--vectors", ",".join(chosen.vectors) or "none"]
    if chosen.image_size is not None:
        words += ["--image-size", "x".join(map(str, chosen.image_size))]
    if chosen.frame_skip > 1:
        words += ["--frame-skip", str(chosen.frame_skip), "--action-mode", chosen.action_mode]
    window = max(1, chosen.num_frames // 2)
    return shlex.join([*words, f"num_frames={chosen.num_frames}", f"window={window}"])
