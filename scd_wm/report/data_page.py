"""One self-contained HTML page about a data set.

Axes: F frames of a film strip, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scd_wm.report import data_plots
from scd_wm.report.build import render_page
from scd_wm.report.data_section import SERIOUS, data_facts
from scd_wm.report.drawing import BACKGROUND, Images
from scd_wm.report.items import Drawing
from scd_wm.report.video import encode_png

STRIP_GAP = 4  # pixels between the frames of a film strip
STYLES = ("page.css", "data_page.css")


class Strip(NamedTuple):
    """Frames of one camera in one episode."""

    camera: str
    episode: str
    frames: Images  # (F, H, W, 3)


def render_data(diagnosis: Mapping[str, Any], strips: Sequence[Strip]) -> str:
    """Return a page on a data set as HTML.

    Args:
        diagnosis: What `scd_wm.datasets.doctor.Diagnosis.to_json` gives.
        strips: Film strips to show.
    """
    counts = {s: sum(f["severity"] == s for f in diagnosis["findings"]) for s in SERIOUS}
    return render_page(
        "data_page.html",
        STYLES,
        data=diagnosis,
        title=Path(diagnosis["path"]).name,
        facts=data_facts(diagnosis),
        verdict=_verdict(counts),
        keys=_keys(diagnosis),
        drawings=_drawings(diagnosis),
        lags=data_plots.lag_plots(diagnosis),
        strips=[(s.camera, s.episode, encode_png(_joined(s.frames))) for s in strips],
    )


def _verdict(counts: Mapping[str, int]) -> str:
    parts = [f"{n} {name}{'s' if n != 1 else ''}" for name, n in counts.items() if n]
    return " and ".join(parts) if parts else "Nothing wrong was found"


def _keys(diagnosis: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return a row for every key: name, what it is, shape, range."""
    looked = diagnosis["looked_at"]["images"]
    rows = [
        (
            name,
            "camera",
            " x ".join(map(str, camera["shape"])),
            f"{looked[name]['num_images']:,} images of {looked[name]['num_episodes']} episodes "
            "looked at",
        )
        for name, camera in diagnosis["cameras"].items()
    ]
    vectors = {**diagnosis["vectors"], "action": diagnosis["action"]}
    for name, vector in vectors.items():
        span = f"{min(vector['min']):.3g} to {max(vector['max']):.3g}" if vector["dim"] else "-"
        kind = "action" if name == "action" else "vector"
        rows.append((name, kind, str(vector["dim"]), span))
    return rows


def _drawings(diagnosis: Mapping[str, Any]) -> list[Drawing]:
    """Return the plots of lengths and of actions."""
    drawings = [
        Drawing(
            "Length of episodes",
            "Steps of each episode.",
            data_plots.length_histogram(diagnosis["episode_lengths"]),
        )
    ]
    values = [v for v in diagnosis["actions"]["values"] if v["kind"] != "constant"]
    if values:
        shown = min(len(values), data_plots.MAX_HISTOGRAMS)
        drawings.append(
            Drawing(
                "Values of the action",
                f"How often each value takes which size; {shown} of the {len(values)} that vary. "
                "Heights are by the fullest bin of each; what lies farther out than 99 of 100 rows "
                "counts at the ends.",
                data_plots.action_histograms(values),
            )
        )
    return drawings


def _joined(frames: Images) -> Images:
    """Put frames side by side, (H, W, 3), with a gap between them."""
    height, width = frames.shape[1:3]
    canvas = np.empty((height, len(frames) * (width + STRIP_GAP) - STRIP_GAP, 3), np.uint8)
    canvas[:] = BACKGROUND
    for place, frame in enumerate(frames):
        left = place * (width + STRIP_GAP)
        canvas[:, left : left + width] = frame
    return canvas
