"""Takes means, differences and intervals of the scores of all clips.

Axes: N clips, T imagined frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from scd_wm.evaluation.bootstrap import Interval, bootstrap_mean
from scd_wm.evaluation.result import WORLD_MODEL, MetricResult
from scd_wm.evaluation.scores import MetricInfo, outcome_scores
from scd_wm.evaluation.uncertainty import UncertaintyResult, compare

Array = NDArray[np.float64]

UNCERTAINTY = "uncertainty"  # of the world model, beside the metrics in its table
MOST_COMPARED = 4  # metrics that its uncertainty is compared with, at most


def constant_scores(outcomes: Mapping[str, Array]) -> dict[str, Array]:
    """Score the constant that would have been best: the base rate of an event, the median reward.

    It is taken from the evaluated frames themselves, which favours it: a model that beats it has
    learned when, not only how often.

    Args:
        outcomes: Real outcomes, (N, T), NaN where there are none.

    Returns:
        (N, T) for each metric.
    """
    scores: dict[str, Array] = {}
    for name, real in outcomes.items():
        if np.isnan(real).all():
            continue
        best = float(np.nanmedian(real) if name == "reward" else np.nanmean(real))
        values = outcome_scores(
            name, torch.full(real.shape, best, dtype=torch.float64), torch.from_numpy(real)
        )
        scores |= {k: np.where(np.isnan(real), np.nan, v.numpy()) for k, v in values.items()}
    return scores


def summarise(
    table: Mapping[str, Mapping[str, Array]],
    infos: Mapping[str, MetricInfo],
    episodes: Sequence[int],
    *,
    seed: int,
    num_resamples: int,
) -> dict[str, MetricResult]:
    """Take means over clips and paired differences from the world model, with intervals.

    Args:
        table: Model to metric to scores, (N, T).
        infos: What each metric means.
        episodes: Of each clip, (N,), which are resampled.
        seed: Of the resampling.
        num_resamples: Of the bootstrap.
    """

    def interval(values: Array) -> Interval:
        return bootstrap_mean(values, episodes, seed=seed, num_resamples=num_resamples)

    results = {}
    for name, info in infos.items():
        scores = {model: values[name] for model, values in table.items() if name in values}
        if WORLD_MODEL not in scores:
            continue
        own = scores[WORLD_MODEL]
        results[name] = MetricResult(
            info=info,
            models={model: interval(values) for model, values in scores.items()},
            differences={m: interval(own - v) for m, v in scores.items() if m != WORLD_MODEL},
        )
    return results


def compare_uncertainty(
    own: Mapping[str, Array],
    infos: Mapping[str, MetricInfo],
    episodes: Sequence[int],
    seed: int,
) -> tuple[UncertaintyResult, ...]:
    """Compare the world model's uncertainty with its most telling errors; () if it has none."""
    if UNCERTAINTY not in own:
        return ()
    telling = ("position_px/", "position/", "moving_psnr/", "rmse/")
    names = [name for name in infos if name in own and name.startswith(telling)]
    return tuple(
        compare(
            name,
            infos[name],
            own[UNCERTAINTY],
            own[name],
            episodes,
            seed=seed,
        )
        for name in names[:MOST_COMPARED]
    )
