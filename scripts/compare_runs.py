"""Compare runs on the same clips of a data set: means, and each run minus the first, by horizon.

Every run imagines the same clips with the same noise seeds. Intervals are 95 % bootstrap over
episodes, of differences paired by clip. Only episodes that have all frames are used: the longest
horizon decides, and horizons that fewer than half of the episodes reach are left out.

usage: python scripts/compare_runs.py DATA RUN [RUN ...] [--horizons 1,4,16] [--clips N]
                                       [--futures K] [--num-steps T]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scd_wm.console import number_list
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluation.bootstrap import Interval, bootstrap_mean
from scd_wm.evaluation.clips import ClipSource
from scd_wm.evaluation.evaluate import (
    EvaluationConfig,
    Plan,
    plan_evaluation,
    read_clips,
    score_futures,
)
from scd_wm.evaluation.locate import colours_from_metadata
from scd_wm.evaluation.null_models import Imagine, copy_last
from scd_wm.evaluation.result import number
from scd_wm.evaluation.scores import Scorer, default_position_vectors
from scd_wm.evaluation.world_model import as_imagine
from scd_wm.training.checkpoint import load_world_autoencoder, load_world_model
from scd_wm.training.run_data import open_run_data

SHOWN = ("energy/", "energy_px/", "position/", "position_px/", "found/", "moving_psnr/")
Scores = Mapping[str, NDArray[np.float64]]  # by metric, (N clips, T imagined frames)


def compare(data: Path, runs: list[Path], config: EvaluationConfig, num_steps: int | None) -> None:
    """Print a table for each metric."""
    source, model = unseen(runs, data), load_world_model(runs[0])
    source.prepare()
    spec = model.spec.pixels
    colours = colours_from_metadata(source.info.metadata) if spec.cameras else {}
    scorer = Scorer(
        spec=spec, tracked_colours=colours, position_vectors=default_position_vectors(spec)
    )
    plan = plan_evaluation(source, config)
    models = {
        str(run): as_imagine(
            load_world_model(run, engine="auto"), num_steps, load_world_autoencoder(run, "cpu")
        )
        for run in runs
    }
    table = {
        name: scores(imagine, source, plan, scorer)
        for name, imagine in {**models, "last frame copied": copy_last}.items()
    }
    print(f"{len(plan.places)} clips of {len(set(plan.episodes))} episodes", end="")
    print(f"; horizons left out: {plan.horizons_left_out}" if plan.horizons_left_out else "")
    for metric in table[str(runs[0])]:
        if metric.startswith(SHOWN):
            show(metric, {name: found[metric] for name, found in table.items()}, plan)


def unseen(runs: list[Path], data: Path) -> RobotDataset:
    """Return the episodes of a data set that no run was trained on.

    Raises:
        ValueError: If they are not the same of all runs.
    """
    sources = [open_run_data(run, data) for run in runs]
    names = [{episode.name for episode in source.episodes} for source in sources]
    for run, found in zip(runs, names, strict=True):
        if found != names[0]:
            raise ValueError(
                f"{run} was trained on other episodes of {data} than {runs[0]}: give data that "
                "none was trained on, or runs with the same ones held out"
            )
    return sources[0]


def scores(imagine: Imagine, source: ClipSource, plan: Plan, scorer: Scorer) -> Scores:
    """Return the scores of all clips by metric."""
    parts = []
    for rows in plan.batches:
        clip = read_clips(source, plan.places[rows], plan.clip_len)
        history = clip.frames(0, plan.config.history)
        frames = imagine(history, clip.actions[:, plan.config.history - 1 :], plan.seeds[rows])
        futures = score_futures(imagine, frames, clip, rows, plan, scorer)
        parts.append(scorer.score(frames, clip) | futures)
    return {name: np.concatenate([p[name].numpy() for p in parts]) for name in parts[0]}


def show(metric: str, found: Scores, plan: Plan) -> None:
    """Print one metric: a row for each model, below it the difference from the first."""
    episodes = [place.episode for place in plan.places]
    print(f"\n{metric:<40}" + "".join(f"{f'h = {h}':>30}" for h in plan.horizons))
    first = next(iter(found.values()))
    for name, values in found.items():
        _row(name, bootstrap_mean(values, episodes, seed=plan.config.seed), plan)
        if values is not first:
            difference = bootstrap_mean(values - first, episodes, seed=plan.config.seed)
            _row("  minus the first", difference, plan)


def _row(name: str, interval: Interval, plan: Plan) -> None:
    cells = []
    for h in plan.horizons:
        low, high = number(float(interval.low[h - 1])), number(float(interval.high[h - 1]))
        cells.append(f"{number(float(interval.mean[h - 1]))} ({low} to {high})")
    print(f"{name[-40:]:<40}" + "".join(f"{cell:>30}" for cell in cells))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--horizons", type=number_list, default=(1, 4, 16, 32, 64, 128))
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--futures", type=int, default=1, help="2 or more give energy scores")
    parser.add_argument("--num-steps", type=int, help="of the sampler; default: the models'")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = EvaluationConfig(
        num_clips=args.clips, num_futures=args.futures, horizons=args.horizons, seed=args.seed
    )
    compare(args.data, args.runs, config, args.num_steps)


if __name__ == "__main__":
    main()
