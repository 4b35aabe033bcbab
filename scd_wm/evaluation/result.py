"""What an evaluation found: numbers by metric, model and horizon, as JSON and as a short table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scd_wm.evaluation.bootstrap import Interval, finite
from scd_wm.evaluation.fidelity import Fidelity
from scd_wm.evaluation.scores import MetricInfo
from scd_wm.evaluation.uncertainty import UncertaintyResult

WORLD_MODEL, COPY_LAST, SHUFFLED = "world_model", "copy_last", "shuffled_actions"
ZERO = "zero_action"
CONSTANT = "best_constant"
ROUND_TRIP = "round_trip"  # no null model but a ceiling: of latents nothing better can be seen
REAL = "real_frames"  # no model: what a reading of imagined frames gives on real ones
OTHER_CLIP = "other_clip"  # the world model's pictures beside its vectors of another clip
MODEL_LABELS = {
    WORLD_MODEL: "world model",
    COPY_LAST: "last frame copied",
    SHUFFLED: "shuffled actions",
    ZERO: "zero action",
    CONSTANT: "best constant",
    ROUND_TRIP: "autoencoder round trip",
    REAL: "real frames",
    OTHER_CLIP: "another clip's vector",
}


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """One metric: every model's mean over clips, and how the world model differs from each null."""

    info: MetricInfo
    models: Mapping[str, Interval]  # index h - 1 is horizon h
    differences: Mapping[str, Interval]  # null: world model minus null model, on the same clips

    def verdict(self, null: str, horizon: int) -> str:
        """Return "better", "worse" or "open" (the interval holds 0) for the world model."""
        difference = self.differences[null]
        if not difference.excludes_zero(horizon - 1):
            return "open"
        higher = bool(difference.mean[horizon - 1] > 0)
        return "better" if higher == (self.info.better == "higher") else "worse"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that an evaluation found, with what is needed to repeat it."""

    horizons: tuple[int, ...]  # ascending
    horizons_left_out: tuple[int, ...]  # asked for, but most episodes are too short
    history: int  # real frames given
    seed: int
    clips: tuple[tuple[str, int], ...]  # episode and first frame of the history of each clip
    metrics: Mapping[str, MetricResult]  # by name, most telling first
    uncertainty: tuple[UncertaintyResult, ...] = ()  # () where the model does not know its data
    fidelity: Fidelity = field(default_factory=Fidelity)

    @property
    def num_clips(self) -> int:
        """Clips imagined."""
        return len(self.clips)

    @property
    def num_episodes(self) -> int:
        """Episodes that they come from."""
        return len({episode for episode, _ in self.clips})

    def mean(self, metric: str, horizon: int, model: str = WORLD_MODEL) -> float:
        """Return a mean over clips.

        Raises:
            KeyError: If there is no such metric, model or horizon.
        """
        if metric not in self.metrics:
            raise KeyError(f"no metric {metric!r}; there are {list(self.metrics)}")
        if model not in self.metrics[metric].models:
            raise KeyError(
                f"no {model!r} of {metric}; there are {list(self.metrics[metric].models)}"
            )
        if not 1 <= horizon <= self.horizons[-1]:
            raise KeyError(f"no horizon {horizon}; there are 1 to {self.horizons[-1]}")
        return float(self.metrics[metric].models[model].mean[horizon - 1])

    def to_json(self) -> dict[str, Any]:
        """Return everything at the horizons in JSON types; a number that is not there is null."""
        return {
            "num_clips": self.num_clips,
            "num_episodes": self.num_episodes,
            "history": self.history,
            "horizons": list(self.horizons),
            "horizons_left_out": list(self.horizons_left_out),
            "seed": self.seed,
            "intervals": self.interval_text,
            "clips": [{"episode": name, "start": start} for name, start in self.clips],
            "metrics": {name: self._metric_json(m) for name, m in self.metrics.items()},
            "uncertainty": [result.to_json() for result in self.uncertainty],
            "fidelity": self.fidelity.to_json(),
        }

    @property
    def interval_text(self) -> str:
        """Say in words what the intervals are."""
        unit = "episodes" if self.num_episodes > 1 else "clips of the one episode"
        return f"95 % bootstrap over {unit}; differences are paired by clip"

    def _metric_json(self, result: MetricResult) -> dict[str, Any]:
        info = result.info
        return {
            "label": info.label,
            "unit": info.unit,
            "better": info.better,
            "models": {k: self._interval_json(v) for k, v in result.models.items()},
            "world_model_minus": {k: self._interval_json(v) for k, v in result.differences.items()},
        }

    def _interval_json(self, interval: Interval) -> dict[str, Any]:
        at_horizons = {
            str(h): {
                "mean": finite(interval.mean[h - 1]),
                "low": finite(interval.low[h - 1]),
                "high": finite(interval.high[h - 1]),
                "num_clips": int(interval.count[h - 1]),
            }
            for h in self.horizons
        }
        return at_horizons | {"all_frames": {"mean": finite(mean_of_all_frames(interval))}}


def short_table(evaluation: Evaluation) -> str:
    """Return a table for the terminal.

    It holds the world model's means and, in brackets, differences from the last frame copied. A
    star marks differences whose interval excludes 0.
    """
    header = ["", *(f"h = {h}" for h in evaluation.horizons)]
    rows = [header]
    for metric in evaluation.metrics.values():
        if not metric.info.label.endswith("mean absolute error"):
            rows.append([_title(metric.info), *(_cell(metric, h) for h in evaluation.horizons)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            c.rjust(w) if i else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    note = (
        f"{evaluation.num_clips} clips of {evaluation.num_episodes} episode(s). In brackets: "
        f"minus {MODEL_LABELS[COPY_LAST]}; * the 95 % interval excludes 0"
    )
    lines = [lines[0], "-" * len(lines[0]), *lines[1:], note]
    if evaluation.horizons_left_out:
        names = ", ".join(map(str, evaluation.horizons_left_out))
        lines.append(f"left out: horizons {names} (fewer than half of the episodes reach them)")
    for result in evaluation.uncertainty[:1]:
        lines.append(f"uncertainty against {result.info.label}: {result.sentence}")
    return "\n".join(lines)


def mean_of_all_frames(interval: Interval) -> float:
    """Return the mean over clips and all imagined frames, NaN where no clip counts."""
    counted = interval.count > 0
    if not counted.any():
        return math.nan
    return float(np.average(interval.mean[counted], weights=interval.count[counted]))


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent where that reads well."""
    if not math.isfinite(value):
        return "-"
    size = abs(value)
    if size >= 100 or size == 0:
        return f"{value:.0f}"
    if size < 0.001:
        return f"{value:.1e}"
    return f"{value:.{2 - math.floor(math.log10(size))}f}"


def _title(info: MetricInfo) -> str:
    return f"{info.label} [{info.unit}]" if info.unit else info.label


def _cell(metric: MetricResult, horizon: int) -> str:
    own = number(float(metric.models[WORLD_MODEL].mean[horizon - 1]))
    if COPY_LAST not in metric.differences:
        return own
    difference = float(metric.differences[COPY_LAST].mean[horizon - 1])
    if not math.isfinite(difference):
        return own
    star = "*" if metric.differences[COPY_LAST].excludes_zero(horizon - 1) else ""
    sign = "+" if difference >= 0 else ""
    return f"{own} ({sign}{number(difference)}{star})"
