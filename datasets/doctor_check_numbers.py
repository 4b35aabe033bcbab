"""Checks of the doctor on the values of actions and vectors: not finite, constant, jumping."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scd_wm.datasets.doctor_exam import Exam
from scd_wm.datasets.doctor_finding import Finding, dims, listed, plural
from scd_wm.datasets.reader import ACTION

JUMP = 8.0  # times the change that 1 of 100 steps exceeds, above which a change is a jump
JUMP_SHARE = 0.2  # of a value's range, at least, that a jump covers
MAX_HOLD, MIN_HOLDS = 10, 50  # steps between changes that still is motion; how many are needed
HELD_ONCE = 0.2  # share of changes in successive steps, below which a value is held
FAR = 100.0  # times the size that 1 of 100 values exceeds, above which a value is an outlier
TURNS = (2 * np.pi, 360.0)  # one turn, in radians and degrees
LEAP = 0.7  # of a turn, at least, that an angle leaps when it wraps
UNIT = 1e-2  # within which the length of a quaternion is 1
SCALES = 1e4  # ratio of deviations from which scales differ wildly


def check_not_finite(exam: Exam) -> Iterator[Finding]:
    """Find NaN and infinity."""
    rows: dict[str, dict[str, int]] = {}
    for episode in exam.numbers.episodes:
        for key, count in episode.not_finite.items():
            rows.setdefault(key, {})[episode.info.name] = count
    for key, by_episode in rows.items():
        yield Finding(
            code="nan",
            severity="error",
            what=f"{key} is NaN or infinite in {plural(sum(by_episode.values()), 'row')} of "
            f"{plural(len(by_episode), 'episode')} ({listed(list(by_episode))})",
            advice="repair these rows or leave the episodes out: training refuses them",
            episodes=tuple(by_episode),
            keys=(key,),
            numbers={"rows": by_episode},
        )


def check_constant(exam: Exam) -> Iterator[Finding]:
    """Find values that never change."""
    for key in (ACTION, *exam.numbers.vectors):
        if key not in exam.numbers.moments or exam.numbers.moments[key].count < 2:
            continue
        width, moving = len(exam.numbers.moments[key].mean), exam.numbers.moving(key)
        constant = sorted(set(range(width)) - set(moving.tolist()))
        if not constant:
            continue
        whole = len(constant) == width
        is_action = key == ACTION
        part = f"{len(constant)} of {width} values never change: {dims(key, constant)}"
        yield Finding(
            code="constant_action" if is_action else "constant_vector",
            severity="warning" if whole or is_action else "info",
            what=f"{key} never changes" if whole else part,
            advice="the model cannot learn what these do: expect nothing of it when a policy uses "
            "them; if they are not used on your robot, that is fine"
            if is_action
            else f"it says nothing: leave {key} out with --vectors"
            if whole
            else "they cost a little and say nothing; fine if these joints are not used",
            keys=(key,),
            numbers={"values": constant},
        )


def check_jumps(exam: Exam) -> Iterator[Finding]:
    """Find vectors that jump: angles that wrap, quaternions that change sign, and glitches."""
    for vector in exam.numbers.vectors:
        parts = {e.index: e.vectors[vector] for e in exam.numbers.sample if vector in e.vectors}
        parts = {index: rows for index, rows in parts.items() if len(rows) > 1}
        if not parts:
            continue
        if flips := _sign_flips(parts):
            yield _flip_finding(vector, flips)
        if wraps := _wraps(parts):
            yield Finding(
                code="angle_wraps",
                severity="warning",
                what=f"{dims(vector, sorted(wraps))} leaps by a whole turn "
                f"{plural(sum(wraps.values()), 'time')}: an angle that wraps",
                advice="store its sine and cosine in place of it, or unwrap it (np.unwrap) episode "
                "by episode: the model would take the leap for motion",
                keys=(vector,),
                numbers={"times": {str(k): v for k, v in wraps.items()}},
            )
        explained = {v for start, _ in flips for v in range(start, start + 4)} | wraps.keys()
        if jumps := [jump for jump in _jumps(parts) if jump[0] not in explained]:
            yield _jump_finding(exam, vector, jumps)


def check_held(exam: Exam) -> Iterator[Finding]:
    """Find values that are renewed more slowly than the steps come."""
    for vector in exam.numbers.vectors:
        parts = [e.vectors[vector] for e in exam.numbers.sample if vector in e.vectors]
        held: dict[int, float] = {}
        for value in exam.numbers.moving(vector).tolist():
            times = [np.diff(np.flatnonzero(np.diff(rows[:, value]))) for rows in parts]
            between = np.concatenate([np.zeros(0, np.int64), *times])
            between = between[between <= MAX_HOLD]
            if len(between) >= MIN_HOLDS and (between == 1).mean() < HELD_ONCE:
                held[value] = float(between.mean())
        if held:
            every = float(np.median(list(held.values())))
            yield Finding(
                code="held_values",
                severity="warning",
                what=f"{dims(vector, list(held))} changes only every {every:.1f} steps even "
                "while it moves: its sensor is slower than the recording",
                advice=f"--frame-skip {max(2, round(every))} sees each reading about once; or "
                "interpolate between readings before training",
                keys=(vector,),
                numbers={"steps_between_changes": {str(k): v for k, v in held.items()}},
            )


def check_outliers(exam: Exam) -> Iterator[Finding]:
    """Find single values far outside of all others, such as -999 for a failed reading."""
    for key in (ACTION, *exam.numbers.vectors):
        parts = [
            e.actions if key == ACTION else e.vectors[key]
            for e in exam.numbers.sample
            if key == ACTION or key in e.vectors
        ]
        if not parts:
            continue
        rows = np.concatenate(parts)
        low, high = _far_bounds(rows)
        far = (rows < low) | (rows > high)
        if far.any():
            values = np.flatnonzero(far.any(axis=0)).tolist()
            example = float(rows[far][0])
            yield Finding(
                code="outliers",
                severity="warning",
                what=f"{plural(int(far.sum()), 'value')} of {dims(key, values)} lie more than "
                f"{FAR:g} times farther out than 99 of 100, such as {example:g}",
                advice="replace failed readings before training: they blow up the scale of the "
                "whole value",
                keys=(key,),
                numbers={"values": values, "count": int(far.sum()), "example": example},
            )


def check_scales(exam: Exam) -> Iterator[Finding]:
    """Find values of one vector whose scales differ wildly."""
    for key in (ACTION, *exam.numbers.vectors):
        moving = exam.numbers.moving(key)
        if len(moving) < 2:
            continue
        std = exam.numbers.moments[key].std[moving]
        if std.max() > SCALES * std.min():
            yield Finding(
                code="scales",
                severity="info",
                what=f"the values of {key} vary by {std.min():.2g} ([{moving[std.argmin()]}]) to "
                f"{std.max():.2g} ([{moving[std.argmax()]}])",
                advice="each value is scaled by its own deviation here, so the smallest may be "
                "nothing but noise: leave it out if it is",
                keys=(key,),
                numbers={"std_min": float(std.min()), "std_max": float(std.max())},
            )


def _jump_finding(exam: Exam, vector: str, jumps: list[tuple[int, int, int]]) -> Finding:
    names = [exam.episode_name(i) for i in dict.fromkeys(index for _, index, _ in jumps)]
    value, index, frame = jumps[0]
    return Finding(
        code="jumps",
        severity="warning",
        what=f"{vector} jumps {plural(len(jumps), 'time')} "
        f"({dims(vector, sorted({v for v, _, _ in jumps}))}), first [{value}] of "
        f"{exam.episode_name(index)} after frame {frame}",
        advice="look there for lost frames, sensor glitches or a reset in the middle of an "
        "episode; split the episode or leave it out",
        episodes=tuple(names),
        keys=(vector,),
        numbers={"jumps": [list(jump) for jump in jumps[:50]]},
    )


def _flip_finding(vector: str, flips: list[tuple[int, int]]) -> Finding:
    values = [value for start, _ in flips for value in range(start, start + 4)]
    return Finding(
        code="quaternion_flips",
        severity="warning",
        what=f"the quaternion {dims(vector, values)} changes its sign "
        f"{plural(sum(count for _, count in flips), 'time')}",
        advice="q and -q are one rotation: multiply by -1 wherever the product with the row before "
        "is negative, or store a rotation matrix's first two columns",
        keys=(vector,),
        numbers={"flips": {str(start): count for start, count in flips}},
    )


def _sign_flips(parts: dict[int, np.ndarray]) -> list[tuple[int, int]]:
    """Return (first value, times) of every four values that are a quaternion and change sign."""
    width = next(iter(parts.values())).shape[1]
    found: list[tuple[int, int]] = []
    start = 0
    while start + 4 <= width:
        quads = [rows[:, start : start + 4].astype(np.float64) for rows in parts.values()]
        is_unit = all((abs(np.linalg.norm(q, axis=1) - 1) < UNIT).all() for q in quads)
        flips = sum(int(((q[1:] * q[:-1]).sum(axis=1) < -0.5).sum()) for q in quads)
        if is_unit and flips:
            found.append((start, flips))
        start += 4 if is_unit and flips else 1
    return found


def _wraps(parts: dict[int, np.ndarray]) -> dict[int, int]:
    """Return how often each value leaps by a turn, of those that stay within one turn."""
    every = np.concatenate(list(parts.values())).astype(np.float64)
    changes = np.concatenate([np.diff(rows.astype(np.float64), axis=0) for rows in parts.values()])
    span = every.max(axis=0) - every.min(axis=0)
    found: dict[int, int] = {}
    for turn in TURNS:
        leaps = np.abs(changes) > LEAP * turn
        rest = np.abs(changes - turn * np.round(changes / turn))
        is_angle = (span > LEAP * turn) & (span < 1.02 * turn)
        is_angle &= np.quantile(rest, 0.99, axis=0) < (1 - LEAP) * turn
        angles = np.flatnonzero(is_angle & leaps.any(axis=0)).tolist()
        found |= {value: int(leaps[:, value].sum()) for value in angles}
    return found


def _jumps(parts: dict[int, np.ndarray]) -> list[tuple[int, int, int]]:
    """Find changes far larger than usual, as (value, episode, frame); not those to outliers."""
    every = np.concatenate(list(parts.values()))
    changes = np.concatenate([np.abs(np.diff(rows, axis=0)) for rows in parts.values()])
    usual, far = np.quantile(changes, 0.99, axis=0), _far_bounds(every)
    inside = np.where((every >= far[0]) & (every <= far[1]), every, np.nan)
    wide = JUMP_SHARE * (np.nanmax(inside, axis=0) - np.nanmin(inside, axis=0))
    jumps: list[tuple[int, int, int]] = []
    for index, rows in parts.items():
        change = np.abs(np.diff(rows, axis=0))
        is_out = (rows < far[0]) | (rows > far[1])
        large = (change > JUMP * np.maximum(usual, _nearby(change))) & (change > wide)
        large &= (usual > 0) & ~is_out[1:] & ~is_out[:-1]
        jumps += [(value, index, frame) for frame, value in np.argwhere(large).tolist()]
    return jumps


def _far_bounds(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return below and above what a value is an outlier, (D,) each."""
    middle = np.median(rows, axis=0)
    usual = np.quantile(np.abs(rows - middle), 0.99, axis=0)
    reach = np.where(usual > 0, np.maximum(FAR * usual, 1e-3), np.inf)
    return middle - reach, middle + reach


def _nearby(change: np.ndarray) -> np.ndarray:
    """Return the median change two and three steps before and after each step, (T, D).

    A value that settles changes much for some steps in a row, which is no jump.
    """
    padded = np.pad(change, ((3, 3), (0, 0)), constant_values=np.nan)
    shifts = [padded[3 + shift : len(padded) - 3 + shift] for shift in (-3, -2, 2, 3)]
    beside = np.stack(shifts)
    known = np.isfinite(beside).any(axis=0)
    return np.nanmedian(np.where(known, beside, 0.0), axis=0)
