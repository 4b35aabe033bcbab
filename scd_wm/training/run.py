"""One training run: data, model and trainer joined, and the folder that they leave.

RUN/config.json     model, spec, training, data, versions: written before the first step
RUN/log.jsonl       numbers by step
RUN/checkpoints/    step_00001234/: model, averaged weights, optimiser, counters
RUN/model/          the averaged weights at the end: what `from_pretrained` reads
RUN/autoencoder/    of a world of latents: a copy of its autoencoder, or a reference to a large one
RUN/summary.json    how it went
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from scd_wm.datasets.dataset import RobotDataset
from scd_wm.datasets.loader import ClipLoader
from scd_wm.datasets.memory import MEMORY_BYTES
from scd_wm.datasets.options import DataOptions
from scd_wm.memory_setup import keep_freed_memory
from scd_wm.model.world_model import WorldModel
from scd_wm.training import files
from scd_wm.training.checkpoint import (
    AUTOENCODER,
    CONFIG,
    EXPORT,
    Autoencoder,
    save_pretrained,
)
from scd_wm.training.config import TrainConfig
from scd_wm.training.provenance import versions
from scd_wm.training.recipes import recipe
from scd_wm.training.resume import Defaults, check_out, check_same
from scd_wm.training.run_data import describe_data, split_data
from scd_wm.training.run_log import check_tensorboard, read_log
from scd_wm.training.run_setup import (
    Init,
    as_seen,
    build,
    choose_autoencoder,
    configure,
    make_spec,
    open_data,
)
from scd_wm.training.state import TrainState
from scd_wm.training.trainer import is_over, make_accelerator, train

FORMAT = "scd_wm run"
SUMMARY = "summary.json"
SUMMARY_LINES = 10  # of the log, at the end, whose mean is the final loss


@dataclass(frozen=True)
class _Plan:
    """All that is decided before the first step."""

    model: WorldModel
    train: TrainConfig
    part: RobotDataset  # episodes to train on
    held_out: RobotDataset | None
    config: dict[str, Any]  # of config.json
    autoencoder: Autoencoder | None  # of a world of latents


def train_run(
    data: str | Path,
    out: str | Path,
    preset: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    init: str | Path | None = None,
    options: DataOptions | None = None,
    memory_bytes: int = MEMORY_BYTES,
    tensorboard: bool = False,
    dry_run: bool = False,
    seed: int | None = None,
    held_out: float | None = None,
    autoencoder: str | Path | None = None,
) -> dict[str, Any]:
    """Train a world model on a data set.

    Args:
        data: Path of the data set.
        out: The run folder.
        preset: Name in `scd_wm.training.recipes`; "tiny" if not given.
        steps: Optimiser steps in all; the recipe's if neither this nor `minutes` is given.
        minutes: Of training in all, over all resumes.
        overrides: "key=value" changes to the recipe's model and training.
        resume: Continue in a run folder, from its newest checkpoint. What is not given is as the
            run has it; what is given must be the same, but for the limit and how often it reports.
        init: A run or exported model whose weights, configuration, spec and statistics to start
            from.
        options: What to use of the data. Cameras and vectors of None are all, or those of `init`;
            no cameras for the preset `state`. An image size of None is that of `init`, or the
            data's own, or the recipe's where the data's is larger.
        memory_bytes: How much of the data is kept in memory.
        tensorboard: Also write TensorBoard events.
        dry_run: Print configuration and sizes, then stop; writes nothing.
        seed: Of the run; the recipe's if not given.
        held_out: Share of the episodes that are kept out of training, at least one; 0 for none, a
            tenth if not given.
        autoencoder: Folder or hub id of a frozen autoencoder (`load_autoencoder`), on whose latents
            the world model is trained. None is that of `init` or of the resumed run, if any.

    Returns:
        What summary.json holds; for a dry run what config.json would.

    Raises:
        FileExistsError: If `out` has checkpoints and `resume` is False, or is something else.
        FileNotFoundError: If `data` or `init` is not there, or `out` with `resume`.
        KeyError: If there is no such preset, camera or vector.
        ModuleNotFoundError: If TensorBoard is asked for and not installed.
        ValueError: If an override is wrong, the data damaged or of another layout than `init`, a
            resumed run has other settings than before, or loss or gradient is not finite.
    """
    keep_freed_memory()
    out = Path(out)
    stored = check_out(out, resume) if resume or not dry_run else None
    if tensorboard:
        check_tensorboard()
    begun = Defaults.of(stored)
    preset, init = preset or begun.preset, init or begun.init
    initial = Init.load(init)
    encoder = choose_autoencoder(autoencoder, initial, out if resume else None)
    start = recipe(preset) if encoder is None else recipe(preset).on_latents()
    start = begun.recipe(start, None if initial is None else initial.model.config)
    chosen = configure(start, initial, overrides, steps, minutes, seed)
    accelerator = make_accelerator()
    with accelerator.main_process_first():  # the first to open video decodes it for all
        dataset = open_data(data, begun.fill(options), chosen, initial, memory_bytes)
        part, rest = split_data(dataset, begun.held_out if held_out is None else held_out)
        part = as_seen(part, encoder)
        rest = None if rest is None else as_seen(rest, encoder)
        spec = make_spec(part, initial)
        for episodes in (None if initial is None else part, rest):
            if episodes is not None:  # not yet read for what is not finite
                episodes.spec()
    config = {
        "format": FORMAT,
        "preset": preset,
        "init": None if init is None else str(init),
        "model": asdict(chosen.model),
        "spec": spec.to_json(),
        "train": asdict(chosen.train),
        "data": describe_data(data, dataset, part, rest),
        "autoencoder": None if encoder is None else encoder.describe(),
        "versions": versions(),
    }
    model = build(spec, chosen, initial)
    if model.few_steps is not None:  # a resumed run must learn from the same
        config["teacher"] = model.few_steps.teacher_fingerprint()
    plan = _Plan(model, chosen.train, part, rest, json.loads(json.dumps(config)), encoder)
    if stored is not None:
        check_same(stored, plan.config, out)
    if accelerator.is_main_process:
        _print_plan(plan)
    return plan.config if dry_run else _train(plan, out, accelerator, tensorboard)


def _train(plan: _Plan, out: Path, accelerator: Accelerator, tensorboard: bool) -> dict[str, Any]:
    """Write config.json, train, export and sum up."""
    loader = _loader(plan.part, plan.train, accelerator)
    held_out = None if plan.held_out is None else _held_out_loader(plan.held_out, plan.train)
    accelerator.wait_for_everyone()  # all have looked at the folder before it changes
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        if plan.autoencoder is not None:
            with files.new_folder(out / AUTOENCODER) as partial:
                plan.autoencoder.write(partial)
        files.write_json(out / CONFIG, plan.config)
        print(f"writing to {out}", flush=True)
    state = train(plan.model, loader, held_out, plan.train, out, accelerator, tensorboard)
    summary = _summarise(plan, state, out, accelerator)
    if accelerator.is_main_process:
        names = ("preset", "init", "train", "data", "autoencoder", "versions")
        origin = {k: plan.config[k] for k in names}
        origin |= {"steps": state.step, "minutes": state.elapsed_s / 60}
        save_pretrained(
            state.model,
            out / EXPORT,
            origin,
            weights=state.ema.weights,
            autoencoder=plan.autoencoder,
        )
        files.write_json(out / SUMMARY, summary)
        if not summary["finished"]:
            print(f"stopped after step {state.step}: go on with --resume")
    return summary


def _loader(part: RobotDataset, config: TrainConfig, accelerator: Accelerator) -> ClipLoader:
    return ClipLoader(
        part,
        config.num_frames,
        config.batch_size,
        config.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )


def _held_out_loader(held_out: RobotDataset, config: TrainConfig) -> ClipLoader:
    """Return held-out clips, shorter ones where no held-out episode is as long."""
    longest = max(episode.num_actions + 2 for episode in held_out.episodes)  # with a start frame
    return ClipLoader(held_out, min(config.num_frames, longest), config.batch_size, seed=0)


def _summarise(
    plan: _Plan, state: TrainState, out: Path, accelerator: Accelerator
) -> dict[str, Any]:
    log = read_log(out) if accelerator.is_main_process else []
    losses = [line["loss"] for line in log if "loss" in line][-SUMMARY_LINES:]
    held_out_losses = [line["val_loss"] for line in log if "val_loss" in line]
    frames = state.samples * plan.train.num_frames
    return {
        "run": str(out),
        "model": str(out / EXPORT),
        "finished": is_over(state, plan.train),
        "steps": state.step,
        "minutes": state.elapsed_s / 60,
        "loss": sum(losses) / len(losses) if losses else None,
        "val_loss": held_out_losses[-1] if held_out_losses else None,
        "frames_per_s": frames / state.elapsed_s if state.elapsed_s else None,
        "parameters": sum(p.numel() for p in plan.model.parameters()),
        "train_episodes": len(plan.part.episodes),
        "held_out_episodes": 0 if plan.held_out is None else len(plan.held_out.episodes),
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _print_plan(plan: _Plan) -> None:
    """Print what the data lacks, the configuration and a table of layers."""
    for reason in plan.part.info.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    for section in ("model", "train", "data"):
        values = {k: v for k, v in plan.config[section].items() if k not in ("held_out", "parts")}
        print(f"{section}: " + " ".join(f"{k}={v}" for k, v in values.items()))
    counts: Counter[str] = Counter()
    for name, parameter in plan.model.named_parameters():
        counts[".".join(name.split(".")[:2])] += parameter.numel()
    counts["total"] = counts.total()
    for name, count in counts.items():
        print(f"  {name:<24}{count:>12,} parameters")
    held_out = 0 if plan.held_out is None else len(plan.held_out.episodes)
    print(f"{len(plan.part.episodes)} episodes to train on, {held_out} held out", flush=True)
