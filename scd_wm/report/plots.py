"""Plots as inline SVG that follows the page's light or dark colours.

matplotlib draws with fixed placeholder colours, and `to_svg` replaces each by a CSS variable of the
page. Figures are made without pyplot, so nothing is kept between calls.

Axes: T frames, S futures imagined from one start, D values of a vector.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scd_wm.evaluation.result import (
    COPY_LAST,
    REAL,
    ROUND_TRIP,
    SHUFFLED,
    WORLD_MODEL,
    ZERO,
    MetricResult,
)
from scd_wm.evaluation.uncertainty import UncertaintyResult

Array = NDArray[np.float64]

INK, QUIET, LINE = "#010101", "#020202", "#030303"  # text, secondary text, grid
MODEL, COPIED, OTHER, CONSTANT = "#040404", "#050505", "#060606", "#070707"
CEILING, NONE = "#080808", "#090909"
CSS_NAMES = {
    INK: "--ink",
    QUIET: "--quiet",
    LINE: "--line",
    MODEL: "--model",
    COPIED: "--copy",
    OTHER: "--shuffled",
    CONSTANT: "--constant",
    CEILING: "--ceiling",
    NONE: "--zero",
}
ROLE_COLOURS = {
    WORLD_MODEL: MODEL,
    COPY_LAST: COPIED,
    SHUFFLED: OTHER,
    ZERO: NONE,
    ROUND_TRIP: CEILING,
    REAL: CEILING,
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "scd_wm",  # so that the same plot is the same file
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": QUIET,
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}
PIXELS_PER_POINT = 1.35  # at which 9 points are as large as the page's small text
SHARES = (0, 0.5, 0.9, 0.99, 0.999)  # ticks of uncertainty
LAST_SHARE = 0.9999  # greater uncertainties are drawn here
MAX_VALUES = 12  # of a vector drawn in one plot; those that vary most


@dataclass(frozen=True)
class View:
    """Bounds of a plane; a pair in falling order turns its axis round."""

    x: tuple[float, float]
    y: tuple[float, float]


def error_curve(metric: MetricResult, horizons: Sequence[int]) -> str:
    """Draw a metric over the horizon for every model, with 95 % intervals as bands.

    Args:
        metric: The result.
        horizons: Where numbers are given; ticks of the plot.
    """
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(1, 1, 3.7, 2.5)
        for model, interval in reversed(list(metric.models.items())):
            known = interval.count > 0  # some metrics are taken at the horizons only
            steps = np.flatnonzero(known) + 1
            colour = ROLE_COLOURS.get(model, CONSTANT)
            low, high = interval.low[known], interval.high[known]
            axes.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(steps, interval.mean[known], color=colour)
        unit = f" [{metric.info.unit}]" if metric.info.unit else ""
        arrow = "higher is better" if metric.info.better == "higher" else "lower is better"
        axes.set_title(metric.info.label + unit)
        axes.set_xlabel(f"frames imagined ({arrow})")
        _ticks(axes, horizons)
        if metric.info.bounds:
            axes.set_ylim(*metric.info.bounds)
        return to_svg(figure)


def uncertainty_scatter(result: UncertaintyResult, horizon: int) -> str:
    """Draw the error of each clip's frame at a horizon over the model's uncertainty of it.

    The axis of uncertainty is that of how many frames are less familiar, so that 0.99 is as far
    from 0.9 as 0.9 from 0.

    Args:
        result: The result.
        horizon: Frames ahead.
    """
    size = -1.0 if result.info.better == "higher" else 1.0
    unit = f" [{result.info.unit}]" if result.info.unit else ""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(1, 1, 3.7, 2.5)
        rarer = 1 - np.minimum(result.uncertainty[:, horizon - 1], LAST_SHARE)
        axes.scatter(rarer, size * result.error[:, horizon - 1], s=12, color=MODEL, alpha=0.7)
        axes.set_xscale("log")
        axes.set_xlim(1.2, (1 - LAST_SHARE) / 1.5)
        axes.set_xticks([1 - x for x in SHARES], [f"{x:g}" for x in SHARES])
        axes.minorticks_off()
        axes.set_title(result.info.label + unit)
        axes.set_xlabel(f"uncertainty, {horizon} frames ahead")
        return to_svg(figure)


def training_curve(log: Sequence[Mapping[str, Any]]) -> str | None:
    """Draw training and held-out loss over steps; None if the log has no loss.

    Args:
        log: Lines of a run's log.jsonl, with "step", "loss" and sometimes "val_loss".
    """
    lines = [x for x in log if "loss" in x]
    if len(lines) < 2:
        return None
    held_out = [x for x in log if "val_loss" in x]
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(1, 1, 7.6, 2.6)
        steps, losses = _columns(lines, "step", "loss")
        axes.plot(steps, losses, color=QUIET, linewidth=0.8, alpha=0.5)
        axes.plot(steps, _smooth(losses), color=MODEL)
        if held_out:
            axes.plot(*_columns(held_out, "step", "val_loss"), "o-", color=OTHER, markersize=4)
        if losses.min() > 0:
            axes.set_yscale("log")
        axes.set_title("loss")
        axes.set_xlabel("training steps")
        axes.margins(x=0.01)
        return to_svg(figure)


def vector_tracks(name: str, real: Array, futures: Array, given: int) -> str:
    """Draw each value of a vector over time: what really happened, and several imagined futures.

    Args:
        name: Of the vector.
        real: History and what followed, (T, D).
        futures: What was imagined to follow, (S, T - given, D).
        given: Frames of history.
    """
    order = np.argsort(-real.std(axis=0), kind="stable")[:MAX_VALUES]
    shown = np.sort(order)
    columns = min(6, len(shown))
    rows = -(-len(shown) // columns)
    with matplotlib.rc_context(STYLE):
        figure, every = new_figure(rows, columns, 1.75 * columns + 0.3, 1.55 * rows + 0.2)
        times = np.arange(len(real)) - given + 1
        for axes, value in zip(every, shown, strict=False):
            axes.plot(times, real[:, value], color=INK, linewidth=2.0)
            for future in futures:
                track = np.concatenate([real[given - 1 : given, value], future[:, value]])
                axes.plot(times[given - 1 :], track, color=MODEL, alpha=0.75, linewidth=1.0)
            axes.axvline(0, color=QUIET, linewidth=0.8, dashes=(2, 2))
            axes.set_title(f"{name}[{value}]", fontsize=8.5)
        for axes in every[len(shown) :]:
            axes.set_axis_off()
        return to_svg(figure)


def paths(
    tracks: Sequence[Mapping[str, tuple[Array, Array]]], titles: Sequence[str], view: View
) -> str:
    """Draw where things went in the plane, really and in imagination, one plot a clip.

    Args:
        tracks: For each clip the name of a thing and its real and imagined positions, each (T, 2).
        titles: Of the clips.
        view: What part of the plane is shown, the same for all.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure, every = new_figure(1, len(tracks), 1.78 * len(tracks) + 0.3, 2.2)
        for axes, clip, title in zip(every, tracks, titles, strict=True):
            for real, imagined in clip.values():
                _path(axes, real, imagined)
            _name_starts(axes, {name: real[0] for name, (real, _) in clip.items()}, view)
            axes.set_aspect("equal")
            axes.set_xlim(*view.x)
            axes.set_ylim(*view.y)
            axes.set_title(title, fontsize=8.5)
            axes.tick_params(labelleft=axes is every[0])
        return to_svg(figure)


