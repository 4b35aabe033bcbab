"""Evaluate a world model on held-out episodes beside its null models.

Every model imagines the same clips; differences are taken clip by clip and given with a bootstrap
interval over episodes. Axes: N clips, B clips of a batch, T imagined frames, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scd_wm.clip import Clip, collate
from scd_wm.evaluation.clips import ClipPlace, ClipSource, choose_clips, fitting_horizons
from scd_wm.evaluation.energy import energy_infos, energy_scores, energy_without_chance
from scd_wm.evaluation.fidelity_measure import (
    READ,
    agreement,
    agreement_infos,
    measure_fidelity,
    read_models,
)
from scd_wm.evaluation.locate import TrackedColour
from scd_wm.evaluation.networks import Networks
from scd_wm.evaluation.null_models import (
    Imagine,
    copy_last,
    derangement,
    describe_zero,
    zero_action,
)
from scd_wm.evaluation.readers import Readers, fit_readers
from scd_wm.evaluation.result import (
    CONSTANT,
    COPY_LAST,
    ROUND_TRIP,
    SHUFFLED,
    WORLD_MODEL,
    ZERO,
    Evaluation,
)
from scd_wm.evaluation.scores import MetricInfo, Scorer, default_position_vectors
from scd_wm.evaluation.summarise import (
    UNCERTAINTY,
    compare_uncertainty,
    constant_scores,
    summarise,
)
from scd_wm.evaluation.tables import (
    Readings,
    Table,
    beside,
    concatenate,
    numbers,
    real_outcomes,
)
from scd_wm.imagination import Frames
from scd_wm.progress import progress_bar
from scd_wm.spec import Spec

Ceiling = Callable[[Clip], Frames]
"""What really happened, (B, T), as well as a model can show it at all; entries may be left out."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How an evaluation is done."""

    num_clips: int = 64  # clips imagined, spread over the held-out episodes
    history: int = 4  # real frames given before the first imagined one
    horizons: tuple[int, ...] = (1, 4, 8, 16, 32)  # imagined frames after which numbers are given
    seed: int = 0  # of the choice of clips, the model's noise, the shuffling and the bootstrap
    num_futures: int = 1  # of each clip; 2 or more give energy scores
    batch_size: int = 16  # clips imagined at once; bounds memory, does not change the numbers
    num_resamples: int = 2000  # of the bootstrap

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_futures", "batch_size", "num_resamples"):
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
    fit_on: ClipSource | None = None,
    networks: Networks | None = None,
    progress: bool = True,
) -> Evaluation:
    """Imagine clips of a data set with a world model and its null models, and score all of them.

    The null models are the last frame copied, the same model under the actions of another clip,
    the same under no action and, for outcomes, the best constant in hindsight.

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
        fit_on: Other episodes, such as those trained on, to fit on what reads actions and positions
            from frames; None fits on one half of `source` what reads the other.
        networks: Of perceptual distances; None leaves these out.
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
    readers, left_out = _readers(source, fit_on, scorer, config.seed)
    networks = networks or Networks()
    left_out |= networks.left_out(scorer.cameras, spec, plan.horizons)
    models = _Models(imagine, ceiling, readers, networks)
    table, readings = _score_all(models, source, plan, scorer, progress)
    episodes = [place.episode for place in plan.places]
    for model, scores in agreement(readings, positions, episodes, config.seed).items():
        table[model] = table.get(model, {}) | scores
    infos = describe(scorer, config) | networks.infos(scorer.cameras) | agreement_infos(positions)
    settings = {"seed": config.seed, "num_resamples": config.num_resamples}
    return Evaluation(
        horizons=plan.horizons,
        horizons_left_out=plan.horizons_left_out,
        history=config.history,
        seed=config.seed,
        clips=tuple((e, p.start) for e, p in zip(plan.episodes, plan.places, strict=True)),
        metrics=summarise(table, infos, episodes, **settings),
        uncertainty=compare_uncertainty(table[WORLD_MODEL], infos, episodes, config.seed),
        fidelity=measure_fidelity(
            readings,
            episodes,
            plan.horizons,
            left_out=left_out,
            notes=(describe_zero(plan.zero, spec), *_fitted_note(readers)),
            **settings,
        ),
    )


def describe(scorer: Scorer, config: EvaluationConfig) -> dict[str, MetricInfo]:
    """Return what the metrics of frames mean, most telling first."""
    infos = scorer.describe()
    return infos if config.num_futures == 1 else energy_infos(infos) | infos


def _readers(
    source: ClipSource, fit_on: ClipSource | None, scorer: Scorer, seed: int
) -> tuple[Readers | None, dict[str, str]]:
    """Fit what reads frames; or say why it cannot be."""
    try:
        readers = fit_readers(source, fit_on, scorer.position_vectors, scorer.cameras, seed)
    except ValueError as error:
        return None, dict.fromkeys(("inverse dynamics", "pixels against vectors"), str(error))
    if not scorer.cameras or not scorer.position_vectors:
        lack = "positions among its vectors" if scorer.cameras else "cameras"
        return readers, {"pixels against vectors": f"the world has no {lack}"}
    return readers, {}


def _fitted_note(readers: Readers | None) -> tuple[str, ...]:
    if readers is None:
        return ()
    where = "other episodes" if len(readers.readers) == 1 else "the other half of these episodes"
    return (f"Actions and positions are read by linear maps that were fitted on {where}.",)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All choices of an evaluation, made before anything is imagined."""

    config: EvaluationConfig
    horizons: tuple[int, ...]
    horizons_left_out: tuple[int, ...]
    places: tuple[ClipPlace, ...]  # N
    episodes: tuple[str, ...]  # of each clip, N
    seeds: Tensor  # of the model's noise in each clip, (N,) int64
    more_seeds: Tensor  # of the other futures of each clip, (num_futures - 1, N)
    borrowed: Tensor | None  # imagined actions of another clip, (N, T, A); None for a single clip
    zero: Tensor  # the action that stands for none, (A,)

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
    clip_len = config.history + horizons[-1]
    places = choose_clips(source, clip_len, config.num_clips, config.seed)
    clips = (source.clip(p.episode, p.start, clip_len) for p in places)
    actions = torch.stack([clip.actions[config.history - 1 :] for clip in clips])
    seeds = clip_seeds(config.num_futures * len(places), config.seed).reshape(-1, len(places))
    return Plan(
        config=config,
        horizons=horizons,
        horizons_left_out=left_out,
        places=places,
        episodes=tuple(source.episodes[p.episode].name for p in places),
        seeds=seeds[0],
        more_seeds=seeds[1:],
        borrowed=_borrow_actions(actions, places, config.seed),
        zero=zero_action(actions),
    )


