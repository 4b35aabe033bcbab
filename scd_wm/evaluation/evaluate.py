"""Evaluate a world model on held-out episodes beside its null models.

Every model imagines the same clips; differences are taken clip by clip and given with a bootstrap
interval over episodes. Axes: N clips, B clips of a batch, T imagined frames, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from scd_wm.clip import Clip, collate
from scd_wm.evaluation.bootstrap import Interval, bootstrap_mean
from scd_wm.evaluation.clips import ClipPlace, ClipSource, choose_clips, fitting_horizons
from scd_wm.evaluation.locate import TrackedColour
from scd_wm.evaluation.null_models import Imagine, copy_last, derangement
from scd_wm.evaluation.result import (
    CONSTANT,
    COPY_LAST,
    ROUND_TRIP,
    SHUFFLED,
    WORLD_MODEL,
    Evaluation,
    MetricResult,
)
from scd_wm.evaluation.scores import MetricInfo, Scorer, default_position_vectors, outcome_scores
from scd_wm.evaluation.uncertainty import UncertaintyResult, compare
from scd_wm.imagination import Frames
from scd_wm.spec import Spec

Ceiling = Callable[[Clip], Frames]
"""What really happened, (B, T), as well as a model can show it at all; entries may be left out."""

UNCERTAINTY = "uncertainty"  # of the world model, beside the metrics in its table
MOST_COMPARED = 4  # metrics that its uncertainty is compared with, at most

Table = dict[str, dict[str, NDArray[np.float64]]]  # model: metric: (N, T)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How an evaluation is done."""

    num_clips: int = 64  # clips imagined, spread over the held-out episodes
    history: int = 4  # real frames given before the first imagined one
    horizons: tuple[int, ...] = (1, 4, 8, 16, 32)  # imagined frames after which numbers are given
    seed: int = 0  # of the choice of clips, the model's noise, the shuffling and the bootstrap
    batch_size: int = 16  # clips imagined at once; bounds memory, does not change the numbers
    num_resamples: int = 2000  # of the bootstrap

    def __post_init__(self) -> None:
        for name in ("num_clips", "batch_size", "num_resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")


