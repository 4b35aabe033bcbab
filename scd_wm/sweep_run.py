"""Evaluate one run at several numbers of sampler steps: what more steps buy, and what they cost.

OUT/summary.json  all numbers

Axes: N clips, T imagined frames.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluate_run import SUMMARY, check_out, default_device
from scd_wm.evaluation import metrics
from scd_wm.evaluation.bootstrap import Interval, bootstrap_mean
from scd_wm.evaluation.evaluate import (
    EvaluationConfig,
    Plan,
    plan_evaluation,
    read_clips,
    score_futures,
)
from scd_wm.evaluation.locate import colours_from_metadata, parse_colours
from scd_wm.evaluation.null_models import Imagine
from scd_wm.evaluation.result import mean_of_all_frames, number
from scd_wm.evaluation.scores import Scorer, default_position_vectors
from scd_wm.evaluation.world_model import as_imagine
from scd_wm.imagination import Frames, sampler_of
from scd_wm.model import flow
from scd_wm.model.flow import Sampler
from scd_wm.progress import progress_bar
from scd_wm.training import files
from scd_wm.training.checkpoint import load_world_autoencoder, load_world_model
from scd_wm.training.run_data import open_run_data

FORMAT = "scd_wm sampler sweep"
SHOWN = (
    *("energy_px/", "position_px/", "found/", "energy/", "position/"),
    *("moving_psnr/", "sharpness/", "rmse/"),
)
SHOWN_AT = 16  # imagined frames at which the table is given, or the longest horizon below


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to sample a frame, what it costs and how good it is."""

    sampler: Sampler
    cpu_s_per_frame: float  # of this process, all threads; the history's reading is in it
    wall_s_per_frame: float
    scores: dict[str, Interval]  # by metric, over clips

    @property
    def evaluations_per_frame(self) -> int:
        """Runs of the denoiser."""
        return flow.num_evaluations(self.sampler)

    def to_json(self, horizons: Sequence[int]) -> dict[str, Any]:
        """Return everything at some horizons in JSON types; what is not finite becomes null."""
        return {
            **asdict(self.sampler),
            "evaluations_per_frame": self.evaluations_per_frame,
            "cpu_s_per_frame": self.cpu_s_per_frame,
            "wall_s_per_frame": self.wall_s_per_frame,
            "metrics": {name: _to_json(x, horizons) for name, x in self.scores.items()},
        }


