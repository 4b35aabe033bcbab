"""Plots of policies really and in imagination, in the look of `scd_wm.report.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from scd_wm.evaluation.result import MODEL_LABELS
from scd_wm.report.plots import MODEL, QUIET, ROLE_COLOURS, STYLE, new_figure, to_svg

MARGIN = 0.04  # around success rates, so that those of 0 and 1 are whole
BOTH_GRIDS = {**STYLE, "axes.grid.axis": "both"}


def success_scatter(policies: Sequence[Mapping[str, Any]], worlds: Sequence[str]) -> str:
    """Draw imagined success of policies over real success, a plot for each imagined world.

    Args:
        policies: Of each what it came to by world, with "success_rate" and "success_interval".
        worlds: Imagined ones.
    """
    with matplotlib.rc_context(BOTH_GRIDS):
        figure, every = new_figure(1, len(worlds), 3.0 * len(worlds), 3.1)
        for axes, world in zip(every, worlds, strict=True):
            _diagonal(axes, -MARGIN, 1 + MARGIN)
            _points(axes, policies, world, "success_rate", "success_interval")
            axes.set_xlim(-MARGIN, 1 + MARGIN)
            axes.set_ylim(-MARGIN, 1 + MARGIN)
            axes.set_ylabel("imagined success" if axes is every[0] else "")
            axes.set_xlabel("real success")
        return to_svg(figure)


def return_scatter(policies: Sequence[Mapping[str, Any]], worlds: Sequence[str]) -> str:
    """Draw imagined returns over real ones, as `success_scatter` with "mean_return"."""
    ends = [
        x for p in policies for w in ("real", *worlds) for x in p[w]["return_interval"] or [0.0]
    ]
    with matplotlib.rc_context(BOTH_GRIDS):
        figure, every = new_figure(1, len(worlds), 3.0 * len(worlds), 3.1)
        for axes, world in zip(every, worlds, strict=True):
            _diagonal(axes, min(ends), max(ends))
            _points(axes, policies, world, "mean_return", "return_interval")
            axes.set_ylabel("imagined return" if axes is every[0] else "")
            axes.set_xlabel("real return")
        return to_svg(figure)


def calibration_curve(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw how often episodes really succeed over how likely that was called.

    Args:
        bins: From `scd_wm.evaluation.success_calibration`.
    """
    x, y = (np.array([b[name] for b in bins]) for name in ("predicted", "success_rate"))
    low, high = np.array([b["interval"] for b in bins]).T
    count = np.array([b["episodes"] for b in bins])
    with matplotlib.rc_context(BOTH_GRIDS):
        figure, (axes,) = new_figure(1, 1, 3.7, 3.4)
        _diagonal(axes, 0, 1)
        axes.vlines(x, low, high, color=MODEL, alpha=0.5, linewidth=1.2)
        axes.plot(x, y, color=MODEL, linewidth=1.0)
        axes.scatter(x, y, s=16 + 120 * count / count.max(), color=MODEL, zorder=3)
        for at, height, number in zip(x, y, count, strict=True):
            _write(axes, str(number), at, height)
        axes.set_xlim(-MARGIN, 1 + MARGIN)
        axes.set_ylim(-MARGIN, 1 + MARGIN)
        axes.set_xlabel("predicted chance of success")
        axes.set_ylabel("share that really succeeds")
        return to_svg(figure)


def _points(
    axes: Axes, policies: Sequence[Mapping[str, Any]], world: str, name: str, interval: str
) -> None:
    """Draw policies, by number, with intervals both ways."""
    colour = ROLE_COLOURS[world]
    numbers: dict[tuple[float, float], list[int]] = {}  # of the policies at each place
    for number, policy in enumerate(policies, start=1):
        real, imagined = policy["real"], policy[world]
        x, y = real[name], imagined[name]
        axes.hlines(y, *real[interval], color=colour, alpha=0.4, linewidth=1.2)
        axes.vlines(x, *imagined[interval], color=colour, alpha=0.4, linewidth=1.2)
        axes.plot(x, y, "o", color=colour, markersize=5)
        numbers.setdefault((x, y), []).append(number)
    for (x, y), there in numbers.items():
        _write(axes, ", ".join(map(str, there)), x, y)
    axes.set_title(MODEL_LABELS[world])


def _diagonal(axes: Axes, low: float, high: float) -> None:
    axes.plot([low, high], [low, high], color=QUIET, linewidth=0.8, dashes=(3, 3))


def _write(axes: Axes, text: str, x: float, y: float) -> None:
    axes.annotate(text, (x, y), (5, 4), textcoords="offset points", fontsize=8.5)
