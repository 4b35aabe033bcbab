"""Compare what policies come to really and in imagination, and whether the order is the same.

OUT/report.html   everything, in one file
OUT/summary.json  all numbers
OUT/episodes.csv  every episode of every policy in every world
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from scd_wm.evaluate_run import check_out
from scd_wm.evaluation.ranking import estimate_text
from scd_wm.evaluation.result import MODEL_LABELS, SHUFFLED, WORLD_MODEL
from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
from scd_wm.policy_evaluation.contestants import Contestant, parse_policies
from scd_wm.policy_evaluation.episode import IMAGINED, REAL, Episode
from scd_wm.policy_evaluation.opening import open_stage
from scd_wm.policy_evaluation.playing import Batch, Judge, Stage, batches, play_batch
from scd_wm.policy_evaluation.real_table import RealTable
from scd_wm.policy_evaluation.results import Results, verdict
from scd_wm.progress import progress_bar
from scd_wm.report.build import write_bytes
from scd_wm.report.items import EpisodeFilm
from scd_wm.report.policies_page import render_policies
from scd_wm.rollouts.played import as_csv
from scd_wm.success.classifier import load_success_classifier
from scd_wm.training import files
from scd_wm.training.trainer import make_accelerator

FORMAT = "scd_wm evaluation of policies"
SUMMARY, EPISODES, REPORT = "summary.json", "episodes.csv", "report.html"


def evaluate_policies(
    run: str | Path,
    env_id: str | None,
    policies: Sequence[str],
    out: str | Path,
    config: PolicyEvaluationConfig | None = None,
    *,
    device: str | None = None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Play policies from the same starts really and in imagination, and compare what comes out.

    A dream begins from the first frame of the real episode and knows nothing else of it. Everything
    random in an episode depends on its number, so the noise on a policy's actions is the same in
    both worlds. An episode ends with its first success; starts that are one already are refused,
    but for recorded ones, whose first frame does not tell. Started by several processes, they share
    the work and come to the same numbers.

    Args:
        run: A run folder, an exported model or the name of a shipped one.
        env_id: The simulator. With a table of real results in `config` only its first frames are
            used, and None takes those from `config.data`.
        policies: At least two, see `scd_wm.policy_evaluation.contestants`.
        out: Folder to write, whole or not at all; an earlier one is replaced.
        config: How many episodes, and so on; None takes the defaults.
        device: Where networks run; None is this process's GPU if there is one.
        judge: Says of observations how likely they show a success, beside the predicted outcome.

    Returns:
        What summary.json holds.

    Raises:
        FileExistsError: If `out` holds something else.
        FileNotFoundError: If there is no such run, policy, table or data.
        ModuleNotFoundError: If a policy needs robomimic and it is not installed.
        KeyError, ValueError: If model, simulator, policies and table do not fit each other.
    """
    out, started = Path(out), time.perf_counter()
    config = PolicyEvaluationConfig() if config is None else config
    check_out(out, FORMAT)
    if judge is not None and config.classifier is not None:
        raise ValueError("give a judge or a classifier, not both")
    said, accelerator = parse_policies(policies), make_accelerator()
    device = device or str(accelerator.device)
    if config.classifier is not None:
        judge = load_success_classifier(config.classifier, device)
    with open_stage(run, env_id, said, config, device, judge) as (stage, contestants):
        played = _play_all(stage, contestants, accelerator)
    episodes = [e for batch in played for e in batch.episodes]
    results = Results.of(episodes, [p.name for p in said], stage.starts.names, config)
    found = results.to_json()
    summary = {
        "format": FORMAT,
        "run": str(run),
        "env": env_id,
        **_describe(stage),
        "policies_as_given": {p.name: asdict(p) for p in said},
        "device": device,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - started, 2),
        "report": str(out / REPORT),
        "verdict": verdict(found),
        **found,
    }
    if accelerator.is_main_process:
        films = [f for batch in played for f in batch.films]
        _write(out, summary, results.in_order(), films, config.videos)
    accelerator.wait_for_everyone()
    return summary


