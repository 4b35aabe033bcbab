"""What the report shows of the fidelity that matters to policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scd_wm.evaluation.bootstrap import Interval
from scd_wm.evaluation.explained import stretch_name, stretches
from scd_wm.evaluation.fidelity import Fidelity
from scd_wm.evaluation.frechet import BIAS
from scd_wm.evaluation.result import MODEL_LABELS, REAL, WORLD_MODEL, number
from scd_wm.report import fidelity_plots

READABLE = 0.5  # R2 on real frames below which a reader of actions says little


@dataclass(frozen=True)
class Table:
    """Numbers over stretches of the horizon."""

    columns: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]  # label; text and interval of each cell


@dataclass(frozen=True)
class FidelitySection:
    """All that is shown; lists are empty where there is nothing."""

    legend: list[str]  # models in the plots of actions and rewards
    actions: list[str]  # plots
    action_table: Table
    warnings: list[str]
    divergences: list[str]  # plots
    divergence_table: Table
    num_futures: str  # in words
    calibration: list[str]  # plots
    calibration_texts: list[str]
    frechet: list[tuple[str, str]]  # what, and numbers in words
    bias: str
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def fidelity_section(fidelity: Fidelity) -> FidelitySection:
    """Return plots, tables and words."""
    horizons, played = fidelity.horizons, fidelity.counterfactual
    explained = {f"action, by {k}": v for k, v in fidelity.inverse_dynamics.items()}
    explained |= {"reward": fidelity.reward} if fidelity.reward else {}
    divergences = {} if played is None else played.divergences
    return FidelitySection(
        legend=list(dict.fromkeys(model for v in explained.values() for model in v)),
        actions=[
            fidelity_plots.explained_by_stretch(f"{title}: R²", models, horizons)
            for title, models in explained.items()
        ],
        action_table=Table(
            [stretch_name(s) for s in stretches(horizons)],
            [
                (f"{title}: {MODEL_LABELS[model]}", _cells(interval))
                for title, models in explained.items()
                for model, interval in models.items()
            ],
        ),
        warnings=_warnings(fidelity.inverse_dynamics),
        divergences=[
            fidelity_plots.divergence_scatter(d, played.horizons[-1])
            for d in divergences.values()
            if played is not None
        ],
        divergence_table=Table(
            [stretch_name(s) for s in stretches(() if played is None else played.horizons)],
            [
                (f"{d.label}: {what}", _cells(interval))
                for d in divergences.values()
                for what, interval in (
                    ("size (1 is right)", d.slope),
                    ("direction, cosine", d.cosine),
                    ("relative error (1: no difference imagined)", d.error),
                    ("the same, futures shuffled", d.shuffled),
                )
            ],
        ),
        num_futures=""
        if played is None
        else f"{played.num_sequences} futures from each of {played.num_starts} starts",
        calibration=[
            fidelity_plots.reliability_curve(c) for c in fidelity.calibration if c.base_rate > 0
        ],
        calibration_texts=[f"{c.event}: {c.sentence}" for c in fidelity.calibration],
        frechet=[
            (
                f"{f.name}, camera {f.camera}",
                "; ".join(f"{MODEL_LABELS[m]} {number(v)}" for m, v in f.distances.items())
                + f"; two halves of the real ones {number(f.real_halves)} "
                f"({f.num_samples} samples of {f.num_features} features)",
            )
            for f in fidelity.frechet
        ],
        bias=BIAS,
        left_out=fidelity.left_out,
        notes=fidelity.notes,
    )


def fidelity_lines(fidelity: Fidelity) -> list[str]:
    """Return a few lines for the terminal."""
    lines = []
    for source, models in fidelity.inverse_dynamics.items():
        values = [f"{MODEL_LABELS[m]} {number(float(i.mean[-1]))}" for m, i in models.items()]
        lines.append(f"R2 of the action read from {source}, last stretch: {', '.join(values)}")
    if fidelity.counterfactual is not None:
        parts = [
            f"{d.label} {number(float(d.error.mean[-1]))}"
            for d in fidelity.counterfactual.divergences.values()
        ]
        lines.append(f"other actions, relative error of what they change: {', '.join(parts)}")
    lines += [f"{c.event}: {c.sentence}" for c in fidelity.calibration if c.base_rate > 0]
    lines += [f"left out: {what} ({why})" for what, why in fidelity.left_out.items()]
    return lines


def _cells(interval: Interval) -> list[tuple[str, str]]:
    every = zip(interval.mean, interval.low, interval.high, strict=True)
    return [
        (number(float(mean)), f"{number(float(low))} to {number(float(high))}")
        for mean, low, high in every
    ]


def _warnings(inverse: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    """Say where actions can hardly be read from real frames, so that imagined ones say little."""
    return [
        f"Actions can hardly be read from the {source} of real frames (R2 below {READABLE:g} on "
        f"some stretch), so compare the world model with real frames and not with 1."
        for source, models in inverse.items()
        if WORLD_MODEL in models and bool((models[REAL].mean < READABLE).any())
    ]
