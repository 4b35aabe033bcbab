"""A study as tables in Markdown: arms below each other, a column a metric, a section a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scd_wm.evaluation.result import COPY_LAST, MODEL_LABELS, SHUFFLED, WORLD_MODEL, number
from scd_wm.study.config import REFERENCE

MAIN = ("energy_px/", "energy/", "position_px/", "position/", "moving_psnr/")
"""What metrics of the first table begin with; of energy scores only those of positions."""
WITHOUT_POSITIONS = ("energy/", "moving_psnr/", "rmse/")
"""And with these where the data names no position."""
LEFT_OUT = ("mae/", "log_loss/")  # say the same as their neighbours
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
        f"of {config['num_clips']} clips from episodes that no run was trained on. Frame: CPU ms "
        "on one thread, batch 1, history full. PFLOP: of all training, matrix products and "
        "convolutions.",
        *(text for world in config["worlds"] for text in _world_lines(found, world)),
    ]


def runs_of(found: Found, world: str, arm: str | None = None) -> list[Found]:
    """Return the runs on a world, of all arms or of one."""
    return [
        run
        for run in found["runs"].values()
        if run["world"] == world and (arm is None or run["arm"] == arm)
    ]


def shown_metrics(run: Found, config: Found) -> dict[str, str]:
    """Return the metrics of the first table, with their headings."""
    known = _headings(run, config)
    has_positions = any(name.startswith("position") for name in known)
    prefixes = MAIN if has_positions else WITHOUT_POSITIONS
    chosen = [name for prefix in prefixes for name in known if name.startswith(prefix)]
    whole = {  # energy scores of vectors that are no positions
        name for name in chosen if name.replace("energy", "position") not in known and has_positions
    }
    return {name: known[name] for name in chosen if name not in whole}


def horizons_of(run: Found, config: Found) -> list[int]:
    """Return the horizons that were measured; most episodes of a data set may be too short."""
    left_out = run["scores"][str(config["sampler_steps"][0])]["horizons_left_out"]
    return [horizon for horizon in config["horizons"] if horizon not in left_out]


def mean(run: Found, steps: int, metric: str, horizon: int, model: str = WORLD_MODEL) -> float:
    """Return a mean over clips, NaN if there is none.

    Args:
        run: One of a study.
        steps: Sampler steps T.
        metric: Its name.
        horizon: Imagined frames.
        model: The world model or a null model.
    """
    found = run["scores"][str(steps)]["metrics"].get(metric, {}).get("models", {})
    value = found.get(model, {}).get(str(horizon), {}).get("mean")
    return float("nan") if value is None else float(value)


def _world_lines(found: Found, world: str) -> list[str]:
    config = found["config"]
    first = runs_of(found, world)[0]
    main = shown_metrics(first, config)
    rest = {
        name: heading
        for name, heading in _headings(first, config).items()
        if name not in main and not name.startswith(LEFT_OUT)
    }
    text = ["", f"### {world}", "", _horizon_line(first, config), "", *_table(found, world, main)]
    return [*text, "", "What else is measured:", "", *_table(found, world, rest)] if rest else text


def _horizon_line(run: Found, config: Found) -> str:
    measured = horizons_of(run, config)
    text = f"After {measured[-1]} imagined frames."
    if left_out := [str(h) for h in config["horizons"] if h not in measured]:
        text += f" Horizons {', '.join(left_out)}: fewer than half of the episodes reach them."
    return text


def _headings(run: Found, config: Found) -> dict[str, str]:
    scored = run["scores"][str(config["sampler_steps"][0])]["metrics"]
    return {
        name: f"{metric['label']} [{metric['unit']}]" if metric["unit"] else metric["label"]
        for name, metric in scored.items()
    }


def _table(found: Found, world: str, metrics: Mapping[str, str]) -> list[str]:
    config = found["config"]
    header = ["", "T", "M params", "steps", "PFLOP", *metrics.values(), "frame"]
    rows = [header, ["---"] * len(header)]
    for steps in config["sampler_steps"]:
        for arm in config["arms"]:
            rows.append(_arm_row(found, world, arm, steps, list(metrics)))
    rows += _null_rows(runs_of(found, world), config, list(metrics))
    return [f"| {' | '.join(row)} |" for row in rows]


def _arm_row(found: Found, world: str, arm: str, steps: int, metrics: Sequence[str]) -> list[str]:
    own = runs_of(found, world, arm)
    horizon, first = horizons_of(own[0], found["config"])[-1], own[0]
    spent = first["steps"] * found["step_flops"][world][arm] / PETA
    frame_s = found["latency"][world]["arms"][arm][str(steps)]["cpu_s"]["median"]
    return [
        arm,
        str(steps),
        f"{first['parameters'] / 1e6:.2f}",
        str(first["steps"]),
        number(spent),
        *(_spread([mean(r, steps, name, horizon) for r in own]) for name in metrics),
        number(1e3 * frame_s),
    ]


def _null_rows(runs: Sequence[Found], config: Found, metrics: Sequence[str]) -> list[list[str]]:
    """Return what doing nothing scores, and the reference under the actions of other clips."""
    steps, horizon = config["sampler_steps"][0], horizons_of(runs[0], config)[-1]
    arm = REFERENCE if REFERENCE in config["arms"] else config["arms"][0]
    own = [run for run in runs if run["arm"] == arm]
    rows = []
    for model, label in ((COPY_LAST, ""), (SHUFFLED, f"{arm}, ")):
        values = (_spread([mean(r, steps, name, horizon, model) for r in own]) for name in metrics)
        rows.append([f"{label}{MODEL_LABELS[model]}", "", "", "", "", *values, ""])
    return rows


def _spread(values: Sequence[float]) -> str:
    middle = number(sum(values) / len(values))
    if len(values) == 1 or not min(values) < max(values):  # equal, or not there
        return middle
    return f"{middle} ({number(min(values))} to {number(max(values))})"
