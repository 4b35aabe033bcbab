"""One self-contained HTML page on policies: what they come to really, and in imagination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scd_wm.evaluation.ranking import estimate_text, interval_text
from scd_wm.evaluation.result import COPY_LAST, MODEL_LABELS, SHUFFLED, WORLD_MODEL, number
from scd_wm.report import policies_plots
from scd_wm.report.build import HERE, render_page
from scd_wm.report.items import Drawing, EpisodeFilm

WORLDS = (WORLD_MODEL, SHUFFLED, COPY_LAST)
STATISTICS = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "mmrv": "MMRV",
    "mean_error": "mean error",
    "mean_optimism": "optimism",
}
FACTS = ("pearson", "spearman", "mmrv")
FILMS = {
    "agree": "Both worlds agree",
    "disagree": "They do not",
    "judge": "Predicted outcome and judge do not agree",
}
STYLES = ("page.css", "data_page.css")
MANY_PAIRS = 12  # more are folded away


@dataclass(frozen=True)
class Cell:
    """An estimate with both intervals."""

    text: str
    of_episodes: str = ""
    of_both: str = ""


def render_policies(summary: Mapping[str, Any], films: Sequence[EpisodeFilm]) -> str:
    """Return a page on an evaluation of policies as HTML.

    Args:
        summary: What summary.json of `scd-wm evaluate-policies` holds.
        films: Episodes to show.
    """
    policies = [{"name": name, **found} for name, found in summary["policies"].items()]
    own = summary["ranking"]["success"]
    return render_page(
        "policies_page.html",
        STYLES,
        summary=summary,
        policies=policies,
        js=(HERE / "page.js").read_text(encoding="utf-8"),
        facts=[(STATISTICS[n], _bars(own, n)) for n in FACTS],
        drawings=_drawings(policies, summary["ranking"]),
        statistics=STATISTICS,
        rows=_rows(summary["ranking"]),
        pairs=sorted(summary["pairs"], key=lambda p: p["real_p"]),
        many_pairs=MANY_PAIRS,
        curve=_curve(summary["calibration"]),
        films=[
            (p["name"], [(FILMS[f.kind], f) for f in films if f.policy == p["name"]])
            for p in policies
        ],
        worlds=[(w, MODEL_LABELS[w]) for w in WORLDS],
        share=_share,
        number=number,
    )


def _bars(found: Mapping[str, Any], name: str) -> list[tuple[str, str, str]]:
    """Return world, label and text of a statistic, the world model first."""
    return [(w, MODEL_LABELS[w], estimate_text(found[w][name])) for w in WORLDS]


def _drawings(policies: Sequence[Mapping[str, Any]], ranking: Mapping[str, Any]) -> list[Drawing]:
    drawings = [
        Drawing(
            "Success",
            "Each dot is a policy, by its number in the table, with 95 % Wilson intervals. On the "
            "dashed line both worlds say the same.",
            policies_plots.success_scatter(policies, WORLDS),
        )
    ]
    if "return" in ranking:
        caption = "Mean sums of rewards, with 95 % bootstrap intervals."
        svg = policies_plots.return_scatter(policies, WORLDS)
        drawings.append(Drawing("Return", caption, svg))
    return drawings


def _rows(ranking: Mapping[str, Any]) -> list[tuple[str, str, list[Cell]]]:
    """Return measure, world and cells of every ranking that could be compared."""
    return [
        (measure, MODEL_LABELS[world], [_cell(found[name]) for name in STATISTICS])
        for measure, worlds in ranking.items()
        for world, found in worlds.items()
        if found is not None
    ]


def _cell(estimate: Mapping[str, Any]) -> Cell:
    if estimate["value"] is None:
        return Cell("undefined")
    drawn = ("episodes", "policies_and_episodes")
    return Cell(f"{estimate['value']:.2f}", *(interval_text(estimate, what) for what in drawn))


def _curve(found: Mapping[str, Any] | None) -> str | None:
    return None if found is None else policies_plots.calibration_curve(found["bins"])


def _share(world: Mapping[str, Any]) -> str:
    """Return successes of episodes as text."""
    low, high = (100 * x for x in world["success_interval"])
    return f"{100 * world['success_rate']:.0f} % ({low:.0f} to {high:.0f})"