def evaluate(
    imagine: Imagine,
    source: ClipSource,
    spec: Spec,
    config: EvaluationConfig,
    *,
    tracked_colours: Mapping[str, TrackedColour] | None = None,
    position_vectors: Mapping[str, int] | None = None,
    ceiling: Ceiling | None = None,
    progress: bool = True,
) -> Evaluation:
    """Imagine clips of a data set with a world model and its null models, and score all of them.

    The null models are the last frame copied, the same model under the actions of another clip and,
    for outcomes, the best constant in hindsight.

    Args:
        imagine: The world model.
        source: Held-out episodes.
        spec: What a frame of them holds.
        config: How.
        tracked_colours: Objects to find by colour in the images; None leaves that part out.
        position_vectors: Vectors that begin with a position, and how many values that is; None
            guesses by name (`default_position_vectors`).
        ceiling: For a world of latents, the round trip through its autoencoder: a row of its own,
            which no model of the same latents can pass by much.
        progress: Show a progress bar.

    Returns:
        Means and intervals of every metric, model and frame.

    Raises:
        ValueError: If no episode is long enough.
        KeyError: If `position_vectors` names a vector that is not there.
    """
    plan = plan_evaluation(source, config)
    positions = default_position_vectors(spec) if position_vectors is None else position_vectors
    scorer = Scorer(spec=spec, tracked_colours=tracked_colours or {}, position_vectors=positions)
    table = _score_all(_Models(imagine, ceiling), source, plan, scorer, progress)
    return Evaluation(
        horizons=plan.horizons,
        horizons_left_out=plan.horizons_left_out,
        history=config.history,
        seed=config.seed,
        clips=tuple((e, p.start) for e, p in zip(plan.episodes, plan.places, strict=True)),
        metrics=_summarise(table, scorer.describe(), plan),
        uncertainty=_compare_uncertainty(table[WORLD_MODEL], scorer.describe(), plan),
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All choices of an evaluation, made before anything is imagined."""

    config: EvaluationConfig
    horizons: tuple[int, ...]
    horizons_left_out: tuple[int, ...]
    places: tuple[ClipPlace, ...]  # N
    episodes: tuple[str, ...]  # of each clip, N
    seeds: Tensor  # of the model's noise in each clip, (N,) int64
    borrowed: Tensor | None  # imagined actions of another clip, (N, T, A); None for a single clip

    @property
    def clip_len(self) -> int:
        """Frames of history and frames imagined."""
        return self.config.history + self.horizons[-1]

    @property
    def batches(self) -> list[slice]:
        """Clips that are imagined together."""
        size = self.config.batch_size
        return [slice(i, i + size) for i in range(0, len(self.places), size)]


def plan_evaluation(source: ClipSource, config: EvaluationConfig) -> Plan:
    """Choose horizons, clips, seeds and whose actions each clip borrows.

    Raises:
        ValueError: If no episode is long enough.
    """
    horizons, left_out = fitting_horizons(source, config.history, config.horizons)
    places = choose_clips(source, config.history + horizons[-1], config.num_clips, config.seed)
    return Plan(
        config=config,
        horizons=horizons,
        horizons_left_out=left_out,
        places=places,
        episodes=tuple(source.episodes[p.episode].name for p in places),
        seeds=clip_seeds(len(places), config.seed),
        borrowed=_borrow_actions(source, places, config.history + horizons[-1], config),
    )


def clip_seeds(count: int, seed: int) -> Tensor:
    """Return a seed of the model's noise for each clip, (count,) int64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2**31, (count,), generator=generator)


def read_clips(source: ClipSource, places: Sequence[ClipPlace], num_frames: int) -> Clip:
    """Return clips of a data set as one batch."""
    return collate([source.clip(p.episode, p.start, num_frames) for p in places])


def _borrow_actions(
    source: ClipSource, places: Sequence[ClipPlace], clip_len: int, config: EvaluationConfig
) -> Tensor | None:
    """Return for each clip the actions that another clip takes while imagined, (N, T, A)."""
    if len(places) < 2:
        return None
    clips = (source.clip(p.episode, p.start, clip_len) for p in places)
    actions = torch.stack([clip.actions[config.history - 1 :] for clip in clips])
    giver = derangement([str(p.episode) for p in places], config.seed)
    return actions[torch.from_numpy(giver)]


@dataclass(frozen=True)
class _Models:
    """What is scored beside the last frame copied."""

    imagine: Imagine
    ceiling: Ceiling | None


def _score_all(
    models: _Models, source: ClipSource, plan: Plan, scorer: Scorer, progress: bool
) -> Table:
    """Score every model on every clip, a batch at a time."""
    parts: list[Table] = []
    real: list[Table] = []
    with tqdm(total=len(plan.places), desc="evaluate", unit="clip", disable=not progress) as bar:
        for rows in plan.batches:
            clip = read_clips(source, plan.places[rows], plan.clip_len)
            parts.append(_score_batch(models, clip, rows, plan, scorer))
            real.append({"real": _real_outcomes(clip, plan.config.history)})
            bar.update(len(plan.places[rows]))
    return _join(parts) | {CONSTANT: constant_scores(_join(real)["real"])}


def _score_batch(models: _Models, clip: Clip, rows: slice, plan: Plan, scorer: Scorer) -> Table:
    """Score every model on one batch of clips."""
    history = clip.frames(0, plan.config.history)
    actions, seeds = clip.actions[:, plan.config.history - 1 :], plan.seeds[rows]
    imagined = {
        WORLD_MODEL: models.imagine(history, actions, seeds),
        COPY_LAST: copy_last(history, actions, seeds),
    }
    if plan.borrowed is not None:
        imagined[SHUFFLED] = models.imagine(history, plan.borrowed[rows], seeds)
    if models.ceiling is not None:
        imagined[ROUND_TRIP] = models.ceiling(clip.frames(plan.config.history, clip.num_frames))
    scores = {model: scorer.score(frames, clip) for model, frames in imagined.items()}
    known = imagined[WORLD_MODEL].uncertainty
    if known is not None:
        scores[WORLD_MODEL][UNCERTAINTY] = known.double()
    for name, values in scores[COPY_LAST].items():
        if name in scorer.outcome_metrics:  # the start of an episode has no outcome to copy
            known = history.valid[scorer.outcome_metrics[name]][:, -1:]
            scores[COPY_LAST][name] = torch.where(known, values, float("nan"))
    return {model: {k: v.numpy() for k, v in s.items()} for model, s in scores.items()}


def _real_outcomes(clip: Clip, history: int) -> dict[str, NDArray[np.float64]]:
    """Return the real outcomes of the imagined frames, (B, T), NaN where there are none."""
    return {
        name: torch.where(clip.valid[name], values.double(), float("nan"))[:, history:].numpy()
        for name, values in clip.outcome.items()
    }


def constant_scores(outcomes: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Score the constant that would have been best: the base rate of an event, the median reward.

    It is taken from the evaluated frames themselves, which favours it: a model that beats it has
    learned when, not only how often.

    Args:
        outcomes: Real outcomes, (N, T), NaN where there are none.

    Returns:
        (N, T) for each metric.
    """
    scores: dict[str, NDArray[np.float64]] = {}
    for name, real in outcomes.items():
        if np.isnan(real).all():
            continue
        best = float(np.nanmedian(real) if name == "reward" else np.nanmean(real))
        values = outcome_scores(
            name, torch.full(real.shape, best, dtype=torch.float64), torch.from_numpy(real)
        )
        scores |= {k: np.where(np.isnan(real), np.nan, v.numpy()) for k, v in values.items()}
    return scores


def _join(parts: Sequence[Table]) -> Table:
    """Concatenate the clips of batches."""
    return {
        model: {k: np.concatenate([p[model][k] for p in parts]) for k in metrics}
        for model, metrics in parts[0].items()
    }


def _summarise(
    table: Table, infos: Mapping[str, MetricInfo], plan: Plan
) -> dict[str, MetricResult]:
    """Take means over clips and paired differences from the world model, with intervals."""
    episodes, config = [p.episode for p in plan.places], plan.config

    def interval(values: NDArray[np.float64]) -> Interval:
        return bootstrap_mean(
            values, episodes, seed=config.seed, num_resamples=config.num_resamples
        )

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


def _compare_uncertainty(
    own: Mapping[str, NDArray[np.float64]], infos: Mapping[str, MetricInfo], plan: Plan
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
            [place.episode for place in plan.places],
            seed=plan.config.seed,
        )
        for name in names[:MOST_COMPARED]
    )
