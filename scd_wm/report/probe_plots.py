"""Plots of the probes of a diffuser, in the look of `scd_wm.report.plots`.

Axes: L layers, S sampler steps, H heads, G lags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from scd_wm.report.plots import (
    CONSTANT,
    COPIED,
    INK,
    MODEL,
    OTHER,
    QUIET,
    STYLE,
    new_figure,
    to_svg,
)

Array = NDArray[np.float64]
Layers = Sequence[Mapping[str, Any]]

MAPS = {**STYLE, "axes.grid": False}
COLOURS = "viridis"  # the same in light and dark, and in order to whoever sees no colours
MOST_STEPS = 12  # of a heat map, so that a page stays small
MOST_COLUMNS = 6  # of small plots


def alike_curves(layers: Layers, plateau: float) -> str:
    """Draw by layer how alike features are between steps, and between frames."""
    titles = {
        "raw": "cosine, raw",
        "centred": "cosine, centred",
        "distance": "relative distance",
    }
    x = np.arange(len(layers))
    with matplotlib.rc_context(STYLE):
        figure, every = new_figure(1, 3, 9.6, 2.7)
        for axes, (measure, title) in zip(every, titles.items(), strict=True):
            steps = [layer["steps"][measure] for layer in layers]
            mean, low, high = (np.array([s[n] for s in steps]) for n in ("mean", "low", "high"))
            axes.fill_between(x, low, high, color=MODEL, alpha=0.2, linewidth=0)
            axes.plot(x, mean, "o-", color=MODEL, markersize=4)
            for kind, colour in (("next_frame", OTHER), ("other_clip", COPIED)):
                values = [layer[kind][measure] for layer in layers]
                axes.plot(x, values, "o-", color=colour, markersize=3, linewidth=1.2)
            if measure == "centred":
                axes.axhline(plateau, color=QUIET, linewidth=0.8, dashes=(3, 3))
            axes.set_title(title)
            _layer_axis(axes, len(layers))
        return to_svg(figure)


def step_maps(layers: Layers, levels: Sequence[float], measure: str = "centred") -> str:
    """Draw for each layer how alike its features are at every two steps."""
    shown = _some(len(levels))
    maps = [np.array(layer["matrix"][measure])[np.ix_(shown, shown)] for layer in layers]
    low = min(float(m.min()) for m in maps)
    columns = min(MOST_COLUMNS, len(layers))
    rows = -(-len(layers) // columns)
    with matplotlib.rc_context(MAPS):
        figure, every = new_figure(rows, columns, 1.75 * columns + 0.8, 1.75 * rows + 0.2)
        for axes, (number, values) in zip(every, enumerate(maps), strict=False):
            image = axes.pcolormesh(values, vmin=min(low, 0.9), vmax=1, cmap=COLOURS)
            axes.invert_yaxis()
            axes.set_aspect("equal")
            axes.set_title(f"layer {number}", fontsize=8.5)
            ends = (0.5, len(shown) - 0.5)
            axes.set_xticks(ends, [f"{levels[i]:.2g}" for i in (shown[0], shown[-1])])
            axes.set_yticks(ends, [f"{levels[i]:.2g}" for i in (shown[0], shown[-1])])
        for axes in every[len(layers) :]:
            axes.set_axis_off()
        figure.colorbar(image, ax=every, shrink=0.8, aspect=30)
        return to_svg(figure)


def point_plots(
    points: Sequence[Array], shares: Sequence[Sequence[float]], levels: Sequence[float]
) -> str:
    """Draw for each layer frames as points in the plane, a line through the steps of each.

    Args:
        points: Of each layer, (frames, S, 2).
        shares: Of each layer the variance that the two axes have.
        levels: Noise level of each step.
    """
    columns = min(MOST_COLUMNS, len(points))
    rows = -(-len(points) // columns)
    with matplotlib.rc_context(MAPS):
        figure, every = new_figure(rows, columns, 1.75 * columns + 0.8, 1.75 * rows + 0.2)
        for axes, (number, frames) in zip(every, enumerate(points), strict=False):
            for frame in frames:
                axes.plot(*frame.T, color=QUIET, linewidth=0.6, alpha=0.6)
            colours = np.tile(np.array(levels), len(frames))
            x, y = frames.reshape(-1, 2).T
            dots = axes.scatter(x, y, c=colours, s=7, cmap=COLOURS, vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"layer {number}, {sum(shares[number]):.0%}", fontsize=8.5)
        for axes in every[len(points) :]:
            axes.set_axis_off()
        figure.colorbar(dots, ax=every, shrink=0.8, aspect=30, label="noise level s")
        return to_svg(figure)


def mass_bars(layers: Layers, uniform: float, near_zero: float) -> str:
    """Draw by layer the attention on the past, its heads, and what uniform attention would have."""
    mean, low, high = (np.array([x["past_mass"][n] for x in layers]) for n in _BOUNDS)
    x = np.arange(len(layers))
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(1, 1, 4.6, 2.9)
        axes.bar(x, mean, 0.6, color=MODEL, alpha=0.85)
        axes.vlines(x, low, high, color=INK, linewidth=1.2)
        for at, layer in zip(x, layers, strict=True):
            heads = layer["past_mass_by_head"]
            axes.plot(np.full(len(heads), at), heads, ".", color=OTHER, markersize=5)
        axes.axhline(uniform, color=QUIET, linewidth=0.9, dashes=(3, 3))
        axes.axhline(near_zero * uniform, color=CONSTANT, linewidth=0.9, dashes=(1, 2))
        axes.set_ylim(0, 1)
        axes.set_title("attention on the past")
        _layer_axis(axes, len(layers))
        return to_svg(figure)


def mass_maps(layers: Layers, levels: Sequence[float]) -> str:
    """Draw the attention by layer and lag, layer and head, layer and sampler step."""
    shown = _some(len(levels))
    lags = np.array([layer["mass_by_lag"] for layer in layers])
    heads = np.array([layer["past_mass_by_head"] for layer in layers])
    steps = np.array([layer["past_mass_by_step"] for layer in layers])[:, shown]
    every = 1 + len(shown) // 9  # labels that are too many run into one another
    steps_named = [f"{levels[i]:.2g}" if n % every == 0 else "" for n, i in enumerate(shown)]
    parts = (
        ("by frames back", lags, [str(i) for i in range(lags.shape[1])]),
        ("past, by head", heads, [str(i) for i in range(heads.shape[1])]),
        ("past, by noise level", steps, steps_named),
    )
    with matplotlib.rc_context(MAPS):
        figure, plots = new_figure(1, 3, 9.6, 0.27 * len(layers) + 1.1)
        for axes, (title, values, names) in zip(plots, parts, strict=True):
            image = axes.pcolormesh(values, vmin=0, vmax=1, cmap=COLOURS)
            axes.invert_yaxis()
            axes.set_title(title)
            axes.set_xticks(np.arange(len(names)) + 0.5, names, fontsize=7.5)
            axes.set_yticks(np.arange(len(layers)) + 0.5, [str(i) for i in range(len(layers))])
            axes.set_ylabel("layer" if axes is plots[0] else "")
        figure.colorbar(image, ax=plots, aspect=14)
        return to_svg(figure)


def cost_bars(layers: Layers) -> str:
    """Draw by layer what the interventions cost."""
    parts = (
        ("loss, layer left out", "loss_left_out"),
        ("loss, layer skipped", "loss_skipped"),
        ("loss, no past in the layer", "loss_blind"),
        ("sample error, layer run once", "once"),
    )
    x = np.arange(len(layers))
    with matplotlib.rc_context(STYLE):
        figure, every = new_figure(2, 2, 8.4, 4.6)
        for axes, (title, name) in zip(every, parts, strict=True):
            rises = [x[name]["rise"] if name == "once" else x[name] for x in layers]
            mean, low, high = (100 * np.array([r[n] for r in rises]) for n in _BOUNDS)
            axes.bar(x, mean, 0.6, color=MODEL, alpha=0.85)
            axes.vlines(x, low, high, color=INK, linewidth=1.2)
            axes.axhline(0, color=QUIET, linewidth=0.8)
            if high.max() > 200:
                axes.set_yscale("symlog", linthresh=10)
            axes.set_title(f"{title} [% more]")
            _layer_axis(axes, len(layers))
        return to_svg(figure)


_BOUNDS = ("mean", "low", "high")


def _layer_axis(axes: Axes, num_layers: int) -> None:
    every = max(1, num_layers // 12)
    axes.set_xticks(range(0, num_layers, every))
    axes.set_xlabel("layer")


def _some(count: int) -> list[int]:
    return [round(i) for i in np.linspace(0, count - 1, min(count, MOST_STEPS))]
