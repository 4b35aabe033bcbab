"""Say in a few numbers what a data set holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scd_wm.datasets.doctor_numbers import NumberSurvey
from scd_wm.datasets.measure import Moments

MAX_VALUES = 4  # values of a vector that the text table shows


def summarise(survey: NumberSurvey) -> dict[str, Any]:
    """Describe a data set in JSON types by the doctor's pass over its numbers."""
    info, moments, lengths = survey.info, survey.moments, survey.lengths.tolist()
    num_steps = sum(lengths)
    return {
        "path": str(info.path),
        "format": info.format,
        "num_episodes": len(lengths),
        "num_steps": num_steps,
        "episode_steps": {
            "min": min(lengths, default=0),
            "median": float(np.median(lengths)) if lengths else 0.0,
            "max": max(lengths, default=0),
        },
        "fps": info.fps,
        "duration_s": num_steps / info.fps if info.fps else None,
        "last_observation_stored": all(e.info.has_last_observation for e in survey.episodes),
        "cameras": {
            name: {"shape": list(info.fields[name].shape), "dtype": info.fields[name].dtype}
            for name in survey.cameras
        },
        "vectors": {
            name: {"dtype": info.fields[name].dtype} | _ranges(moments[name])
            for name in survey.vectors
            if name in moments
        },
        "action": _ranges(moments.get("action", Moments(0))),
        "outcomes": _outcomes(survey),
        "skipped": list(info.skipped),
    }


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the result of `summarise` as a short table of text."""
    steps = summary["episode_steps"]
    duration = summary["duration_s"]
    rows = [
        ("format", summary["format"]),
        ("episodes", f"{summary['num_episodes']}"),
        (
            "steps",
            f"{summary['num_steps']} ({steps['min']} to {steps['max']} an episode, "
            f"median {steps['median']:g})",
        ),
        ("duration", f"{_time(duration)} at {summary['fps']:g} Hz" if duration else "not known"),
        ("last frame", "stored" if summary["last_observation_stored"] else "not stored"),
    ]
    rows += [
        (f"camera {name}", f"{'x'.join(map(str, camera['shape']))} {camera['dtype']}")
        for name, camera in summary["cameras"].items()
    ]
    rows += [(f"vector {name}", _span(vector)) for name, vector in summary["vectors"].items()]
    rows.append(("action", _span(summary["action"])))
    rows += [(name, _outcome_text(name, value)) for name, value in summary["outcomes"].items()]
    rows += [("skipped", line) for line in summary["skipped"]]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows]


def _ranges(moments: Moments) -> dict[str, Any]:
    return {
        "dim": len(moments.mean),
        "min": moments.low.tolist(),
        "max": moments.high.tolist(),
        "mean": moments.mean.tolist(),
        "std": moments.std.tolist(),
    }


def _outcomes(survey: NumberSurvey) -> dict[str, dict[str, float]]:
    """Return the range of rewards, and the share of episodes in which a flag is ever set."""
    outcomes: dict[str, dict[str, float]] = {}
    if survey.returns:
        moments = survey.moments["reward"]
        outcomes["reward"] = {
            "min": float(moments.low[0]),
            "max": float(moments.high[0]),
            "mean_return": float(np.mean(survey.returns)),
        }
    return outcomes | {n: {"episodes": float(np.mean(flags))} for n, flags in survey.flags.items()}


def _outcome_text(name: str, value: Mapping[str, float]) -> str:
    if name == "reward":
        span = f"{value['min']:g} to {value['max']:g} a step"
        return f"{span}, {value['mean_return']:.4g} an episode on average"
    return f"in {value['episodes']:.1%} of the episodes"


def _span(ranges: Mapping[str, Any]) -> str:
    """Return how many values a vector has and between what the first of them lie."""
    pairs = list(zip(ranges["min"], ranges["max"], strict=True))
    shown = " ".join(f"[{low:.3g}, {high:.3g}]" for low, high in pairs[:MAX_VALUES])
    return f"{ranges['dim']} values in {shown}{' ...' if len(pairs) > MAX_VALUES else ''}"


def _time(duration_s: float) -> str:
    """Return a duration in the unit that reads best."""
    for unit, seconds in (("h", 3600), ("min", 60)):
        if duration_s >= seconds:
            return f"{duration_s / seconds:.1f} {unit}"
    return f"{duration_s:.1f} s"
