"""Train architectures for the same operations on the same data and measure them alike.

OUT/study.json        what was asked for
OUT/data/WORLD/       recordings to train and to test on
OUT/compute.json      operations of a training step, by world and arm
OUT/runs/NAME/        the runs, WORLD-ARM-SEED
OUT/scores/NAME.json  what each imagines of the test recording
OUT/latency.json      how long a frame takes
OUT/table.md          all of it side by side
OUT/summary.json      the same as JSON
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scd_wm.evaluate_run import check_out
from scd_wm.evaluation.evaluate import EvaluationConfig, evaluate
from scd_wm.evaluation.locate import colours_from_metadata
from scd_wm.evaluation.world_model import as_imagine
from scd_wm.study import compute, latency
from scd_wm.study.config import ARMS, REFERENCE, WORLDS, RunName, StudyConfig
from scd_wm.study.recordings import record
from scd_wm.study.table import lines
from scd_wm.training import files
from scd_wm.training.checkpoint import checkpoints, load_world_model
from scd_wm.training.run import SUMMARY, train_run
from scd_wm.training.run_data import open_run_data

FORMAT = "scd_wm study"
SETTINGS, COMPUTE, LATENCY, TABLE = "study.json", "compute.json", "latency.json", "table.md"
HELD_OUT = 0.1  # of the episodes to train on; the table is made on others
HISTORY = 4  # real frames given
COOLDOWN = 0.25  # of the steps, in which the learning rate falls to 0
FREE_TO_CHANGE = ("seeds", "worlds", "arms")  # more of them add runs to a study that is there


def study(out: str | Path, config: StudyConfig | None = None) -> dict[str, Any]:
    """Make all runs of a study that are not there yet, measure them and write the table.

    Args:
        out: Folder to write; a study that was stopped goes on there.
        config: What to compare; None takes the defaults.

    Returns:
        What summary.json holds.

    Raises:
        FileExistsError: If `out` holds something else, or a study with other settings.
        KeyboardInterrupt: If a training run was stopped; the same call goes on.
        ValueError: If an override is wrong.
    """
    out, started = Path(out), time.perf_counter()
    config = StudyConfig() if config is None else config
    for run in config.runs:
        compute.settings(WORLDS[run.world].preset, overrides(run, config))  # raises where wrong
    _claim(out, config)
    data = {
        name: record(WORLDS[name], config.data_scale, out / "data" / name) for name in config.worlds
    }
    flops = _step_flops(out, config, {name: train for name, (train, _) in data.items()})
    for run in config.runs:
        train_data, test_data = data[run.world]
        _train(out, run, config, train_data, flops[run.world])
        _score(out, run, config, test_data)
    found = {
        "format": FORMAT,
        "config": asdict(config),
        "step_flops": flops,
        "runs": {run.folder: _read_run(out, run) for run in config.runs},
        "latency": _latency(out, config, {name: test for name, (_, test) in data.items()}),
        "table": str(out / TABLE),
        "duration_s": time.perf_counter() - started,
    }
    files.write_json(out / SUMMARY, found)
    text = "\n".join(lines(found))
    files.write_text(out / TABLE, text + "\n")
    print(f"\n{text}", flush=True)
    return found


def _claim(out: Path, config: StudyConfig) -> None:
    """Make `out`, or raise FileExistsError if it holds something other than this study."""
    settings = {k: v for k, v in asdict(config).items() if k not in FREE_TO_CHANGE}
    settings = json.loads(json.dumps(settings))
    if not (out / SETTINGS).is_file():
        check_out(out, FORMAT)
    elif (there := files.read_json(out / SETTINGS)) != settings:
        changed = [k for k in settings if there.get(k) != settings[k]]
        raise FileExistsError(
            f"{out} holds a study with other settings ({', '.join(changed)}); choose another folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / SETTINGS, settings)


def overrides(run: RunName, config: StudyConfig) -> list[str]:
    """Return what a run changes in its preset."""
    return [*ARMS[run.arm], *config.overrides]


def _step_flops(
    out: Path, config: StudyConfig, data: dict[str, Path]
) -> dict[str, dict[str, float]]:
    """Count the operations of a training step of each arm, the reference's too."""
    path = out / COMPUTE
    found: dict[str, dict[str, float]] = files.read_json(path) if path.is_file() else {}
    for world in config.worlds:
        known = found.setdefault(world, {})
        for arm in dict.fromkeys((REFERENCE, *config.arms)):
            if arm not in known:
                print(f"counting the operations of {arm} on {world}", flush=True)
                changes = overrides(RunName(world, arm, 0), config)
                preset = WORLDS[world].preset
                known[arm] = compute.step_flops(data[world], preset, changes, HELD_OUT)
                files.write_json(path, found)
    return found


