"""The whole loop on one machine in minutes: record, train, imagine, evaluate, report.

OUT/data/       recordings of PushT: images, and states alone
OUT/runs/       three world models
OUT/media/      videos and film strips, a folder for each world model
OUT/report.html what they imagine beside what was seen, with numbers
OUT/summary.json
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scd_wm.assets import SHIPPED
from scd_wm.collect import collect
from scd_wm.evaluate_run import SUMMARY, check_out, headline_values, report_on
from scd_wm.evaluation.evaluate import EvaluationConfig
from scd_wm.report.build import write_media, write_report
from scd_wm.report.items import RunReport
from scd_wm.training import files
from scd_wm.training.checkpoint import checkpoints
from scd_wm.training.run import train_run

FORMAT = "scd_wm demo"
SETTINGS = "demo.json"  # what the demo in a folder was asked for
SEED = 100_000  # of the first recorded episode; the shipped model has seen those from 0 on


@dataclass(frozen=True)
class World:
    """One world model of the demo."""

    name: str  # of its folder
    title: str  # in the report
    description: str
    data: str  # name of its recording
    preset: str
    minutes: float  # of training
    init: Path | None = None
    overrides: tuple[str, ...] = ()


def worlds(minutes: float) -> tuple[World, ...]:
    """Return the world models that the demo makes, in the order of the report."""
    span = f"{minutes:g} minutes"
    shipped = World(
        "fine_tuned",
        "Shipped model, fine-tuned",
        f"The 64 px model that comes with the package, trained {span} more on this recording.",
        "push_t",
        "tiny",
        minutes,
        SHIPPED["push_t_tiny"],
        ("encoder_lr=1e-4", "decoder_lr=1e-4"),
    )
    scratch = World(
        "from_scratch",
        "The same from scratch",
        f"The same architecture from random weights, in the same {span}: what a laptop gives at "
        "once, and why the package ships a model.",
        "push_t",
        "tiny",
        minutes,
    )
    state = World(
        "state",
        "State only, from scratch",
        "A world without cameras: pusher position and pose of the T, from random weights in "
        f"{2 * minutes:g} minutes.",
        "push_t_state",
        "state",
        2 * minutes,
    )
    return shipped, scratch, state


def demo(
    out: str | Path,
    *,
    minutes: float = 1.0,
    episodes: int = 60,
    state_episodes: int = 160,
    num_clips: int = 40,
) -> dict[str, Any]:
    """Record PushT, train three world models, evaluate them and write one report.

    What an earlier call left whole in `out` is taken up again, so a stopped demo goes on.

    Args:
        out: Folder to write.
        minutes: Training time of each world model of images; that of states has twice as much.
        episodes: Recorded with images; a quarter is held out.
        state_episodes: Recorded without images; a quarter is held out.
        num_clips: Imagined for the numbers.

    Returns:
        What summary.json holds.

    Raises:
        FileExistsError: If `out` holds something else.
        ValueError: If `minutes` or a number of episodes is too small.
    """
    out, started = Path(out), time.perf_counter()
    if not minutes > 0:
        raise ValueError(f"minutes must be above 0, got {minutes}")
    if min(episodes, state_episodes) < 4:
        raise ValueError(f"a quarter is held out, so give 4 episodes or more, got {episodes}")
    sizes = {"episodes": episodes, "state_episodes": state_episodes, "num_clips": num_clips}
    _claim(out, {"minutes": minutes, **sizes})
    _record("scd_wm/PushT-v0", episodes, out / "data" / "push_t.hdf5")
    _record("scd_wm/PushTState-v0", state_episodes, out / "data" / "push_t_state.hdf5")
    reports = {}
    for world in worlds(minutes):
        run, data = out / "runs" / world.name, out / "data" / f"{world.data}.hdf5"
        _train(world, data, run)
        print(f"\nevaluating {world.title}", flush=True)
        reports[world.name] = report_on(
            run,
            data,
            name=world.title,
            description=world.description,
            config=EvaluationConfig(num_clips=num_clips),
        )
    return _write(out, reports, started)


def _claim(out: Path, settings: Mapping[str, float]) -> None:
    """Make `out`, or raise FileExistsError if it holds something other than this demo."""
    if not (out / SETTINGS).is_file():
        check_out(out, FORMAT)
    elif files.read_json(out / SETTINGS) != settings:
        raise FileExistsError(
            f"{out} holds a demo with other settings: {files.read_json(out / SETTINGS)}; choose "
            "another folder or delete it"
        )
    (out / "data").mkdir(parents=True, exist_ok=True)
    files.write_json(out / SETTINGS, settings)


def _record(env_id: str, episodes: int, path: Path) -> None:
    if path.is_file():
        print(f"{path} is there already", flush=True)
        return
    collect(env_id, "scripted", episodes, path, seed=SEED)


def _train(world: World, data: Path, run: Path) -> None:
    if (run / SUMMARY).is_file() and files.read_json(run / SUMMARY)["finished"]:
        print(f"{run} is trained already", flush=True)
        return
    print(f"\ntraining {world.title}", flush=True)
    summary = train_run(
        data,
        run,
        preset=world.preset,
        minutes=world.minutes,
        overrides=world.overrides,
        init=world.init,
        resume=bool(checkpoints(run)),
        held_out=0.25,
    )
    if not summary["finished"]:
        raise KeyboardInterrupt


def _write(out: Path, reports: Mapping[str, RunReport], started: float) -> dict[str, Any]:
    """Write report, media and summary."""
    write_report(out / "report.html", list(reports.values()))
    for name, report in reports.items():
        write_media(out / "media" / name, report.media)
    numbers = {
        f"{name}: {key}": value
        for name, report in reports.items()
        for key, value in headline_values(report.evaluation).items()
    }
    summary = {
        "format": FORMAT,
        "report": str(out / "report.html"),
        "duration_s": time.perf_counter() - started,
        **numbers,
        "evaluations": {name: r.evaluation.to_json() for name, r in reports.items()},
    }
    files.write_json(out / SUMMARY, summary)
    return summary
