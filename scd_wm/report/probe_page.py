"""One self-contained HTML page on the probes of a causal diffuser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.result import number
from scd_wm.report import probe_plots
from scd_wm.report.build import render_page
from scd_wm.report.items import Picture

STYLES = ("page.css", "data_page.css")


def render_probe(
    summary: Mapping[str, Any],
    maps: Sequence[Picture],
    points: Sequence[NDArray[np.float64]],
    shares: Sequence[Sequence[float]],
    some: Callable[[Sequence[int]], str],
) -> str:
    """Return a page on the probes of a model as HTML.

    Args:
        summary: What summary.json of `scd-wm probe` holds.
        maps: Pictures of features as colours.
        points: Of each layer frames as points, (frames, steps, 2).
        shares: Of each layer the share of variance of both axes.
        some: Names layers in words.
    """
    layers, levels = summary["layers"], summary["sampler_levels"]
    config = summary["config"]
    return render_page(
        "probe_page.html",
        STYLES,
        summary=summary,
        alike=probe_plots.alike_curves(layers, config["plateau"]),
        steps=probe_plots.step_maps(layers, levels),
        points=probe_plots.point_plots(points, shares, levels),
        maps=maps,
        mass=probe_plots.mass_bars(layers, summary["uniform_past_mass"], config["near_zero"]),
        mass_maps=probe_plots.mass_maps(layers, levels),
        costs=probe_plots.cost_bars(layers),
        number=number,
        rise=_rise,
        some=some,
    )


def _rise(found: Mapping[str, Any]) -> str:
    """Return a relative rise with its interval as text."""
    mean, low, high = (f"{100 * found[n]:+.1f}" for n in ("mean", "low", "high"))
    return f"{mean} % ({low} to {high})"
