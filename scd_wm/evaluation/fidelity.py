"""What an evaluation found of the fidelity that matters to policies, beside the metrics of frames.

Axes: K stretches of the horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scd_wm.evaluation.bootstrap import Interval, finite
from scd_wm.evaluation.calibration import Calibration
from scd_wm.evaluation.counterfactual import Counterfactual
from scd_wm.evaluation.explained import stretch_name, stretches
from scd_wm.evaluation.frechet import FrechetResult


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What was found, and what was not and why."""

    horizons: tuple[int, ...] = ()  # last frames of the stretches
    inverse_dynamics: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    """R2 to the commanded action by what it is read from, model and stretch."""
    reward: Mapping[str, Interval] = field(default_factory=dict)  # R2 by model and stretch
    calibration: tuple[Calibration, ...] = ()
    frechet: tuple[FrechetResult, ...] = ()
    counterfactual: Counterfactual | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)  # what, and why
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return everything in JSON types."""
        names = [stretch_name(s) for s in stretches(self.horizons)]

        def by_stretch(models: Mapping[str, Interval]) -> dict[str, Any]:
            return {model: interval_json(names, interval) for model, interval in models.items()}

        return {
            "inverse_dynamics_r2": {k: by_stretch(v) for k, v in self.inverse_dynamics.items()},
            "reward_r2": by_stretch(self.reward),
            "calibration": {c.event: c.to_json() for c in self.calibration},
            "frechet": [f.to_json() for f in self.frechet],
            "counterfactual": self.counterfactual and self.counterfactual.to_json(),
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }


def interval_json(names: Sequence[str], interval: Interval) -> dict[str, Any]:
    """Return an interval by the names of its entries, in JSON types; NaN is null."""
    return {
        name: {
            "mean": finite(interval.mean[i]),
            "low": finite(interval.low[i]),
            "high": finite(interval.high[i]),
            "num_clips": int(interval.count[i]),
        }
        for i, name in enumerate(names)
    }
