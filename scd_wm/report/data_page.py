"""One self-contained HTML page about a data set, and the short section of it in other reports.

Axes: F frames of a film strip, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scd_wm.report import data_plots
from scd_wm.report.build import HERE, page_environment
from scd_wm.report.drawing import Images
from scd_wm.report.items import Drawing
from scd_wm.report.video import encode_png

STRIP_GAP = 4  # pixels between the frames of a film strip
SHOWN = ("error", "warning")  # findings that the short section lists


class Strip(NamedTuple):
    """Frames of one camera in one episode."""

    camera: str
    episode: str
    frames: Images  # (F, H, W, 3)


@dataclass(frozen=True)
class DataSection:
    """The short section about data in a report on something else."""

    facts: list[tuple[str, str]]
    findings: list[Mapping[str, Any]]  # errors and warnings
    num_notes: int  # findings that are neither


def data_section(diagnosis: Mapping[str, Any]) -> DataSection:
    """Return key numbers and warnings.

    Args:
        diagnosis: What `scd_wm.datasets.doctor.Diagnosis.to_json` gives.
    """
    found = diagnosis["findings"]
    bad = [finding for finding in found if finding["severity"] in SHOWN]
    return DataSection(data_facts(diagnosis), bad, len(found) - len(bad))


def data_facts(diagnosis: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the key numbers of a data set: name and text."""
    steps, seconds = diagnosis["episode_steps"], diagnosis["duration_s"]
    facts = [
        ("episodes", f"{diagnosis['num_episodes']:,}"),
        ("steps", f"{diagnosis['num_steps']:,}"),
        ("an episode", f"{steps['min']} to {steps['max']} steps"),
        ("recorded", _duration(seconds) if seconds else "rate not known"),
    ]
    if diagnosis["fps"]:
        facts.append(("rate", f"{diagnosis['fps']:g} Hz"))
    return facts


def render_data(diagnosis: Mapping[str, Any], strips: Sequence[Strip]) -> str:
    """Return a page on a data set as HTML.

    Args:
        diagnosis: What `scd_wm.datasets.doctor.Diagnosis.to_json` gives.
        strips: Film strips to show.
    """
    counts = {s: sum(f["severity"] == s for f in diagnosis["findings"]) for s in SHOWN}
    return (
        page_environment()
        .get_template("data_page.html")
        .render(
            data=diagnosis,
            title=Path(diagnosis["path"]).name,
            date=datetime.now(UTC).strftime("%d %B %Y"),
            css="".join((HERE / name).read_text(encoding="utf-8") for name in STYLES),
            facts=data_facts(diagnosis),
            verdict=_verdict(counts),
            keys=_keys(diagnosis),
            drawings=_drawings(diagnosis),
            lags=data_plots.lag_plots(diagnosis),
            strips=[(s.camera, s.episode, encode_png(_joined(s.frames))) for s in strips],
        )
    )


STYLES = ("page.css", "data_page.css")


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
    values = diagnosis["actions"]["values"]
    if values:
        shown = min(len(values), data_plots.MAX_HISTOGRAMS)
        drawings.append(
            Drawing(
                "Values of the action",
                f"How often each value takes which size, {shown} of {len(values)} shown; heights "
                "are by the fullest bin of each. Names and numbers above: index, kind and range.",
                data_plots.action_histograms(values),
            )
        )
    return drawings


def _joined(frames: Images) -> Images:
    """Put frames side by side, (H, W, 3), with the page's gap between them."""
    height, width = frames.shape[1:3]
    canvas = np.full((height, len(frames) * (width + STRIP_GAP) - STRIP_GAP, 3), 255, np.uint8)
    for place, frame in enumerate(frames):
        left = place * (width + STRIP_GAP)
        canvas[:, left : left + width] = frame
    return canvas


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
