"""Measures the fidelity that matters to policies on what models imagined.

Axes: N clips, B clips of a batch, T imagined frames, A values of an action, D values of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation.calibration import calibrate
from scd_wm.evaluation.explained import explained
from scd_wm.evaluation.fidelity import Fidelity
from scd_wm.evaluation.frechet import FrechetResult, compare_features
from scd_wm.evaluation.null_models import derangement
from scd_wm.evaluation.readers import IMAGES, VECTORS, Readers
from scd_wm.evaluation.result import COPY_LAST, OTHER_CLIP, REAL, SHUFFLED, WORLD_MODEL, ZERO
from scd_wm.evaluation.scores import MetricInfo
from scd_wm.imagination import Frames

Array = NDArray[np.float64]
Readings = Mapping[str, Mapping[str, Array]]  # model: what was read, (N, T, ...)

AGREEMENT = "pixels_against"  # the metric "pixels_against/NAME"
READ = (REAL, WORLD_MODEL, SHUFFLED, ZERO, COPY_LAST)  # models whose frames are read, in this order


def read_models(
    imagined: Mapping[str, Frames],
    clip: Clip,
    history: int,
    readers: Readers | None,
    episodes: Sequence[int],
) -> dict[str, dict[str, Tensor]]:
    """Read what models imagined, and the real frames.

    Args:
        imagined: Model to frames, (B, T).
        clip: The whole real clip, batched.
        history: Frames of it that were given.
        readers: Of actions and positions; None reads outcomes alone.
        episodes: Of each clip, by their place in the data set, (B,).

    Returns:
        Model to readings: those of `Readers.read`; "own/NAME", the vector imagined itself;
        "predicted/OUTCOME". Of the real frames also "commanded", the actions, and their outcomes.
    """
    real = _real_frames(clip, history)
    before = _real_frames(clip.frames(history - 1, clip.num_frames), 0, 1)
    readings: dict[str, dict[str, Tensor]] = {}
    for model, frames in {REAL: real, **imagined}.items():
        read = {} if readers is None else readers.read(before, frames, episodes)
        own = {f"own/{k}": v.double() for k, v in frames.vectors.items()}
        said = {f"predicted/{k}": v.double()[..., None] for k, v in frames.outcome.items()}
        readings[model] = read | own | said
    readings[REAL]["commanded"] = _nan(clip.action_valid, clip.actions)[:, history - 1 :]
    return readings


def agreement(
    readings: Readings, positions: Mapping[str, int], episodes: Sequence[int], seed: int
) -> dict[str, dict[str, Array]]:
    """Return how far what the pixels show is from the vector beside them, by model, (N, T).

    Beside the world model's stand the real frames, where only the reading errs, and the world
    model's pictures with the vectors it imagined of another clip.
    """
    scores: dict[str, dict[str, Array]] = {WORLD_MODEL: {}, REAL: {}, OTHER_CLIP: {}}
    imagined = readings[WORLD_MODEL]
    for name, count in positions.items():
        if f"seen/{name}" not in imagined:
            continue
        for model in (WORLD_MODEL, REAL):
            seen, own = readings[model][f"seen/{name}"], readings[model][f"own/{name}"]
            scores[model][f"{AGREEMENT}/{name}"] = _distance(seen, own[..., :count])
        if len(episodes) > 1:
            giver = derangement([str(e) for e in episodes], seed)
            own = imagined[f"own/{name}"][giver][..., :count]
            scores[OTHER_CLIP][f"{AGREEMENT}/{name}"] = _distance(imagined[f"seen/{name}"], own)
    return {model: values for model, values in scores.items() if values}


def agreement_infos(positions: Mapping[str, int]) -> dict[str, MetricInfo]:
    """Return what the metrics of `agreement` mean."""
    return {
        f"{AGREEMENT}/{name}": MetricInfo(f"{name}: pixels against vector", "", "lower", "vector")
        for name in positions
    }


def measure_fidelity(
    readings: Readings,
    episodes: Sequence[int],
    horizons: Sequence[int],
    *,
    seed: int,
    num_resamples: int,
    left_out: Mapping[str, str],
    notes: Sequence[str],
) -> Fidelity:
    """Summarise what was read.

    Args:
        readings: Of `read_models`, and "features NAME/CAMERA", (N, T', D).
        episodes: Of each clip, (N,), which are resampled.
        horizons: Last frames of the stretches.
        seed: Of the resampling.
        num_resamples: Of the bootstrap.
        left_out: What was not measured, and why.
        notes: To be shown.
    """
    settings = {"seed": seed, "num_resamples": num_resamples}
    real = readings[REAL]
    inverse = {
        source: {
            model: explained(
                real["commanded"], readings[model][name], episodes, horizons, **settings
            )
            for model in READ
            if name in readings.get(model, {})
        }
        for source in (VECTORS, IMAGES)
        if (name := f"action/{source}") in real
    }
    reward = {
        model: explained(
            real["predicted/reward"],
            readings[model]["predicted/reward"],
            episodes,
            horizons,
            **settings,
        )
        for model in READ[1:]
        if "predicted/reward" in real and "predicted/reward" in readings.get(model, {})
    }
    events = [n.removeprefix("predicted/") for n in real if n.startswith("predicted/")]
    curves = [
        calibrate(
            event,
            readings[WORLD_MODEL][f"predicted/{event}"][..., 0],
            real[f"predicted/{event}"][..., 0],
            episodes,
            **settings,
        )
        for event in events
        if event != "reward" and f"predicted/{event}" in readings[WORLD_MODEL]
    ]
    return Fidelity(
        horizons=tuple(horizons),
        inverse_dynamics=inverse,
        reward=reward,
        calibration=tuple(curve for curve in curves if curve is not None),
        frechet=_frechet(readings, episodes, seed),
        left_out=left_out,
        notes=tuple(notes),
    )


def _frechet(readings: Readings, episodes: Sequence[int], seed: int) -> tuple[FrechetResult, ...]:
    """Compare all features, every frame a sample."""
    results = []
    for reading in [name for name in readings[REAL] if name.startswith("features ")]:
        name, _, camera = reading.removeprefix("features ").partition("/")
        samples = {
            model: rearrange(values[reading], "n t d -> (n t) d")
            for model, values in readings.items()
            if reading in values
        }
        real = samples.pop(REAL)
        groups = np.repeat(np.asarray(episodes), len(real) // len(episodes))
        results.append(compare_features(name, camera, real, samples, groups, seed))
    return tuple(results)


def _real_frames(clip: Clip, start: int, stop: int | None = None) -> Frames:
    """Return frames of a clip; vectors and outcomes that are not valid are NaN."""
    part = clip.frames(start, clip.num_frames if stop is None else stop)
    return Frames(
        images=dict(part.images),
        vectors={k: _nan(part.valid[k], v) for k, v in part.vectors.items()},
        outcome={k: torch.where(part.valid[k], v, torch.nan) for k, v in part.outcome.items()},
    )


def _nan(valid: Tensor, values: Tensor) -> Tensor:
    return torch.where(valid[..., None], values.double(), torch.nan)


def _distance(one: Array, other: Array) -> Array:
    return np.linalg.norm(one - other, axis=-1)
