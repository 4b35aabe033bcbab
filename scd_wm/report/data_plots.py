"""Plots of a data set, in the look of `scd_wm.report.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scd_wm.report.items import Drawing
from scd_wm.report.plots import CONSTANT, MODEL, OTHER, QUIET, STYLE, new_figure, to_svg

MAX_HISTOGRAMS = 36  # values of the action that are drawn
COLUMNS = 6
KIND_COLOURS = {"continuous": MODEL, "binary": OTHER, "discrete": OTHER}


def length_histogram(lengths: Sequence[int]) -> str:
    """Draw how long episodes are."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(1, 1, 3.7, 2.2)
        axes.hist(lengths, bins=min(30, max(5, len(set(lengths)))), color=MODEL)
        axes.axvline(float(np.median(lengths)), color=OTHER, linewidth=1.6, dashes=(3, 2))
        axes.set_title("episodes by their steps")
        axes.set_xlabel("steps (dashed: median)")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return to_svg(figure)


def action_histograms(values: Sequence[Mapping[str, Any]]) -> str:
    """Draw a small histogram of each value of the action.

    Args:
        values: What is known of each, with "index", "kind", "bin_low", "bin_high" and "counts".
    """
    shown = values[:MAX_HISTOGRAMS]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    with matplotlib.rc_context(STYLE):
        figure, every = new_figure(rows, columns, 1.75 * columns + 0.3, 1.15 * rows + 0.2)
        for axes, value in zip(every, shown, strict=False):
            _histogram(axes, value)
        for axes in every[len(shown) :]:
            axes.set_axis_off()
        return to_svg(figure)


def lag_plots(diagnosis: Mapping[str, Any]) -> list[Drawing]:
    """Draw at which lag actions explain motion, and motion what cameras show."""
    motion = diagnosis["motion"]
    curves = [
        *motion["actions_to_vectors"],
        *(motion["vectors_to_cameras"] or motion["actions_to_cameras"]),
    ]
    return [
        Drawing(f"{c['cause']} to {c['effect']}", _lag_caption(c), _lag_plot(c))
        for c in curves
        if c["is_seen"]
    ]


def _histogram(axes: Axes, value: Mapping[str, Any]) -> None:
    counts = np.array(value["counts"], dtype=np.float64)
    edges = np.linspace(value["bin_low"], value["bin_high"], len(counts) + 1)
    width = edges[1] - edges[0]
    colour = KIND_COLOURS[value["kind"]]
    axes.bar(edges[:-1], counts / max(counts.max(), 1), width, align="edge", color=colour)
    axes.set_title(f"[{value['index']}] {value['kind']}", fontsize=8.5)
    axes.set_yticks([])
    ends = [value["bin_low"], value["bin_high"]]
    axes.set_xticks(ends, [f"{x:.3g}" for x in ends], fontsize=7.5)
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    axes.grid(False)


def _lag_plot(curve: Mapping[str, Any]) -> str:
    lags, gain = np.array(curve["lags"]), 100 * np.array(curve["gain"])
    colour = OTHER if curve["is_shifted"] else MODEL
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(1, 1, 3.7, 2.3)
        axes.axvline(0, color=QUIET, linewidth=0.9, dashes=(3, 2))
        axes.plot(lags, gain, color=QUIET, linewidth=1.0)
        colours = [colour if lag == curve["best"] else CONSTANT for lag in lags]
        axes.scatter(
            lags, gain, c=colours, s=[46 if c == colour else 14 for c in colours], zorder=3
        )
        axes.set_xticks(lags[::5])
        axes.set_ylim(min(0.0, float(gain.min())) - 1, 1.12 * max(float(gain.max()), 1.0))
        axes.set_title("explained at this lag [%]")
        axes.set_xlabel("steps from cause to effect")
        return to_svg(figure)


def _lag_caption(curve: Mapping[str, Any]) -> str:
    place = f"Best at lag {curve['best']}"
    if curve["best_low"] != curve["best_high"]:
        place += f" (interval {curve['best_low']} to {curve['best_high']})"
    verdict = "clearly better than at 0" if curve["is_shifted"] else "as it should be"
    if curve["best"] and not curve["is_shifted"]:
        verdict = "not clearly better than at 0"
    return f"{place}, {verdict}; from {curve['num_steps']:,} steps."
