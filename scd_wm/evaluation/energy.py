"""The energy score: how well several futures imagined from one start cover what happened.

Where a world has chance in it, the error of one future is least for a model that always imagines
the mean, which never happens. The energy score (Gneiting and Raftery 2007, "Strictly proper scoring
rules, prediction, and estimation", section 4.3) is least, in expectation, for futures that are
as likely as the world makes them: the mean distance from what happened, less half the mean distance
of two futures. For a model without chance it is the plain error, so that both can be compared.

Axes: K futures, B clips, T imagined frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation.scores import MetricInfo, Points, Scorer
from scd_wm.imagination import Frames

PREFIX = "energy"  # of the names of metrics


def energy_scores(futures: Sequence[Frames], clip: Clip, scorer: Scorer) -> dict[str, Tensor]:
    """Score futures of the same clips together.

    Args:
        futures: K times T frames of B clips, 2 at least.
        clip: The whole real clip, batched: the history and then the T frames that really followed.
        scorer: Says what in a frame has a distance.

    Returns:
        "energy_px/CAMERA/THING" in pixels, "energy/VECTOR" in the units of the vector, (B, T)
        float64; NaN where the data holds no valid entry.

    Raises:
        ValueError: If there are fewer than 2 futures.
    """
    if len(futures) < 2:
        raise ValueError(f"an energy score needs 2 futures or more, got {len(futures)}")
    points = [scorer.points(frames, clip) for frames in futures]
    return {_metric(name): energy([found[name] for found in points]) for name in points[0]}


def energy(futures: Sequence[Points]) -> Tensor:
    """Return the energy score without the bias of few futures (Ferro 2014), (B, T) float64.

    Pairs of a future with itself do not count, so that the expectation is the same for every K.

    Args:
        futures: Points of the same clips, K times.
    """
    error = _mean(points.apart(points.real) for points in futures)
    apart = _mean(one.apart(other.imagined) for one, other in combinations(futures, 2))
    return error - apart / 2


def energy_infos(infos: Mapping[str, MetricInfo]) -> dict[str, MetricInfo]:
    """Return what energy scores mean.

    Args:
        infos: Of `Scorer.describe`: the errors that the scores stand beside.
    """
    found = {}
    for name, beside in _errors(infos).items():
        error = infos[beside]
        label = f"{error.label.rpartition(':')[0]}: energy score"
        found[name] = MetricInfo(label, error.unit, "lower", error.kind)
    return found


def energy_without_chance(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the energy scores of a model all of whose futures are the same: its plain errors.

    Args:
        scores: Of `Scorer.score`.
    """
    return {name: scores[error] for name, error in _errors(scores).items()}


def _errors(names: Iterable[str]) -> dict[str, str]:
    """Return by the name of an energy score that of the error beside it, of those that there are.

    A vector that is no position has its root of mean squares.
    """
    known, found = set(names), {}
    for name in names:
        metric, _, what = name.partition("/")
        if metric.startswith("position"):
            found[name.replace("position", PREFIX, 1)] = name
        elif metric == "rmse" and f"position/{what}" not in known:
            found[f"{PREFIX}/{what}"] = name
    return found


def _metric(name: str) -> str:
    is_pixels = name.startswith("px/")
    return f"{PREFIX}_{name}" if is_pixels else f"{PREFIX}/{name}"


def _mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)
