"""Plots of the fidelity that matters to policies, in the look of `scd_wm.report.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from scd_wm.evaluation.bootstrap import Interval
from scd_wm.evaluation.calibration import Calibration
from scd_wm.evaluation.counterfactual import Divergence
from scd_wm.evaluation.explained import stretch_name, stretches
from scd_wm.report.plots import (
    CONSTANT,
    INK,
    MODEL,
    QUIET,
    ROLE_COLOURS,
    STYLE,
    new_figure,
    to_svg,
)

LOWEST_R2 = -1.0  # what is worse is drawn there: how much worse than nothing does not matter
SPREAD = 0.07  # by which models stand apart beside each other, of a stretch
LARGEST, SMALLEST = 90.0, 14.0  # dots of bins, in square points


def explained_by_stretch(
    title: str, models: Mapping[str, Interval], horizons: Sequence[int]
) -> str:
    """Draw R2 over the stretches of the horizon for every model, with 95 % intervals as bars."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(1, 1, 3.7, 2.5)
        places = np.arange(len(horizons), dtype=np.float64)
        for i, (model, interval) in enumerate(reversed(list(models.items()))):
            x = places + SPREAD * (i - (len(models) - 1) / 2)
            mean, low, high = (
                np.maximum(v, LOWEST_R2) for v in (interval.mean, interval.low, interval.high)
            )
            colour = ROLE_COLOURS.get(model, CONSTANT)
            axes.vlines(x, low, high, color=colour, linewidth=1.2, alpha=0.45)
            axes.plot(x, mean, "o-", color=colour, markersize=3.5, linewidth=1.4)
        axes.axhline(0, color=QUIET, linewidth=0.8, dashes=(3, 2))
        axes.set_xticks(places, [stretch_name(s) for s in stretches(horizons)])
        axes.set_ylim(LOWEST_R2 - 0.05, 1.05)
        axes.set_title(title)
        axes.set_xlabel("frames imagined (higher is better, 1 is perfect)")
        return to_svg(figure)


def reliability_curve(curve: Calibration) -> str:
    """Draw how often an event happened over the probability said, dots by their frames."""
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure, (axes,) = new_figure(1, 1, 3.7, 2.5)
        full = curve.count > 0
        share = curve.count[full] / curve.count.max()
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, dashes=(3, 2))
        x, low, high = curve.predicted[full], curve.low[full], curve.high[full]
        axes.vlines(x, low, high, color=MODEL, linewidth=1.2, alpha=0.45)
        sizes = SMALLEST + (LARGEST - SMALLEST) * share
        axes.scatter(x, curve.happened[full], s=sizes, color=MODEL, alpha=0.8)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(f"{curve.event}: how often it happened")
        axes.set_xlabel("probability imagined (dashed: as it should be)")
        return to_svg(figure)


def divergence_scatter(divergence: Divergence, horizon: int) -> str:
    """Draw the imagined difference between two futures over the real one, a dot a pair."""
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure, (axes,) = new_figure(1, 1, 3.7, 2.5)
        known = np.isfinite(divergence.real) & np.isfinite(divergence.imagined)
        real, imagined = divergence.real[known], divergence.imagined[known]
        axes.scatter(real, imagined, s=12, color=MODEL, alpha=0.7)
        if len(real):
            reach = 1.05 * float(real.max())
            axes.plot([0, reach], [0, reach], color=INK, linewidth=0.9, dashes=(3, 2))
            axes.axhline(0, color=QUIET, linewidth=0.9)
        unit = f" [{divergence.unit}]" if divergence.unit else ""
        axes.set_title(f"{divergence.label}: imagined difference{unit}")
        axes.set_xlabel(f"real difference, {horizon} frames ahead (dashed: equal)")
        return to_svg(figure)
