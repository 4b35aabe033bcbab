"""What the probes say: numbers of every layer with intervals, in JSON types.

Axes: L layers, S sampler steps, F frames, H heads, G lags, R noise levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scd_wm.evaluation.bootstrap import bootstrap_mean, quantiles, resample_sums
from scd_wm.probe.config import ProbeConfig
from scd_wm.probe.measure import FULL, Probes, Sampled
from scd_wm.probe.redundancy import MEASURES, Alike

Array = NDArray[np.float64]
Groups = NDArray[np.int64]
NUM_RESAMPLES = 2000


def layer_numbers(probes: Probes, config: ProbeConfig) -> list[dict[str, Any]]:
    """Return the numbers of each layer; intervals are 95 %, by resampling episodes.

    "steps", "next_frame" and "other_clip" are cosines and distances between different steps of a
    frame, and at the same step between frames. Losses and errors are relative rises: 0.1 is 10 %
    more than with all layers as they are.
    """
    return [_layer(probes, layer, config) for layer in range(len(probes.seen.alike))]


def _layer(probes: Probes, layer: int, config: ProbeConfig) -> dict[str, Any]:
    groups, seen, losses = probes.groups, probes.seen, probes.losses
    alike = seen.alike[layer]
    mass = seen.mass[layer]  # (S, F, H, G)
    past = mass[..., 1:].sum(-1)
    once = probes.samples[f"once {layer}"]
    changed = {n: getattr(losses, n)[layer] for n in ("skipped", "left_out", "blind")}
    return {
        "layer": layer,
        "steps": {m: _mean(alike[m].between_steps(), groups, config) for m in MEASURES},
        "next_frame": {m: float(alike[m].next_frame.mean()) for m in MEASURES},
        "other_clip": {m: float(alike[m].other_clip.mean()) for m in MEASURES},
        "matrix": {m: _matrix(alike[m]) for m in MEASURES},
        "past_mass": _mean(past.mean((0, 2)), groups, config),
        "past_mass_by_step": past.mean((1, 2)).tolist(),
        "past_mass_by_head": past.mean((0, 1)).tolist(),
        "mass_by_lag": mass.mean((0, 1, 2)).tolist(),
        "mass_by_head_and_lag": mass.mean((0, 1)).tolist(),
        **{f"loss_{n}": rise(x, losses.full, groups, config) for n, x in changed.items()},
        "once": sample_numbers(once, probes, config),
    }


def sample_numbers(sampled: Sampled, probes: Probes, config: ProbeConfig) -> dict[str, Any]:
    """Return the error of sampled frames, its relative rise, and how far the frames moved.

    "moved" is the squared distance from what the whole network samples with the same noise, over
    the error of that.
    """
    full = probes.samples[FULL].error
    return {
        "error": float(sampled.error.mean()),
        "rise": rise(sampled.error[:, None], full[:, None], probes.groups, config),
        "moved": float(sampled.moved.mean() / full.mean()),
    }


def sampler_numbers(probes: Probes, config: ProbeConfig) -> dict[str, Any]:
    """Return the numbers of every sampling that is not of a single layer, by name."""
    return {
        name: sample_numbers(sampled, probes, config)
        for name, sampled in probes.samples.items()
        if not name.startswith("once ")
    }


def rise(changed: Array, full: Array, groups: Groups, config: ProbeConfig) -> dict[str, Any]:
    """Return by how much a loss rises, relatively, the mean over levels, with an interval.

    Args:
        changed: Of each frame and level, (F, R).
        full: The same with all layers as they are.
        groups: Of frames, (F,).
        config: For the seed.
    """
    total, drawn = resample_sums(
        np.stack([changed, full], axis=1), groups, seed=config.seed, num_resamples=NUM_RESAMPLES
    )
    by_level = total[0] / total[1] - 1
    means = (drawn[:, 0] / drawn[:, 1] - 1).mean(1)
    low, high = quantiles(means[:, None], 0.025)
    return {
        "mean": float(by_level.mean()),
        "low": float(low[0]),
        "high": float(high[0]),
        "by_level": by_level.tolist(),
    }


def loss_numbers(probes: Probes, config: ProbeConfig) -> dict[str, Any]:
    """Return the loss with all layers as they are at each noise level."""
    return {"levels": list(config.levels), "full": probes.losses.full.mean(0).tolist()}


def _mean(values: Array, groups: Groups, config: ProbeConfig) -> dict[str, float]:
    interval = bootstrap_mean(
        values[:, None], groups, seed=config.seed, num_resamples=NUM_RESAMPLES
    )
    return {name: float(getattr(interval, name)[0]) for name in ("mean", "low", "high")}


def _matrix(alike: Alike) -> list[list[float]]:
    return alike.steps.mean(0).tolist()