def sweep_run(
    run: str | Path,
    data: str | Path | None,
    out: str | Path,
    *,
    num_steps: Sequence[int] = (1, 2, 3, 4, 8, 16),
    solvers: Sequence[str] = (),
    guidances: Sequence[float] = (),
    config: EvaluationConfig | None = None,
    tracked_colours: Sequence[str] = (),
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Let a run imagine the same clips with the same seeds at each setting of its sampler.

    Args:
        run: A run folder or an exported model.
        data: The data set; None is the one of training, of which only the held-out episodes are
            used.
        out: Folder to write, whole or not at all; the one of an earlier sweep is replaced.
        num_steps: Sampler steps of a frame.
        solvers: Each with each number of steps; a single step is Euler's, whatever the solver. ()
            takes the model's own.
        guidances: Each with each of these; () takes the model's own.
        config: Which clips and horizons; None takes the defaults.
        tracked_colours: Objects to find in images; () takes those that the data names, if any.
        device: Where the model runs; None is a CUDA device if there is one.
        progress: Show a progress bar.

    Returns:
        What summary.json holds.

    Raises:
        FileExistsError: If `out` holds something else.
        FileNotFoundError: If there is nothing at `run` or `data`, or the run has no weights yet.
        KeyError: If the data lacks a camera or vector of the model.
        ValueError: If a setting is not possible, the data does not fit the model, or no episode is
            long enough.
    """
    out, config = Path(out), EvaluationConfig() if config is None else config
    check_out(out, FORMAT)
    colours = parse_colours(tracked_colours)
    model = load_world_model(run, device or default_device())
    own = model.config
    settings = samplers(num_steps, solvers or (own.solver,), guidances or (own.guidance,))
    for sampler in settings:
        sampler_of(model, **asdict(sampler))  # raises where the model cannot be sampled so
    autoencoder = load_world_autoencoder(run, device or default_device())
    source, spec = open_run_data(run, data), model.spec.pixels
    source.prepare()
    scorer = Scorer(
        spec=spec,
        tracked_colours=colours or colours_from_metadata(source.info.metadata),
        position_vectors=default_position_vectors(spec),
    )
    plan = plan_evaluation(source, config)
    results = []
    for sampler in progress_bar(settings, desc="sweep", unit="setting", disable=not progress):
        imagine = as_imagine(model, autoencoder=autoencoder, **asdict(sampler))
        results.append(_measure(sampler, imagine, source, plan, scorer))
    summary = {
        "format": FORMAT,
        "run": str(run),
        "data": str(source.info.path),
        "num_clips": len(plan.places),
        "num_episodes": len(set(plan.episodes)),
        "history": config.history,
        "horizons": list(plan.horizons),
        "seed": config.seed,
        "threads": torch.get_num_threads(),
        "settings": [result.to_json(plan.horizons) for result in results],
    }
    with files.new_folder(out) as folder:
        files.write_json(folder / SUMMARY, summary)
    print(sweep_table(results, plan.horizons))
    return summary


def samplers(
    num_steps: Sequence[int], solvers: Sequence[str], guidances: Sequence[float] = (1.0,)
) -> list[Sampler]:
    """Return every number of steps with every solver and guidance, a single step with one solver.

    Raises:
        ValueError: If there is none, or one of them is not possible.
    """
    if not (num_steps and solvers and guidances):
        raise ValueError(
            f"give sampler steps, solvers and guidances, got {num_steps}, {solvers}, {guidances}"
        )
    for steps in num_steps:
        flow.levels(steps)
    for solver in solvers:
        flow.solver(solver)
    every = [Sampler(n, s, g) for g in guidances for s in solvers for n in num_steps]
    return [x for x in every if x.num_steps > 1 or x.solver == solvers[0]]


def sweep_table(results: Sequence[Setting], horizons: Sequence[int]) -> str:
    """Return a table for the terminal, a row a setting, at one horizon."""
    horizon = max((h for h in horizons if h <= SHOWN_AT), default=horizons[0])
    names = [n for prefix in SHOWN for n in results[0].scores if n.startswith(prefix)]
    rows = [["guidance", "solver", "T", "evaluations", "CPU ms", *names]]
    for r in results:
        cost = [str(r.evaluations_per_frame), number(1000 * r.cpu_s_per_frame)]
        values = [number(float(r.scores[name].mean[horizon - 1])) for name in names]
        sampler = (f"{r.sampler.guidance:g}", r.sampler.solver, str(r.sampler.num_steps))
        rows.append([*sampler, *cost, *values])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    note = f"{horizon} frames ahead, means over clips; evaluations and CPU time are for each frame"
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], note])


def _measure(
    sampler: Sampler,
    imagine: Imagine,
    source: RobotDataset,
    plan: Plan,
    scorer: Scorer,
) -> Setting:
    """Imagine all clips of the plan, a batch at a time, and score them."""
    parts: list[dict[str, np.ndarray]] = []
    cpu_s = wall_s = 0.0
    for rows in plan.batches:
        clip = read_clips(source, plan.places[rows], plan.clip_len)
        start = plan.config.history
        history, actions = clip.frames(0, start), clip.actions[:, start - 1 :]
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        frames = imagine(history, actions, plan.seeds[rows])
        cpu_s += time.process_time() - cpu_start
        wall_s += time.perf_counter() - wall_start
        scores = scorer.score(frames, clip) | _sharpness(frames, clip, scorer.cameras, start)
        scores |= score_futures(imagine, frames, clip, rows, plan, scorer)
        parts.append({name: values.numpy() for name, values in scores.items()})
    num_frames = len(plan.places) * plan.horizons[-1]
    episodes = [place.episode for place in plan.places]
    return Setting(
        sampler=sampler,
        cpu_s_per_frame=cpu_s / num_frames,
        wall_s_per_frame=wall_s / num_frames,
        scores={
            name: bootstrap_mean(
                np.concatenate([part[name] for part in parts]),
                episodes,
                seed=plan.config.seed,
                num_resamples=plan.config.num_resamples,
            )
            for name in parts[0]
        },
    )


def _sharpness(frames: Frames, clip: Clip, cameras: Sequence[str], start: int) -> dict[str, Tensor]:
    """Return the sharpness of imagined frames, which began at frame `start` of the clip, (B, T)."""
    scores = {}
    for name in cameras:
        images, real = frames.images[name], clip.images[name]
        sharp = metrics.sharpness(images, real[:, start:], real[:, start - 1])
        valid = clip.valid[name][:, start:]
        scores[f"sharpness/{name}"] = torch.where(valid, sharp, torch.nan)
    return scores


def _to_json(interval: Interval, horizons: Sequence[int]) -> dict[str, Any]:
    at_horizons = {
        str(h): {
            **{name: _finite(getattr(interval, name)[h - 1]) for name in ("mean", "low", "high")},
            "num_clips": int(interval.count[h - 1]),
        }
        for h in horizons
    }
    return at_horizons | {"all_frames": {"mean": _finite(mean_of_all_frames(interval))}}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
