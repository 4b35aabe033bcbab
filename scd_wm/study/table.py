"""A study as a table in Markdown: arms below each other, a column a metric, a section a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scd_wm.evaluation.result import COPY_LAST, MODEL_LABELS, SHUFFLED, WORLD_MODEL, number
from scd_wm.study.config import REFERENCE

METRICS = ("position_px/", "position/", "moving_psnr/")  # begin with; all of these are shown
PETA = 1e15

Found = Mapping[str, Any]


def lines(found: Found) -> list[str]:
    """Return the result of a study as text.

    Args:
        found: What `scd_wm.study.study` returns.
    """
    config = found["config"]
    return [
        f"Mean of {len(config['seeds'])} seed(s), in brackets the least and the most of them, "
        f"after {config['horizon']} imagined frames of {config['num_clips']} clips from episodes "
        "of other seeds. Frame: CPU ms on one thread, batch 1, history full. PFLOP: of all "
        "training, matrix products and convolutions.",
        *(text for world in config["worlds"] for text in _world_lines(found, world)),
    ]


def _world_lines(found: Found, world: str) -> list[str]:
    config = found["config"]
    runs = [run for run in found["runs"].values() if run["world"] == world]
    metrics = shown_metrics(runs[0], config)
    header = ["", "T", "M params", "steps", "PFLOP", *metrics.values(), "frame"]
    rows = [header, ["---"] * len(header)]
    for steps in config["sampler_steps"]:
        for arm in config["arms"]:
            rows.append(_arm_row(found, world, arm, steps, list(metrics)))
    rows += _null_rows(runs, config, list(metrics))
    return ["", f"### {world}", "", *(f"| {' | '.join(row)} |" for row in rows)]


def shown_metrics(run: Found, config: Found) -> dict[str, str]:
    """Return the metrics that are shown, with their headings."""
    scored = run["scores"][str(config["sampler_steps"][0])]["metrics"]
    return {
        name: f"{metric['label']} [{metric['unit']}]" if metric["unit"] else metric["label"]
        for prefix in METRICS
        for name, metric in scored.items()
        if name.startswith(prefix)
    }


def _arm_row(found: Found, world: str, arm: str, steps: int, metrics: Sequence[str]) -> list[str]:
    own = [r for r in found["runs"].values() if (r["world"], r["arm"]) == (world, arm)]
    horizon, first = found["config"]["horizon"], own[0]
    spent = first["steps"] * found["step_flops"][world][arm] / PETA
    frame_s = found["latency"][world]["arms"][arm][str(steps)]["cpu_s"]["median"]
    return [
        arm,
        str(steps),
        f"{first['parameters'] / 1e6:.2f}",
        str(first["steps"]),
        number(spent),
        *(_spread([_mean(r, steps, name, horizon) for r in own]) for name in metrics),
        number(1e3 * frame_s),
    ]


def _null_rows(runs: Sequence[Found], config: Found, metrics: Sequence[str]) -> list[list[str]]:
    """Return what doing nothing scores, and the reference under the actions of other clips."""
    steps, horizon = config["sampler_steps"][0], config["horizon"]
    arm = REFERENCE if REFERENCE in config["arms"] else config["arms"][0]
    own = [run for run in runs if run["arm"] == arm]
    rows = []
    for model, label in ((COPY_LAST, ""), (SHUFFLED, f"{arm}, ")):
        values = (_spread([_mean(r, steps, name, horizon, model) for r in own]) for name in metrics)
        rows.append([f"{label}{MODEL_LABELS[model]}", "", "", "", "", *values, ""])
    return rows


def _mean(run: Found, steps: int, metric: str, horizon: int, model: str = WORLD_MODEL) -> float:
    found = run["scores"][str(steps)]["metrics"].get(metric, {}).get("models", {})
    value = found.get(model, {}).get(str(horizon), {}).get("mean")
    return float("nan") if value is None else float(value)


def _spread(values: Sequence[float]) -> str:
    mean = number(sum(values) / len(values))
    if len(values) == 1 or min(values) == max(values):
        return mean
    return f"{mean} ({number(min(values))} to {number(max(values))})"
