"""Evaluate a trained run on held-out episodes, and write a report that opens in a browser.

OUT/report.html   everything, in one file
OUT/summary.json  all numbers
OUT/media/        the videos and film strips as files
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.frames import round_trip
from scd_wm.counterfactual_run import add_counterfactuals
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.datasets.doctor import diagnose
from scd_wm.datasets.doctor_exam import ExamConfig
from scd_wm.evaluation.evaluate import EvaluationConfig, evaluate
from scd_wm.evaluation.locate import colours_from_metadata, parse_colours
from scd_wm.evaluation.networks import Networks, VideoNetwork
from scd_wm.evaluation.perceptual import PerceptualNetwork
from scd_wm.evaluation.result import COPY_LAST, Evaluation, short_table
from scd_wm.evaluation.world_model import as_imagine
from scd_wm.imagination import sampler_of
from scd_wm.model.flow import Sampler
from scd_wm.model.world_model import WorldModel
from scd_wm.report.build import write_media, write_report
from scd_wm.report.fidelity_section import fidelity_lines
from scd_wm.report.headline import headline_horizon, headline_metrics
from scd_wm.report.items import RunReport
from scd_wm.report.media import MediaConfig, make_media
from scd_wm.rollouts.repeating_simulator import find_simulator
from scd_wm.spec import Spec
from scd_wm.training import files
from scd_wm.training.checkpoint import (
    CONFIG,
    check_folder,
    load_world_autoencoder,
    load_world_model,
)
from scd_wm.training.run_data import open_evaluated
from scd_wm.training.run_log import LOG, read_log

FORMAT = "scd_wm evaluation"
SUMMARY = "summary.json"
EXAMINED = 200  # episodes of the data, at most, whose numbers are looked at for its section
STEPS_TO_DRAW = 4  # sampler steps for several futures from one start: in one step all are the mean


def evaluate_run(
    run: str | Path,
    data: str | Path | None,
    out: str | Path,
    *,
    config: EvaluationConfig | None = None,
    num_steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    tracked_colours: Sequence[str] = (),
    env: str | None = None,
    i3d: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a run beside its null models and write a report.

    Args:
        run: A run folder or an exported model.
        data: The data set; None is the one of training. Of that one only the held-out episodes are
            used, of any other all.
        out: Folder to write, whole or not at all; the one of an earlier evaluation is replaced.
        config: How many clips, which horizons and so on; None takes the defaults.
        num_steps: Sampler steps for each frame; None takes the model's own.
        solver: "euler" or "heun"; None takes the model's own.
        guidance: g of `scd_wm.model.guidance`, 1 for none; None takes the model's own.
        tracked_colours: Objects to find in images, such as "pusher=40,60,230"; () takes those that
            the data names, if any.
        env: The simulator of the data, in which other actions are played from recorded moments;
            None takes the one that the data names, if it is registered.
        i3d: A TorchScript file of I3D, for FVD; it is a program, and is run. None leaves FVD out.
        device: Where the model runs; None is a CUDA device if there is one.
        progress: Show a progress bar.

    Returns:
        What summary.json holds: a few plain values, and all numbers under "evaluation".

    Raises:
        FileExistsError: If `out` holds something else.
        FileNotFoundError: If there is nothing at `run`, `data` or `i3d`, or the run has no weights
            yet.
        KeyError: If the data lacks a camera or vector of the model.
        ValueError: If the data does not fit the model, no episode is long enough, or `env` is not
            the simulator of the data.
    """
    out, started = Path(out), time.perf_counter()
    check_out(out, FORMAT)
    report = report_on(
        run,
        data,
        config=config,
        num_steps=num_steps,
        solver=solver,
        guidance=guidance,
        tracked_colours=tracked_colours,
        env=env,
        i3d=i3d,
        device=device,
        progress=progress,
    )
    print("\n".join([short_table(report.evaluation), *fidelity_lines(report.evaluation.fidelity)]))
    summary = {
        "format": FORMAT,
        "run": str(run),
        "data": str(report.data["path"]),
        "report": str(out / "report.html"),
        "num_clips": report.evaluation.num_clips,
        "num_episodes": report.evaluation.num_episodes,
        **headline_values(report.evaluation),
        "duration_s": time.perf_counter() - started,
        "evaluation": report.evaluation.to_json(),
    }
    with files.new_folder(out) as folder:
        write_report(folder / "report.html", [report])
        write_media(folder / "media", report.media)
        files.write_json(folder / SUMMARY, summary)
    return summary


