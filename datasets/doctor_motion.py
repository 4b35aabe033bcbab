"""What the doctor measures of motion: when it follows actions, and of what kind the actions are.

Axes: T steps of an episode, K = T or T + 1 stored frames, D values of a vector, A of an action.
By our convention action t leads from frame t to frame t + 1, so motion t, the change between these
frames, belongs to it: lag 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scd_wm.datasets.doctor_actions import ActionStats
from scd_wm.datasets.doctor_images import CameraSurvey
from scd_wm.datasets.doctor_lag import LAGS, LagCurve, Trace, lag_curve
from scd_wm.datasets.doctor_numbers import NumberSurvey, SampleEpisode

MAX_STEPS = 20_000  # of the sample that lags are measured on
MAX_VALUES = 32  # directions of a vector or an action that lags are measured on
MAX_SPEEDS = 8  # the same where the effect is one camera's change
CLIP_SHARE = 0.001  # of motions at each end that count as jumps and are cut
LEVEL, CHANGE = 0.9, 0.4  # correlations from which actions look like positions, like changes
MIN_LIKENESS = 0.1  # of a velocity with that of the step before, from which it is no noise
MAX_REACH = 128  # steps over which likeness of motion is looked for


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What one value of the action resembles most."""

    index: int  # of the action's value
    kind: str  # "position", "change" or "unknown"
    vector: str
    value: int  # of the vector
    correlation: float
    slope: float  # of the action over what it resembles; 1: the same units
    arrives_after: int | None  # steps after which the place resembles the action most


@dataclass(frozen=True, kw_only=True)
class MotionStats:
    """All that is measured of motion."""

    actions_to_vectors: list[LagCurve]  # best explained first
    actions_to_cameras: list[LagCurve]
    vectors_to_cameras: list[LagCurve]
    likeness: list[Likeness]  # of the continuous values of the action
    steps_alike: dict[str, int]  # vector: steps after which its velocity resembles itself no more

    def to_json(self) -> dict[str, Any]:
        """Return all of it in JSON types."""
        return asdict(self) | {
            name: [curve.to_json() for curve in getattr(self, name)]
            for name in ("actions_to_vectors", "actions_to_cameras", "vectors_to_cameras")
        }

    @property
    def action_kind(self) -> str:
        """What most continuous values of the action look like: "position", "change", "unknown"."""
        kinds = [likeness.kind for likeness in self.likeness]
        for kind in ("position", "change"):
            if kinds.count(kind) > len(kinds) / 2:
                return kind
        return "unknown"


def motion_stats(
    numbers: NumberSurvey, actions: ActionStats, cameras: Mapping[str, CameraSurvey]
) -> MotionStats:
    """Measure motion in the sample and in the images looked at."""
    sample = _bounded(numbers.sample)
    moving = [v for v in numbers.vectors if len(numbers.moving(v))]
    curves = [_vector_curve(numbers, sample, vector) for vector in moving]
    seen = sorted((c for c in curves if c), key=lambda curve: -max(curve.gain))
    shift = seen[0].best if seen and seen[0].is_shifted else 0
    causes = {"action": numbers.moving("action"), **{v: numbers.moving(v) for v in moving}}
    by_index = {episode.index: episode for episode in numbers.sample}
    to_cameras = {
        cause: [_camera_curve(cause, chosen, camera, by_index) for camera in cameras.values()]
        for cause, chosen in causes.items()
        if len(chosen)
    }
    best = [max(few, key=lambda c: max(c.gain)) for few in _by_camera(to_cameras, moving) if few]
    return MotionStats(
        actions_to_vectors=seen,
        actions_to_cameras=[c for c in to_cameras.get("action", []) if c],
        vectors_to_cameras=best,
        likeness=_likeness(numbers, sample, actions, shift),
        steps_alike={v: _steps_alike(sample, v, numbers.moving(v)) for v in moving},
    )


def _by_camera(
    curves: Mapping[str, Sequence[LagCurve | None]], vectors: Sequence[str]
) -> list[list[LagCurve]]:
    """Return for each camera the curves of all vectors."""
    columns = zip(*(curves[v] for v in vectors if v in curves), strict=True)
    return [[curve for curve in column if curve] for column in columns]