def _name_starts(axes: Axes, starts: Mapping[str, Array], view: View) -> None:
    """Write names beside points, (2,): the uppermost above its point and the others below."""
    seen = {name: start for name, start in starts.items() if np.isfinite(start).all()}
    up = np.sign(view.y[1] - view.y[0])
    for i, name in enumerate(sorted(seen, key=lambda name: -up * seen[name][1])):
        x, y = seen[name]
        place = (5, 4 if i == 0 else -11)
        axes.annotate(name, (x, y), place, textcoords="offset points", fontsize=8, color=QUIET)


def _path(axes: Axes, real: Array, imagined: Array) -> None:
    """Draw one thing's real and imagined path with marks at start and end."""
    axes.plot(*real.T, color=INK, linewidth=1.8)
    axes.plot(*imagined.T, color=MODEL, linewidth=1.1)
    axes.plot(*real[0], "o", color=INK, markersize=4)
    axes.plot(*real[-1], "s", color=INK, markersize=5.5, fillstyle="none")
    axes.plot(*imagined[-1], "s", color=MODEL, markersize=4.5, fillstyle="none")


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG element for a page: no links, the page's colours."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows them, and they look like links
    width = figure.get_figwidth() * 72 * PIXELS_PER_POINT
    svg = re.sub(
        r'<svg[^>]*? viewBox="([^"]*)"[^>]*>',
        rf'<svg viewBox="\1" style="width: {width:.0f}px" role="img">',
        svg,
        count=1,
    )
    used = set(re.findall(r'(?:url\(|href=")#([^)"]*)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m.group() if m.group(1) in used else "", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for placeholder, name in CSS_NAMES.items():
        svg = svg.replace(placeholder, f"var({name})")
    return svg


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches and its axes in reading order."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _ticks(axes: Axes, horizons: Sequence[int]) -> None:
    """Put ticks at the horizons, on an axis that gives early frames more room."""
    axes.set_xscale("function", functions=(np.sqrt, np.square))
    axes.set_xlim(0.8, max(horizons) * 1.02)
    axes.set_xticks(list(horizons), [str(h) for h in horizons])
    axes.minorticks_off()


def _columns(lines: Sequence[Mapping[str, Any]], *names: str) -> tuple[Array, ...]:
    return tuple(np.array([line[name] for line in lines], dtype=np.float64) for name in names)


def _smooth(values: Array) -> Array:
    """Return a running mean over a twentieth of the values, shorter at both ends."""
    reach = max(1, len(values) // 40)
    total = np.concatenate([[0.0], values.cumsum()])
    last = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    first = np.maximum(np.arange(len(values)) - reach, 0)
    return (total[last] - total[first]) / (last - first)