def report_on(
    run: str | Path,
    data: str | Path | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    config: EvaluationConfig | None = None,
    num_steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    tracked_colours: Sequence[str] = (),
    env: str | None = None,
    i3d: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
) -> RunReport:
    """Evaluate a run and make what there is to see of it; `write_report` joins several of these.

    Args:
        run: As in `evaluate_run`, like all that is not named here.
        data: The data set.
        name: Of the run in the report; None is its folder's.
        description: A sentence or two on it; None says what it was trained on.
        config: How to evaluate.
        num_steps: Sampler steps.
        solver: Of the sampler.
        guidance: Of the sampler.
        tracked_colours: Objects to find.
        env: Simulator of the data.
        i3d: Weights of I3D.
        device: Where the model runs.
        progress: Show a progress bar.

    Raises:
        FileNotFoundError, KeyError, ValueError: As in `evaluate_run`.
    """
    colours = parse_colours(tracked_colours)
    config = EvaluationConfig() if config is None else config
    model = load_world_model(run, device or default_device(), engine="auto")
    sampler = sampler_of(model, num_steps, solver, guidance)
    autoencoder = load_world_autoencoder(run, device or default_device())
    networks = Networks(PerceptualNetwork.installed(), None if i3d is None else VideoNetwork(i3d))
    trained, held_out = open_evaluated(run, data)
    spec = model.spec.pixels
    if env is not None:
        find_simulator(held_out, env)
    held_out.prepare()
    colours = colours or colours_from_metadata(held_out.info.metadata)
    imagine = as_imagine(model, num_steps, autoencoder, solver, guidance)
    result = evaluate(
        imagine,
        held_out,
        spec,
        config,
        tracked_colours=colours,
        ceiling=autoencoder and partial(round_trip, autoencoder=autoencoder, spec=model.spec),
        fit_on=trained,
        networks=networks,
        progress=progress,
    )
    result = add_counterfactuals(result, imagine, held_out, spec, config, env, colours)
    several = max(sampler.num_steps, STEPS_TO_DRAW)
    draw = as_imagine(model, several, autoencoder, solver, guidance)
    shown = MediaConfig(history=config.history, horizons=config.horizons, seed=config.seed + 1)
    run = check_folder(run)
    stored = files.read_json(run / CONFIG)
    log = read_log(run) if (run / LOG).is_file() else []
    return RunReport(
        name=name or run.resolve().name,
        description=description or _describe(stored, held_out),
        evaluation=result,
        media=make_media(imagine, held_out, spec, shown, colours, draw),
        log=log,
        config={k: v for k, v in stored.items() if k != "spec"} | {"evaluation": vars(config)},
        data=describe_data(held_out, stored),
        facts=_facts(model, stored, log, sampler) | _latent_facts(model.spec, autoencoder),
        diagnosis=diagnose(held_out.info.path, ExamConfig(images=0, episodes=EXAMINED)).to_json(),
    )


def check_out(out: Path, kind: str) -> None:
    """Raise FileExistsError if `out` holds anything but an earlier output of this kind."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    summary = out / SUMMARY
    if not (summary.is_file() and files.read_json(summary).get("format") == kind):
        raise FileExistsError(f"{out} holds something other than an {kind}; choose another folder")


def default_device() -> str:
    """Return the device that an entry point uses unless told otherwise."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def describe_data(held_out: RobotDataset, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the evaluated data is, name to text or number."""
    info, trained = held_out.info, stored.get("data", {})
    cameras = {n: f"{h}x{w}" for n, (h, w) in held_out.image_sizes.items()}
    return {
        "path": str(info.path),
        "format": info.format,
        "episodes": len(info.episodes),
        "episodes trained on": trained.get("num_train_episodes", "unknown"),
        "episodes held out and evaluated": len(held_out.episodes),
        "steps in held-out episodes": held_out.num_steps,
        "steps a second": held_out.fps or "not said by the data",
        "frame skip": held_out.options.frame_skip,
        "cameras": ", ".join(f"{n} {size}" for n, size in cameras.items()) or "none",
        "vectors": ", ".join(f"{n} ({info.fields[n].shape[0]})" for n in held_out.vectors)
        or "none",
        "action": f"{held_out.action_dim} values",
        "outcomes": ", ".join(held_out.outcomes) or "none",
        "skipped": "; ".join(info.skipped) or "nothing",
    }


def headline_values(evaluation: Evaluation) -> dict[str, Any]:
    """Return the numbers that matter as plain values."""
    horizon = headline_horizon(evaluation)
    values: dict[str, Any] = {"horizon": horizon}
    for name in headline_metrics(evaluation):
        values[name] = evaluation.mean(name, horizon)
        values[f"{name} (last frame copied)"] = evaluation.mean(name, horizon, COPY_LAST)
    return values


def _describe(stored: Mapping[str, Any], held_out: RobotDataset) -> str:
    preset = stored.get("preset")
    model = f"A world model of the preset {preset!r}" if preset else "A world model"
    source = Path(stored.get("data", {}).get("path", "other data")).name
    again = f", starting from {stored['init']}" if stored.get("init") else ""
    return f"{model} trained on {source}{again}, evaluated on {held_out.info.path.name}."


def _facts(
    model: WorldModel,
    stored: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    sampler: Sampler,
) -> dict[str, str]:
    """Return short facts on a run, in text."""
    last = log[-1] if log else {}
    steps = last.get("step", stored.get("steps"))
    seconds = last.get("elapsed_s", 60 * stored["minutes"] if "minutes" in stored else None)
    facts = {"parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.2g} M"}
    if steps is not None:
        facts["training steps"] = f"{steps:,}"
    if seconds is not None:
        facts["training time"] = f"{seconds / 60:.1f} min"
    facts["sampler steps"] = f"{sampler.num_steps}, {sampler.solver}"
    if sampler.guidance != 1:
        facts["guidance"] = f"{sampler.guidance:g}"
    return facts


def _latent_facts(spec: Spec, autoencoder: FrameAutoencoder | None) -> dict[str, str]:
    """Return a short fact on the latents, if the world is one of latents."""
    if autoencoder is None:
        return {}
    sizes = {f"{c.height}x{c.width}x{c.channels}" for c in spec.cameras.values()}
    return {"latents": f"{', '.join(sorted(sizes))} of {autoencoder.name}"}
