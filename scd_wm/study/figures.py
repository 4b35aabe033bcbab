"""Figures of a study: errors over frames imagined, and over the time that a frame takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from scd_wm.evaluation.result import COPY_LAST
from scd_wm.study.table import horizons_of, mean, runs_of, shown_metrics
from scd_wm.training import files

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "savefig.dpi": 150,
}
MARKERS = "os^Dv<>pP*"  # of the numbers of sampler steps
WIDTH, HEIGHT = 3.0, 2.6  # inches, of one plot
LEGEND = 1.5  # inches beside the plots, since points may lie anywhere in them

Found = Mapping[str, Any]


def draw(found: Found, folder: Path) -> list[Path]:
    """Draw the figures of each world, as PNG files.

    Args:
        found: What `scd_wm.study.study` returns.
        folder: Where they go.
    """
    folder.mkdir(exist_ok=True)
    paths = []
    with matplotlib.rc_context(STYLE):
        for world in found["config"]["worlds"]:
            metrics = shown_metrics(runs_of(found, world)[0], found["config"])
            for name, draw_one in (("horizons", _over_horizons), ("latency", _over_latency)):
                size = (WIDTH * len(metrics) + LEGEND, HEIGHT)
                figure = Figure(figsize=size, layout="constrained")
                every = figure.subplots(1, len(metrics), squeeze=False)[0]
                for axes, (metric, label) in zip(every, metrics.items(), strict=True):
                    draw_one(axes, found, world, metric)
                    axes.set_title(label)
                handles, labels = every[0].get_legend_handles_labels()
                figure.legend(handles, labels, fontsize=7, loc="outside right upper")
                path = folder / f"{world}_{name}.png"
                partial = files.temporary(path)
                figure.savefig(partial, format="png")
                partial.replace(path)
                paths.append(path)
    return paths


def _over_horizons(axes: Axes, found: Found, world: str, metric: str) -> None:
    """Draw means of the seeds, and a band from the least to the most of them."""
    config = found["config"]
    first, steps = runs_of(found, world)[0], config["sampler_steps"][0]
    horizons = horizons_of(first, config)
    for number, arm in enumerate(config["arms"]):
        runs = runs_of(found, world, arm)
        by_horizon = [[mean(run, steps, metric, h) for run in runs] for h in horizons]
        colour = f"C{number % 10}"
        axes.plot(horizons, [sum(v) / len(v) for v in by_horizon], "o-", ms=3, c=colour, label=arm)
        low, high = [min(v) for v in by_horizon], [max(v) for v in by_horizon]
        axes.fill_between(horizons, low, high, color=colour, alpha=0.15, linewidth=0)
    copied = [mean(first, steps, metric, h, COPY_LAST) for h in horizons]
    axes.plot(horizons, copied, ":", color="0.5", label="last frame copied")
    _log_axis(axes, horizons)
    axes.set_xlabel(f"frames imagined (T = {steps})")


def _over_latency(axes: Axes, found: Found, world: str, metric: str) -> None:
    """Draw each run at each number of sampler steps over the CPU time of a frame."""
    config = found["config"]
    horizon = horizons_of(runs_of(found, world)[0], config)[-1]
    for number, arm in enumerate(config["arms"]):
        for marker, steps in zip(cycle(MARKERS), config["sampler_steps"], strict=False):
            spent = found["latency"][world]["arms"][arm][str(steps)]["cpu_s"]["median"]
            values = [mean(run, steps, metric, horizon) for run in runs_of(found, world, arm)]
            label = f"{arm}, T = {steps}"
            x = [1e3 * spent] * len(values)
            axes.plot(x, values, marker, ms=4, c=f"C{number % 10}", alpha=0.8, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    _plain_ticks(axes)
    axes.set_xlabel(f"CPU ms of a frame ({horizon} frames imagined)")


def _log_axis(axes: Axes, ticks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(ticks))
    _plain_ticks(axes)


def _plain_ticks(axes: Axes) -> None:
    """Write numbers, not powers, at the major ticks alone."""
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