def clip_seeds(count: int, seed: int) -> Tensor:
    """Return a seed of the model's noise for each clip, (count,) int64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2**31, (count,), generator=generator)


def read_clips(source: ClipSource, places: Sequence[ClipPlace], num_frames: int) -> Clip:
    """Return clips of a data set as one batch."""
    return collate([source.clip(p.episode, p.start, num_frames) for p in places])


def _borrow_actions(actions: Tensor, places: Sequence[ClipPlace], seed: int) -> Tensor | None:
    """Return for each clip the actions that another clip takes while imagined, (N, T, A)."""
    if len(places) < 2:
        return None
    giver = derangement([str(p.episode) for p in places], seed)
    return actions[torch.from_numpy(giver)]


@dataclass(frozen=True)
class _Models:
    """What is scored beside the last frame copied, and what looks at the frames."""

    imagine: Imagine
    ceiling: Ceiling | None
    readers: Readers | None
    networks: Networks


def _score_all(
    models: _Models, source: ClipSource, plan: Plan, scorer: Scorer, progress: bool
) -> tuple[Table, Table]:
    """Score every model on every clip, a batch at a time; return scores and readings."""
    parts: list[Table] = []
    readings: list[Table] = []
    real: list[Table] = []
    with progress_bar(
        total=len(plan.places), desc="evaluate", unit="clip", disable=not progress
    ) as bar:
        for rows in plan.batches:
            clip = read_clips(source, plan.places[rows], plan.clip_len)
            imagined = _imagine_batch(models, clip, rows, plan)
            seen = models.networks.look(imagined, clip, plan.config.history, plan.horizons)
            scores = _score_batch(imagined, clip, plan, scorer)
            own = score_futures(models.imagine, imagined[WORLD_MODEL], clip, rows, plan, scorer)
            copied = energy_without_chance(scores[COPY_LAST]) if own else {}
            scores = beside(scores, {WORLD_MODEL: own, COPY_LAST: copied})
            parts.append(numbers(beside(scores, seen[0])))
            read = read_models(
                {model: frames for model, frames in imagined.items() if model in READ},
                clip,
                plan.config.history,
                models.readers,
                [place.episode for place in plan.places[rows]],
            )
            readings.append(numbers(beside(read, seen[1])))
            real.append({"real": real_outcomes(clip, plan.config.history)})
            bar.update(len(plan.places[rows]))
    return concatenate(parts) | {CONSTANT: constant_scores(concatenate(real)["real"])}, concatenate(
        readings
    )


def _imagine_batch(models: _Models, clip: Clip, rows: slice, plan: Plan) -> dict[str, Frames]:
    """Return what every model imagines of one batch of clips."""
    history = clip.frames(0, plan.config.history)
    actions, seeds = clip.actions[:, plan.config.history - 1 :], plan.seeds[rows]
    imagined = {
        WORLD_MODEL: models.imagine(history, actions, seeds),
        COPY_LAST: copy_last(history, actions, seeds),
    }
    if plan.borrowed is not None:
        imagined[SHUFFLED] = models.imagine(history, plan.borrowed[rows], seeds)
    imagined[ZERO] = models.imagine(history, plan.zero.expand_as(actions), seeds)
    if models.ceiling is not None:
        imagined[ROUND_TRIP] = models.ceiling(clip.frames(plan.config.history, clip.num_frames))
    return imagined


def score_futures(
    imagine: Imagine, first: Frames, clip: Clip, rows: slice, plan: Plan, scorer: Scorer
) -> dict[str, Tensor]:
    """Return the energy scores of the futures that a plan asks for; none if it asks for one.

    Args:
        imagine: The world model.
        first: Frames that it has imagined by the plan's `seeds`.
        clip: The whole real clip, batched.
        rows: Of the plan, which the batch is.
        plan: Of the evaluation.
        scorer: Says what in a frame has a distance.
    """
    if plan.config.num_futures == 1:
        return {}
    history = clip.frames(0, plan.config.history)
    actions = clip.actions[:, plan.config.history - 1 :]
    more = [imagine(history, actions, seeds[rows]) for seeds in plan.more_seeds]
    return energy_scores([first, *more], clip, scorer)


def _score_batch(
    imagined: Mapping[str, Frames], clip: Clip, plan: Plan, scorer: Scorer
) -> Readings:
    """Score every model on one batch of clips."""
    scores = {model: scorer.score(frames, clip) for model, frames in imagined.items()}
    known = imagined[WORLD_MODEL].uncertainty
    if known is not None:
        scores[WORLD_MODEL][UNCERTAINTY] = known.double()
    for name, values in scores[COPY_LAST].items():
        if name in scorer.outcome_metrics:  # the start of an episode has no outcome to copy
            valid = clip.valid[scorer.outcome_metrics[name]]
            known = valid[:, plan.config.history - 1 : plan.config.history]
            scores[COPY_LAST][name] = torch.where(known, values, float("nan"))
    return scores
