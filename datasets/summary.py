"""Say in a few numbers what a data set holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.measure import Moments, measure

MAX_VALUES = 4  # values of a vector that the text table shows


def summarise(dataset: RobotDataset | str | Path) -> dict[str, Any]:
    """Describe a data set in JSON types, reading its numbers but not its images.

    Args:
        dataset: A data set, or the path of one, which is opened with all its cameras and vectors.

    Raises:
        ValueError: If a vector, action or reward is NaN or infinite; or see `open_dataset`.
    """
    if not isinstance(dataset, RobotDataset):
        dataset = open_for_numbers(dataset)
    info, moments = dataset.info, measure(dataset)
    lengths = [episode.num_actions for episode in dataset.episodes]
    num_steps = dataset.num_steps
    return {
        "path": str(info.path),
        "format": info.format,
        "num_episodes": len(lengths),
        "num_steps": num_steps,
        "episode_steps": {
            "min": min(lengths),
            "median": float(np.median(lengths)),
            "max": max(lengths),
        },
        "fps": dataset.fps,
        "duration_s": num_steps / dataset.fps if dataset.fps else None,
        "last_observation_stored": all(e.has_last_observation for e in dataset.episodes),
        "cameras": {
            name: {"shape": list(info.fields[name].shape), "dtype": info.fields[name].dtype}
            for name in dataset.cameras
        },
        "vectors": {
            name: {"dtype": info.fields[name].dtype} | _ranges(moments[name])
            for name in dataset.vectors
        },
        "action": _ranges(moments["action"]),
        "outcomes": {name: _outcome(dataset, name) for name in dataset.outcomes},
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


def open_for_numbers(path: str | Path) -> RobotDataset:
    """Open a data set for looking at its numbers: images of several sizes are no obstacle."""
    return open_dataset(path, image_size=1)


def _ranges(moments: Moments) -> dict[str, Any]:
    return {
        "dim": len(moments.mean),
        "min": moments.low.tolist(),
        "max": moments.high.tolist(),
        "mean": moments.mean.tolist(),
        "std": moments.std.tolist(),
    }


def _outcome(dataset: RobotDataset, name: str) -> dict[str, float]:
    """Return the range of rewards, or the share of episodes in which a flag is ever set."""
    values = [dataset.arrays(i).outcome[name] for i in range(len(dataset.episodes))]
    if name == "reward":
        return {
            "min": float(min(v.min() for v in values)),
            "max": float(max(v.max() for v in values)),
            "mean_return": float(np.mean([v.sum() for v in values])),
        }
    return {"episodes": float(np.mean([v.any() for v in values]))}


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
