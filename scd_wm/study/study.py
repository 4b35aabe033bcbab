"""Train architectures for the same operations on the same data and measure them alike.

OUT/study.json        what was asked for
OUT/data/WORLD/       recordings to train and to test on
OUT/compute.json      operations of a training step, by world and arm
OUT/runs/NAME/        the runs, WORLD-ARM-SEED
OUT/scores/NAME.json  what each imagines of the test recording
OUT/latency.json      how long a frame takes
OUT/logs/NAME.log     what a run printed, where several are made at a time
OUT/table.md          all of it side by side
OUT/figures/          errors over frames imagined and over the time of a frame
OUT/summary.json      the same as JSON
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scd_wm.datasets.options import DataOptions
from scd_wm.evaluate_run import check_out
from scd_wm.study import compute, latency
from scd_wm.study.config import ARMS, REFERENCE, WORLDS, RunName, StudyConfig
from scd_wm.study.figures import draw
from scd_wm.study.recordings import record
from scd_wm.study.runs import COOLDOWN_STEPS, Job, WorldData
from scd_wm.study.table import lines
from scd_wm.study.workers import make_all
from scd_wm.training import files
from scd_wm.training.checkpoint import load_world_model
from scd_wm.training.run import SUMMARY
from scd_wm.training.run_data import open_run_data, split_data
from scd_wm.training.run_setup import open_data

FORMAT = "scd_wm study"
SETTINGS, COMPUTE, LATENCY, TABLE = "study.json", "compute.json", "latency.json", "table.md"
FIGURES = "figures"
HELD_OUT = 0.1  # of the episodes to train on; the table is made on others
GIVEN_HELD_OUT = 0.25  # of data that is given: these episodes are the test
DECIDED = ("steps", "minutes", "seed", COOLDOWN_STEPS)  # settings of runs that are no overrides
FREE_TO_CHANGE = ("seeds", "worlds", "arms")  # more of them add runs to a study that is there


def study(out: str | Path, config: StudyConfig | None = None, workers: int = 1) -> dict[str, Any]:
    """Make all runs of a study that are not there yet, measure them and write the table.

    Args:
        out: Folder to write; a study that was stopped goes on there.
        config: What to compare; None takes the defaults.
        workers: Runs made at a time, each in a process of its own if there are several.

    Returns:
        What summary.json holds.

    Raises:
        ChildProcessError: If a run failed in a process of its own.
        FileExistsError: If `out` holds something else, or a study with other settings.
        FileNotFoundError: If given data is not there.
        KeyError: If given data has no camera or vector of a name that is asked for.
        KeyboardInterrupt: If a training run was stopped; the same call goes on.
        ValueError: If an override is wrong, given data damaged, or `workers` below 1.
    """
    out, started = Path(out), time.perf_counter()
    config = StudyConfig() if config is None else config
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    made = {run: changes(run, config) for run in config.runs}  # raises where one is wrong
    _check_data(config)
    _claim(out, config)
    data = {name: _data(out, config, name) for name in config.worlds}
    flops = _step_flops(out, config, data)
    jobs = [
        Job(out, run, config, data[run.world], made[run], _steps(run, config, flops[run.world]))
        for run in config.runs
    ]
    make_all(jobs, workers)
    found = {
        "format": FORMAT,
        "config": config.to_json(),
        "step_flops": flops,
        "runs": {job.run.folder: job.read() for job in jobs},
        "latency": _latency(out, config, data),
        "table": str(out / TABLE),
        "duration_s": time.perf_counter() - started,
    }
    draw(found, out / FIGURES)
    files.write_json(out / SUMMARY, found)
    text = "\n".join(lines(found))
    files.write_text(out / TABLE, text + "\n")
    print(f"\n{text}", flush=True)
    return found


def _check_data(config: StudyConfig) -> None:
    """Raise if given data cannot be used, before hours are spent on other worlds."""
    for name, path in config.data.items():
        if not Path(path).exists():
            raise FileNotFoundError(f"there is no data set {path}")
        recipe = compute.settings(config.preset(name), config.overrides)
        split_data(open_data(path, config.options, recipe, None), GIVEN_HELD_OUT)


def _claim(out: Path, config: StudyConfig) -> None:
    """Make `out`, or raise FileExistsError if it holds something other than this study."""
    settings = _settings(config)
    if not (out / SETTINGS).is_file():
        check_out(out, FORMAT)
    elif changed := [k for k, v in _begun_with(out).items() if v != settings.get(k)]:
        raise FileExistsError(
            f"{out} holds a study with other settings ({', '.join(changed)}); choose another folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / SETTINGS, settings)


def _settings(config: StudyConfig) -> dict[str, Any]:
    settings = {k: v for k, v in config.to_json().items() if k not in FREE_TO_CHANGE}
    return dict(json.loads(json.dumps(settings)))


def _begun_with(out: Path) -> dict[str, Any]:
    """Return the settings of a study; those that came after it was begun have their defaults."""
    unsaid, there = _settings(StudyConfig()), files.read_json(out / SETTINGS)
    options = {**unsaid["options"], **there.get("options", {})}
    return {**unsaid, **there, "options": options}


def changes(run: RunName, config: StudyConfig) -> tuple[str, ...]:
    """Return what a run changes in its preset.

    Raises:
        ValueError: If a change is wrong, leaves no layer where one is needed, or is of a setting
            that the study decides.
    """
    arm = ARMS[run.arm]
    own = {*DECIDED, *(_setting(change) for change in arm.changes)}
    if undone := [text for text in config.overrides if _setting(text) in own]:
        raise ValueError(
            f"{undone[0]} cannot be for every run: the study sets {_setting(undone[0])} of "
            f"{run.arm!r} itself"
        )
    world = WORLDS[run.world].changes if run.world in WORLDS else ()
    found = [*world, *arm.changes, *config.overrides]  # of one setting the last counts
    preset = config.preset(run.world)
    if arm.to_encoder:
        model = compute.settings(preset, found).model
        found += [
            f"encoder_layers={model.encoder_layers + arm.to_encoder}",
            f"decoder_layers={model.decoder_layers - arm.to_encoder}",
        ]
    made = compute.settings(preset, found)  # raises where wrong
    reference = [*world, *ARMS[REFERENCE].changes, *config.overrides]
    if run.arm != REFERENCE and made == compute.settings(preset, reference):
        raise ValueError(f"{run.arm!r} changes nothing of {REFERENCE!r} on {run.world!r}")
    return tuple(found)


def _setting(change: str) -> str:
    """Return the name in "name=value" or "section.name=value"."""
    return change.partition("=")[0].rpartition(".")[2]


def _data(out: Path, config: StudyConfig, world: str) -> WorldData:
    """Return the data of a world, recorded if it is not there yet."""
    if world in config.data:
        path = Path(config.data[world])
        return WorldData(path, path, config.options, GIVEN_HELD_OUT)
    train, test = record(WORLDS[world], config.data_scale, out / "data" / world)
    return WorldData(train, test, DataOptions(), HELD_OUT)


def _steps(run: RunName, config: StudyConfig, flops: Mapping[str, float]) -> int:
    """Return the steps that make a run's training as many operations as the reference's."""
    steps = config.reference_steps(run.world)
    return compute.equal_steps(steps, flops[REFERENCE], flops[run.arm])


def _step_flops(
    out: Path, config: StudyConfig, data: Mapping[str, WorldData]
) -> dict[str, dict[str, float]]:
    """Count the operations of a training step of each arm, the reference's too."""
    path = out / COMPUTE
    found: dict[str, dict[str, float]] = files.read_json(path) if path.is_file() else {}
    for world in config.worlds:
        known = found.setdefault(world, {})
        for arm in dict.fromkeys((REFERENCE, *config.arms)):
            if arm not in known:
                print(f"counting the operations of {arm} on {world}", flush=True)
                chosen = changes(RunName(world, arm, 0), config)
                known[arm] = compute.step_flops(data[world], config.preset(world), chosen)
                files.write_json(path, found)
    return found


def _latency(out: Path, config: StudyConfig, data: Mapping[str, WorldData]) -> dict[str, Any]:
    """Time frames of each world's arms, those of the first seed, where that was not done yet."""
    path = out / LATENCY
    found: dict[str, Any] = files.read_json(path) if path.is_file() else {}
    for world in config.worlds:
        if {*found.get(world, {}).get("arms", {})} >= {*config.arms}:
            continue
        made = {
            arm: out / "runs" / RunName(world, arm, config.seeds[0]).folder for arm in config.arms
        }
        test = open_run_data(next(iter(made.values())), data[world].test)
        models = {arm: load_world_model(folder, engine="auto") for arm, folder in made.items()}
        found[world] = latency.time_frames(models, test, config.sampler_steps)
        files.write_json(path, found)
    return found
