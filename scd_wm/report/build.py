"""One self-contained HTML page about one or several world models, and their videos as files."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from scd_wm.evaluation.metrics import PROBABILITY_FLOOR
from scd_wm.evaluation.result import (
    CONSTANT,
    MODEL_LABELS,
    WORLD_MODEL,
    Evaluation,
    MetricResult,
    mean_of_all_frames,
    number,
)
from scd_wm.report import plots
from scd_wm.report.data_section import DataSection, data_section
from scd_wm.report.fidelity_section import FidelitySection, fidelity_section
from scd_wm.report.headline import Fact, comparison, headline, headline_horizon
from scd_wm.report.items import Media, RunReport

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Curve:
    """A metric over the horizon."""

    title: str
    svg: str


@dataclass(frozen=True)
class Cell:
    """A number in the table of all numbers."""

    text: str
    interval: str = ""
    verdict: str = ""  # "better", "worse" or "open", of a difference


@dataclass(frozen=True)
class Row:
    """A row of the table of all numbers."""

    label: str
    kind: str  # "model" or "difference"
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """All that the page shows of one run."""

    run: RunReport
    anchor: str
    facts: list[Fact]
    curves: list[Curve]
    models: list[str]  # whose curves there are
    rows: list[Row]
    uncertainty: list[str]  # plots
    fidelity: FidelitySection
    training: str | None
    data: DataSection | None
    groups: list[tuple[str, list[tuple[str, str]]]]  # of the configuration


def write_report(
    path: Path, runs: Sequence[RunReport], title: str = "What the robot will see"
) -> None:
    """Write a report as one HTML file that opens from disk without a network.

    Args:
        path: The file, written aside and renamed; one of that name is replaced.
        runs: What to report, in this order; at least one.
        title: Heading of the page.
    """
    write_bytes(path, render(runs, title).encode())


def write_media(folder: Path, media: Media) -> list[Path]:
    """Write the videos and film strips of a run as mp4 and PNG files.

    Args:
        folder: Made if it is not there.
        media: What to write.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {f"{v.name}.mp4": v.mp4 for v in media.videos}
    contents |= {f"{p.name}.png": p.png for p in media.strips}
    for name, data in contents.items():
        write_bytes(folder / name, data)
    return [folder / name for name in contents]


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace a file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def page_environment() -> jinja2.Environment:
    """Return what renders pages: this folder's templates, and filters for what is in a page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    numbers = count()
    environment.filters["inline"] = lambda svg: markupsafe.Markup(own_ids(svg, next(numbers)))
    return environment


def render_page(template: str, styles: Sequence[str] = ("page.css",), **values: Any) -> str:
    """Return a page as HTML, dated today.

    Args:
        template: Its file in this folder.
        styles: Files of CSS in this folder.
        values: What the template names beside `css` and `date`.
    """
    css = "".join((HERE / name).read_text(encoding="utf-8") for name in styles)
    date = datetime.now(UTC).strftime("%d %B %Y")
    return page_environment().get_template(template).render(css=css, date=date, **values)


def render(runs: Sequence[RunReport], title: str) -> str:
    """Return the page as HTML."""
    return render_page(
        "page.html",
        title=title,
        js=(HERE / "page.js").read_text(encoding="utf-8"),
        sections=[_section(run, f"run-{i + 1}") for i, run in enumerate(runs)],
        comparison=comparison([run.evaluation for run in runs]),
        labels=MODEL_LABELS,
    )


def own_ids(svg: str, number: int) -> str:
    """Return an SVG element whose ids are its own among all of a page."""
    svg = re.sub(r' id="', f' id="svg{number}-', svg)
    return re.sub(r'(url\(|href=")#', rf"\g<1>#svg{number}-", svg)


def _section(run: RunReport, anchor: str) -> Section:
    evaluation = run.evaluation
    shown = [m for k, m in evaluation.metrics.items() if not k.startswith("mae/") and _varies(m)]
    return Section(
        run=run,
        anchor=anchor,
        facts=headline(evaluation),
        curves=[Curve(m.info.label, plots.error_curve(m, evaluation.horizons)) for m in shown],
        models=list(dict.fromkeys(name for m in shown for name in m.models)),
        rows=[row for m in evaluation.metrics.values() for row in _rows(m, evaluation)],
        uncertainty=[
            plots.uncertainty_scatter(result, headline_horizon(evaluation))
            for result in evaluation.uncertainty
        ],
        fidelity=fidelity_section(evaluation.fidelity),
        training=plots.training_curve(run.log),
        data=None if run.diagnosis is None else data_section(run.diagnosis),
        groups=_groups(run.config),
    )


def _varies(metric: MetricResult) -> bool:
    """Say whether a curve shows anything: not for an event that never, or always, happens."""
    constant = metric.models.get(CONSTANT)
    return constant is None or mean_of_all_frames(constant) > 2 * PROBABILITY_FLOOR


def _rows(metric: MetricResult, evaluation: Evaluation) -> list[Row]:
    """Return a metric's mean for the world model and its differences from the null models."""
    unit = f" [{metric.info.unit}]" if metric.info.unit else ""
    means = metric.models[WORLD_MODEL].mean
    rows = [
        Row(
            metric.info.label + unit,
            "model",
            tuple(Cell(number(float(means[h - 1]))) for h in evaluation.horizons),
        )
    ]
    for null in metric.differences:
        cells = tuple(_difference(metric, null, h) for h in evaluation.horizons)
        rows.append(Row(f"minus {MODEL_LABELS[null]}", "difference", cells))
    return rows


def _difference(metric: MetricResult, null: str, horizon: int) -> Cell:
    interval = metric.differences[null]
    if not interval.count[horizon - 1]:
        return Cell("-")
    every = (interval.mean, interval.low, interval.high)
    mean, low, high = (_signed(float(values[horizon - 1])) for values in every)
    return Cell(mean, f"{low} to {high}", metric.verdict(null, horizon))


def _signed(value: float) -> str:
    text = number(value)
    return f"+{text}" if value > 0 else text.replace("-", "\N{MINUS SIGN}", 1)


def _groups(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the configuration as named lists of names and values, in text."""
    loose = [(k, _text(v)) for k, v in config.items() if not isinstance(v, Mapping)]
    groups = [
        (name, [(k, _text(v)) for k, v in values.items()])
        for name, values in config.items()
        if isinstance(values, Mapping)
    ]
    return ([("run", loose)] if loose else []) + groups


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
