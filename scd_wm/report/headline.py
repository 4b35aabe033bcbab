"""The few numbers of an evaluation that say how good a world model is, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scd_wm.evaluation.result import (
    COPY_LAST,
    MODEL_LABELS,
    SHUFFLED,
    WORLD_MODEL,
    Evaluation,
    MetricResult,
    mean_of_all_frames,
    number,
)

HORIZON = 16  # at which the headline is given, or the longest below
MAX_FACTS = 4
PHRASES = {COPY_LAST: "copying the last frame", SHUFFLED: "itself under shuffled actions"}
FIRST = (  # most telling first; energy scores are there where several futures were imagined
    *("energy_px/", "position_px/", "energy/", "position/"),
    *("moving_psnr/", "rmse/", "psnr/"),
)


@dataclass(frozen=True)
class Bar:
    """One model's value beside the others'."""

    model: str
    label: str
    text: str
    share: float  # of the longest bar, 0 to 1


@dataclass(frozen=True)
class Verdict:
    """How the world model compares with a null model."""

    kind: str  # "better", "worse" or "open"
    text: str


@dataclass(frozen=True)
class Fact:
    """One number that matters, beside its null models."""

    metric: str
    title: str
    value: str
    unit: str
    horizon: int
    note: str
    bars: tuple[Bar, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class ComparedMetric:
    """A metric of several runs."""

    label: str
    horizon: int
    cells: tuple[
        tuple[str, str], ...
    ]  # of each run: its value and copy-last's; "" where it has none


def headline_horizon(evaluation: Evaluation) -> int:
    """Return the horizon at which the headline is given."""
    return max((h for h in evaluation.horizons if h <= HORIZON), default=evaluation.horizons[0])


def headline_metrics(evaluation: Evaluation) -> list[str]:
    """Return the metrics of the headline: positions first, then pictures and vectors."""
    horizon = headline_horizon(evaluation)
    ranked = [
        name
        for prefix in FIRST
        for name in evaluation.metrics
        if name.startswith(prefix) and math.isfinite(evaluation.mean(name, horizon))
    ]
    return ranked[:MAX_FACTS]


def headline(evaluation: Evaluation) -> list[Fact]:
    """Return the numbers that matter."""
    return [_fact(evaluation, name) for name in headline_metrics(evaluation)]


def comparison(evaluations: Sequence[Evaluation]) -> list[ComparedMetric]:
    """Return the headline metrics of several runs."""
    names = dict.fromkeys(n for e in evaluations for n in headline_metrics(e))
    return [_compare(name, evaluations) for name in names]


def _compare(name: str, evaluations: Sequence[Evaluation]) -> ComparedMetric:
    first = next(e for e in evaluations if name in e.metrics)
    info = first.metrics[name].info
    horizon = headline_horizon(first)
    cells = []
    for evaluation in evaluations:
        if name in evaluation.metrics and horizon <= evaluation.horizons[-1]:
            own, copied = (evaluation.mean(name, horizon, m) for m in (WORLD_MODEL, COPY_LAST))
            cells.append((number(own), number(copied)))
        else:
            cells.append(("", ""))
    label = f"{info.label} [{info.unit}]" if info.unit else info.label
    return ComparedMetric(label, horizon, tuple(cells))


def _fact(evaluation: Evaluation, name: str) -> Fact:
    metric, horizon = evaluation.metrics[name], headline_horizon(evaluation)
    means = {m: float(interval.mean[horizon - 1]) for m, interval in metric.models.items()}
    longest = max((abs(v) for v in means.values() if math.isfinite(v)), default=0.0)
    bars = tuple(
        Bar(
            m, MODEL_LABELS[m], number(v), abs(v) / longest if longest and math.isfinite(v) else 0.0
        )
        for m, v in means.items()
    )
    return Fact(
        metric=name,
        title=metric.info.label,
        value=number(means[WORLD_MODEL]),
        unit=metric.info.unit,
        horizon=horizon,
        note=_note(evaluation, name),
        bars=bars,
        verdicts=tuple(_verdict(metric, m, horizon) for m in (COPY_LAST, SHUFFLED) if m in means),
    )


def _note(evaluation: Evaluation, name: str) -> str:
    """Say in how many frames an object was found, beside its position error."""
    found = evaluation.metrics.get(name.replace("position_px/", "found/"))
    if not name.startswith("position_px/") or found is None:
        return ""
    return f"found in {100 * mean_of_all_frames(found.models[WORLD_MODEL]):.0f} % of all frames"


def _verdict(metric: MetricResult, null: str, horizon: int) -> Verdict:
    difference = metric.differences[null]
    low, high = (float(x[horizon - 1]) for x in (difference.low, difference.high))
    kind, other = metric.verdict(null, horizon), PHRASES[null]
    unit = f" {metric.info.unit}" if metric.info.unit else ""
    if kind == "open":
        return Verdict(
            kind, f"not clearly different from {other} ({number(low)} to {number(high)}{unit})"
        )
    near, far = sorted((abs(low), abs(high)))
    return Verdict(kind, f"{kind} than {other} by {number(near)} to {number(far)}{unit}")