def _bounded(sample: Sequence[SampleEpisode]) -> list[SampleEpisode]:
    """Return episodes of the sample, spread evenly, of no more than MAX_STEPS steps."""
    total = sum(len(episode.actions) for episode in sample)
    return list(sample[:: max(1, -(-total // MAX_STEPS))])


def _vector_curve(
    numbers: NumberSurvey, sample: Sequence[SampleEpisode], vector: str
) -> LagCurve | None:
    """Measure when a vector follows the actions."""
    having = [episode for episode in sample if vector in episode.vectors]
    if not having:
        return None
    acts = _reduced([e.actions[:, numbers.moving("action")] for e in having])
    places = _reduced([e.vectors[vector][:, numbers.moving(vector)] for e in having])
    motion = _clipped([np.diff(rows, axis=0) for rows in places])
    traces = [
        Trace(cause=a, effect=m, baseline=np.concatenate([p[:-1], _past(m, 1), _past(m, 2)], 1))
        for a, p, m in zip(acts, places, motion, strict=True)
    ]
    return lag_curve("action", vector, traces)


def _camera_curve(
    cause: str, chosen: np.ndarray, camera: CameraSurvey, sample: Mapping[int, SampleEpisode]
) -> LagCurve | None:
    """Measure when a camera's picture changes after an action or with a vector."""
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for stretch in camera.stretches:
        episode = sample.get(stretch.episode)
        if episode is None or (cause != "action" and cause not in episode.vectors):
            continue
        rows = episode.actions if cause == "action" else episode.vectors[cause]
        speed = abs(np.diff(rows[:, chosen], axis=0))
        if cause == "action":  # how far it goes, if it is a change; how far it moves, if a place
            speed = np.concatenate([abs(rows[1:, chosen]), speed], axis=1)
            speed = np.concatenate([np.zeros_like(speed[:1]), speed])
        change = np.sqrt(stretch.changes.astype(np.float64))[:, None]
        part = speed[stretch.start : stretch.start + len(change)]
        pairs.append((np.sqrt(part), change))
    if not pairs:
        return None
    speeds = _reduced([speed for speed, _ in pairs], MAX_SPEEDS)
    return lag_curve(
        cause,
        camera.name,
        [
            Trace(cause=s, effect=c, baseline=np.concatenate([_past(c, 1), _past(c, 2)], axis=1))
            for s, (_, c) in zip(speeds, pairs, strict=True)
        ],
    )


def _past(rows: np.ndarray, steps: int) -> np.ndarray:
    """Return what the rows were so many steps before, and 0 before the first."""
    return np.concatenate([np.zeros_like(rows[:steps]), rows[:-steps]])[: len(rows)]


def _clipped(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return rows with the rarest values cut, so that a few jumps do not decide a regression."""
    low, high = np.quantile(np.concatenate(parts), (CLIP_SHARE, 1 - CLIP_SHARE), axis=0)
    return [part.clip(low, high) for part in parts]


def _reduced(parts: Sequence[np.ndarray], most: int = MAX_VALUES) -> list[np.ndarray]:
    """Return rows with at most `most` values: the directions in which most happens."""
    if parts[0].shape[1] <= most:
        return [part.astype(np.float64) for part in parts]
    every = np.concatenate(parts).astype(np.float64)
    mean, std = every.mean(axis=0), every.std(axis=0)
    std = np.where(std > 1e-9, std, 1.0)
    scaled = (every - mean) / std
    _, vectors = np.linalg.eigh(scaled.T @ scaled)
    return [((part - mean) / std) @ vectors[:, -most:] for part in parts]


def _likeness(
    numbers: NumberSurvey, sample: Sequence[SampleEpisode], actions: ActionStats, shift: int
) -> list[Likeness]:
    """Find what each continuous value of the action resembles: a place or a change of place.

    Args:
        numbers: For which values of the vectors vary.
        sample: Episodes.
        actions: For which values of the action are continuous.
        shift: Steps by which motion comes after the action.
    """
    continuous = actions.of_kind("continuous")
    found: dict[int, list[Likeness]] = {index: [] for index in continuous}
    for vector in numbers.vectors:
        chosen = numbers.moving(vector)
        pairs = [_aligned(e, vector, shift) for e in sample if vector in e.vectors]
        if not len(chosen) or not pairs or not continuous:
            continue
        acts, places, changes = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        for kind, rows in (("position", places), ("change", changes)):
            correlation, slope = _cross(acts[:, continuous], rows[:, chosen])
            for row, index in enumerate(continuous):
                column = int(abs(correlation[row]).argmax())
                found[index].append(
                    Likeness(
                        index=index,
                        kind=kind,
                        vector=vector,
                        value=int(chosen[column]),
                        correlation=float(correlation[row, column]),
                        slope=float(slope[row, column]),
                        arrives_after=None,
                    )
                )
    best = [_most_alike(few) for few in found.values() if few]
    return [replace(x, arrives_after=_arrival(sample, x)) for x in best]


def _arrival(sample: Sequence[SampleEpisode], likeness: Likeness) -> int | None:
    """Return after how many steps a vector's value is most like the action's: when it is there."""
    if likeness.kind != "position":
        return None
    tried: dict[int, float] = {}
    for steps in range(1, LAGS[-1] + 2):
        pairs = [
            (e.actions[: len(rows) - steps, likeness.index], rows[steps : len(e.actions) + steps])
            for e in sample
            if likeness.vector in e.vectors and len(e.actions) > LAGS[-1] + 2
            for rows in [e.vectors[likeness.vector][:, likeness.value]]
        ]
        if pairs:
            action, place = (np.concatenate(p)[:, None] for p in zip(*pairs, strict=True))
            tried[steps] = abs(float(_cross(action, place)[0][0, 0]))
    return max(tried, key=lambda steps: tried[steps]) if tried else None


def _most_alike(candidates: Sequence[Likeness]) -> Likeness:
    """Choose what an action's value resembles, or the nearest, called unknown."""
    place, change = (
        max((c for c in candidates if c.kind == kind), key=lambda c: abs(c.correlation))
        for kind in ("position", "change")
    )
    if abs(place.correlation) >= LEVEL and abs(place.correlation) > abs(change.correlation):
        return place
    if abs(change.correlation) >= CHANGE:
        return change
    nearest = max(place, change, key=lambda c: abs(c.correlation))
    return replace(nearest, kind="unknown")


def _aligned(
    episode: SampleEpisode, vector: str, shift: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return actions, the places they led to and the changes, of the steps that have all."""
    rows = episode.vectors[vector]
    steps = np.arange(max(0, -shift), min(len(episode.actions), len(rows) - 1 - shift))
    after = rows[steps + shift + 1]
    return episode.actions[steps], after, after - rows[steps + shift]


def _cross(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return correlations and slopes of values of `left` over those of `right`."""
    a, b = (x.astype(np.float64) - x.mean(axis=0, dtype=np.float64) for x in (left, right))
    covariance = a.T @ b / max(len(a), 1)
    spread, base = a.std(axis=0)[:, None], b.std(axis=0)[None].clip(1e-12)
    return covariance / (spread.clip(1e-12) * base), covariance / base**2


def _steps_alike(sample: Sequence[SampleEpisode], vector: str, chosen: np.ndarray) -> int:
    """Return after how many steps a vector's velocity has lost half of its likeness with itself.

    Compared with the likeness one step apart, since noise of measurement takes from that of all
    steps alike.
    """
    motion = [np.diff(e.vectors[vector][:, chosen], axis=0) for e in sample if vector in e.vectors]
    every = np.concatenate(motion) if motion else np.zeros((0, len(chosen)))
    scale = every.std(axis=0).clip(1e-12) if len(every) else 1.0
    scaled = [rows.astype(np.float64) / scale for rows in motion]
    first = _likeness_after(scaled, 1)
    if first <= MIN_LIKENESS:
        return 1
    return next(
        (reach for reach in range(2, MAX_REACH) if _likeness_after(scaled, reach) < first / 2),
        MAX_REACH,
    )


def _likeness_after(motion: Sequence[np.ndarray], reach: int) -> float:
    """Return the mean product of a velocity and that of `reach` steps before, over all values."""
    products = [(rows[reach:] * rows[:-reach]).mean(axis=1) for rows in motion]
    every = np.concatenate([np.zeros(0), *products])
    return float(every.mean()) if len(every) else 0.0