def _describe(stage: Stage) -> dict[str, Any]:
    """Return what was played on, in JSON types."""
    dream, settings = stage.dream.rows, asdict(stage.config)
    return {
        "real": str(stage.real.path) if isinstance(stage.real, RealTable) else "simulator",
        "starts": list(stage.starts.names),
        "starts_refused": list(stage.starts.refused),
        "max_steps": dream.max_steps,
        "num_steps": dream.num_steps or dream.model.config.num_steps,
        "config": {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()},
    }


def _play_all(
    stage: Stage, contestants: Sequence[Contestant], accelerator: Accelerator
) -> list[Batch]:
    """Play everything, shared among the processes; all of them get all of it, in one order."""
    work = [
        (contestant, rows)
        for contestant in contestants
        for rows in batches(len(stage.starts.names), stage.config.at_once)
    ]
    # Batches of one policy are neighbours and last as long, so every process takes some of each.
    mine = range(accelerator.process_index, len(work), accelerator.num_processes)
    total = sum(len(work[index][1]) for index in mine) * (1 + len(IMAGINED))
    played = []
    with progress_bar(total=total, unit="episode", disable=not accelerator.is_main_process) as bar:
        for index in mine:
            bar.set_postfix_str(work[index][0].said.name, refresh=False)
            played.append((index, play_batch(stage, *work[index], bar)))
    together = gather_object(played)
    return [batch for _, batch in sorted(together, key=lambda pair: pair[0])]


def _write(
    out: Path,
    summary: Mapping[str, Any],
    episodes: Sequence[Episode],
    films: Sequence[EpisodeFilm],
    videos: int,
) -> None:
    shown: dict[tuple[str, str], list[EpisodeFilm]] = {}
    for film in films:
        shown.setdefault((film.policy, film.kind), []).append(film)
    kept = [film for rows in shown.values() for film in rows[:videos]]
    with files.new_folder(out) as folder:
        write_bytes(folder / REPORT, render_policies(summary, kept).encode())
        files.write_text(folder / EPISODES, as_csv(e.row() for e in episodes))
        files.write_json(folder / SUMMARY, summary)


def table(summary: Mapping[str, Any]) -> list[str]:
    """Return what a summary says as lines of text: policies, then how the worlds compare."""
    names = list(summary["policies"])
    width = max(22, *map(len, names)) + 2
    lines = [f"{'success':<{width}}{'real':>20}{'imagined':>20}{'shuffled actions':>20}"]
    for name in names:
        worlds = [summary["policies"][name][w] for w in (REAL, WORLD_MODEL, SHUFFLED)]
        lines.append(f"{name:<{width}}" + "".join(f"{_share(world):>20}" for world in worlds))
    ranking = summary["ranking"]
    rows = {MODEL_LABELS[world]: found for world, found in ranking["success"].items()}
    if (on_data := ranking.get("success on data", {}).get(WORLD_MODEL)) is not None:
        rows["its episodes on data"] = on_data
    cells = {"": ["Pearson", "Spearman", "MMRV"]}
    for label, found in rows.items():
        cells[label] = [estimate_text(found[name]) for name in ("pearson", "spearman", "mmrv")]
    column = max(22, *(len(text) + 2 for texts in cells.values() for text in texts))
    lines.append("")
    for label, texts in cells.items():
        lines.append(f"{label:<{width}}" + "".join(f"{text:>{column}}" for text in texts))
    return [*lines, "", *_notes(summary)]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    flips, off, found = (summary[name] for name in ("rank_flips", "off_data", "calibration"))
    notes = [
        f"{flips['flipped']} of {flips['pairs']} pairs flipped, {flips['significant_flipped']} of "
        f"{flips['significant_pairs']} that clearly differ"
    ]
    if found is not None:
        notes.append(
            f"Brier score of predicted success {found['brier']:.3f}, of the base rate "
            f"{found['brier_of_base_rate']:.3f}"
        )
    if off is not None:
        notes.append(f"{off['flagged']} of {off['episodes']} imagined episodes left the data")
    if (judge := summary["judge"]) is not None:
        notes.append(f"outcome and judge agree on {judge['agree']} of {judge['episodes']} episodes")
    return [*notes, summary["verdict"]]


def _share(world: Mapping[str, Any]) -> str:
    low, high = (100 * value for value in world["success_interval"])
    return f"{world['success']}/{world['episodes']} ({low:.0f}-{high:.0f} %)"