def _train(
    out: Path, run: RunName, config: StudyConfig, data: Path, flops: dict[str, float]
) -> None:
    folder = out / "runs" / run.folder
    if (folder / SUMMARY).is_file() and files.read_json(folder / SUMMARY)["finished"]:
        return
    world = WORLDS[run.world]
    reference_steps = max(1, round(world.steps * config.scale))
    steps = compute.equal_steps(reference_steps, flops[REFERENCE], flops[run.arm])
    print(f"\ntraining {run.folder}: {steps} steps", flush=True)
    summary = train_run(
        data,
        folder,
        preset=world.preset,
        steps=steps,
        overrides=[*overrides(run, config), f"cooldown_steps={round(COOLDOWN * steps)}"],
        resume=bool(checkpoints(folder)),
        seed=run.seed,
        held_out=HELD_OUT,
    )
    if not summary["finished"]:
        raise KeyboardInterrupt


def _score(out: Path, run: RunName, config: StudyConfig, data: Path) -> None:
    """Evaluate a run at each number of sampler steps, on the same clips as all others."""
    path = out / "scores" / f"{run.folder}.json"
    if path.is_file():
        return
    print(f"\nevaluating {run.folder}", flush=True)
    model = load_world_model(out / "runs" / run.folder, engine="auto")
    test = open_run_data(out / "runs" / run.folder, data)
    test.prepare()
    horizons = (*(h for h in (1, 4, 8) if h < config.horizon), config.horizon)
    settings = EvaluationConfig(num_clips=config.num_clips, history=HISTORY, horizons=horizons)
    colours = colours_from_metadata(test.info.metadata)
    scores = {
        str(steps): evaluate(
            as_imagine(model, steps), test, model.spec, settings, tracked_colours=colours
        ).to_json()
        for steps in config.sampler_steps
    }
    path.parent.mkdir(exist_ok=True)
    files.write_json(path, scores)


def _read_run(out: Path, run: RunName) -> dict[str, Any]:
    """Return how a run was trained and what it scored."""
    trained = files.read_json(out / "runs" / run.folder / SUMMARY)
    kept = ("steps", "minutes", "parameters", "val_loss", "threads", "device")
    scores = files.read_json(out / "scores" / f"{run.folder}.json")
    return {**asdict(run), **{k: trained[k] for k in kept}, "scores": scores}


def _latency(out: Path, config: StudyConfig, data: dict[str, Path]) -> dict[str, Any]:
    """Time frames of each world's arms, those of the first seed, where that was not done yet."""
    path = out / LATENCY
    found: dict[str, Any] = files.read_json(path) if path.is_file() else {}
    for world in config.worlds:
        if {*found.get(world, {}).get("arms", {})} >= {*config.arms}:
            continue
        made = {
            arm: out / "runs" / RunName(world, arm, config.seeds[0]).folder for arm in config.arms
        }
        test = open_run_data(next(iter(made.values())), data[world])
        models = {arm: load_world_model(folder, engine="auto") for arm, folder in made.items()}
        found[world] = latency.time_frames(models, test, config.sampler_steps)
        files.write_json(path, found)
    return found
