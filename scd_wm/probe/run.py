"""Probe a trained causal diffuser on held-out clips; write the numbers and a page.

OUT/report.html   everything, in one file
OUT/summary.json  all numbers; "split" has the suggested layers of encoder and decoder
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scd_wm.autoencoder.frames import encode_clip
from scd_wm.clip import Clip
from scd_wm.console import show_table
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.evaluate_run import SUMMARY, check_out, default_device
from scd_wm.evaluation.clips import choose_clips
from scd_wm.evaluation.evaluate import read_clips
from scd_wm.model import flow
from scd_wm.probe import pictures, split
from scd_wm.probe.config import ProbeConfig
from scd_wm.probe.entangled import as_diffuser
from scd_wm.probe.measure import Probes, middle_layers, probe, probe_samples
from scd_wm.probe.protocol import ProbedDiffuser, is_function, load_diffuser
from scd_wm.probe.summary import layer_numbers, loss_numbers, sample_numbers, sampler_numbers
from scd_wm.report.build import write_bytes
from scd_wm.report.probe_page import render_probe
from scd_wm.training import files
from scd_wm.training.checkpoint import load_world_autoencoder, load_world_model
from scd_wm.training.run_data import open_run_data

FORMAT = "scd_wm probe"
CLIPS_AT_ONCE = 4
SPLIT = "suggested split"


def probe_run(
    run: str | Path,
    data: str | Path | None,
    out: str | Path,
    *,
    config: ProbeConfig | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Probe a run and write a report.

    Args:
        run: A run folder or exported model of arch=entangled, or "module:function", whose function
            returns a `scd_wm.probe.protocol.ProbedDiffuser`.
        data: The data set; None is the one of training. Of that one only held-out episodes are
            used, of any other all.
        out: Folder to write, whole or not at all; the one of an earlier probe is replaced.
        config: What to look at; None takes the defaults.
        device: Where a run's model is put; None is a CUDA device if there is one.
        progress: Show a progress bar.

    Returns:
        What summary.json holds.

    Raises:
        FileExistsError: If `out` holds something else.
        FileNotFoundError: If there is nothing at `run` or `data`, or the run has no weights yet.
        KeyError: If the data lacks a camera or vector of the model.
        ValueError: If the model cannot be probed, the data does not fit it, or has too few clips.
    """
    out, started = Path(out), time.perf_counter()
    config = ProbeConfig() if config is None else config
    check_out(out, FORMAT)
    own = isinstance(run, str) and is_function(run) and not Path(run).exists()
    opened = _open_function(str(run), data) if own else _open_run(run, data, device)
    diffuser, source, to_model = opened
    middle = middle_layers(len(diffuser.blocks), config)
    source.prepare()
    num_frames = diffuser.history + config.frames
    places = _places(source, num_frames, config)
    batches = [
        to_model(read_clips(source, places[i : i + CLIPS_AT_ONCE], num_frames))
        for i in range(0, len(places), CLIPS_AT_ONCE)
    ]
    found = probe(diffuser, batches, config, [p.episode for p in places], progress)
    layers = layer_numbers(found, config)
    suggested = split.suggest(layers, found.seen.uniform, config)
    samplers = sampler_numbers(found, config)
    if suggested.encoder:
        samplers[SPLIT] = _try_split(diffuser, batches, config, suggested, found)
    regular = split.regularities(layers, found.seen.uniform, config)
    summary = {
        "format": FORMAT,
        "run": str(run),
        "data": str(source.info.path),
        "report": str(out / "report.html"),
        "split": {"encoder": suggested.encoder, "decoder": suggested.decoder},
        "why": split.in_words(regular, suggested, layers) + split.sampler_words(samplers, config),
        "reasons": suggested.reasons,
        "regularities": regular,
        "uniform_past_mass": found.seen.uniform,
        "history": diffuser.history,
        "middle_layers": list(middle),
        "num_clips": len(places),
        "num_episodes": len({p.episode for p in places}),
        "num_frames": len(found.groups),
        "sampler_levels": flow.levels(config.num_steps)[:-1],
        "config": vars(config),
        "layers": layers,
        "losses": loss_numbers(found, config),
        "samplers": samplers,
        "duration_s": time.perf_counter() - started,
    }
    _write(out, summary, found, diffuser, config)
    _show(summary)
    return summary


ToModel = Callable[[Clip], Clip]


def _open_run(
    run: str | Path, data: str | Path | None, device: str | None
) -> tuple[ProbedDiffuser, RobotDataset, ToModel]:
    """Return a run's model, its data, and what brings clips to the model."""
    device = device or default_device()
    model = load_world_model(run, device, familiarity=False)
    diffuser = as_diffuser(model, str(run))
    source, autoencoder = open_run_data(run, data), load_world_autoencoder(run, device)

    def to_model(clip: Clip) -> Clip:
        clip = clip.to(device)
        return clip if autoencoder is None else encode_clip(clip, autoencoder, model.spec)

    return diffuser, source, to_model


def _open_function(
    text: str, data: str | Path | None
) -> tuple[ProbedDiffuser, RobotDataset, ToModel]:
    if data is None:
        raise ValueError(f"name the data set: nobody knows what {text} was trained on")
    return load_diffuser(text), open_dataset(data), lambda clip: clip


def _places(source: RobotDataset, num_frames: int, config: ProbeConfig) -> Any:
    """Choose clips.

    Raises:
        ValueError: If the data has too few.
    """
    longest = max((e.num_observations for e in source.episodes), default=0)
    if longest < num_frames:
        raise ValueError(
            f"{source.info.path} has no episode of {num_frames} frames, which the model's history "
            f"and {config.frames} frames to denoise need; the longest has {longest}"
        )
    places = choose_clips(source, num_frames, config.clips, config.seed)
    config.check_clips([len(places)], f"of {num_frames} frames in {source.info.path}")
    return places


def _try_split(
    diffuser: ProbedDiffuser,
    batches: list[Clip],
    config: ProbeConfig,
    suggested: split.Split,
    found: Probes,
) -> dict[str, Any]:
    """Return the numbers of a sampler that is as near to the split as it comes without training."""
    changes = {SPLIT: suggested.intervention()}
    sampled = probe_samples(diffuser, batches, config, changes, lambda: None)
    return sample_numbers(sampled[SPLIT], found, config)


def _write(
    out: Path, summary: dict[str, Any], found: Probes, diffuser: ProbedDiffuser, config: ProbeConfig
) -> None:
    features = found.seen.features
    per_clip = features.shape[2] // summary["num_clips"]
    maps = pictures.colour_maps(features, diffuser.grid, summary["sampler_levels"], per_clip)
    points, shares = pictures.frame_points(features, per_clip)
    page = render_probe(summary, maps, points, shares, split.some)
    with files.new_folder(out) as folder:
        write_bytes(folder / "report.html", page.encode())
        files.write_json(folder / SUMMARY, summary)


def _show(summary: dict[str, Any]) -> None:
    """Print what was found, a layer a line, and the suggested split with its reasons."""
    heads = ("layer", "cos steps", "next frame", "past mass", "no past", "skipped", "run once")
    print("  ".join(f"{head:>10}" for head in heads))
    for layer in summary["layers"]:
        cosines = (layer["steps"]["centred"]["mean"], layer["next_frame"]["centred"])
        values = [f"{x:.3f}" for x in (*cosines, layer["past_mass"]["mean"])]
        rises = (layer["loss_blind"], layer["loss_skipped"], layer["once"]["rise"])
        values += [f"{x['mean']:+.1%}" for x in rises]
        print("  ".join(f"{value:>10}" for value in (str(layer["layer"]), *values)))
    uniform = f"{summary['uniform_past_mass']:.3f}"
    print(f"cosines are centred; past mass of uniform attention is {uniform}; rises of the loss")
    print(
        "without the past or the layer, and of the sample error if it runs at the first step only"
    )
    print("\n" + "\n".join([*summary["why"], *(f"  layer {r}" for r in _numbered(summary))]))
    errors = [
        (name, f"{x['error']:.4g}  {x['rise']['mean']:+.1%}  {x['moved']:.3g}")
        for name, x in summary["samplers"].items()
    ]
    show_table("error of sampled frames, its rise, and how far they moved", errors)
    show_table("probed", [("report", summary["report"]), ("seconds", summary["duration_s"])])


def _numbered(summary: dict[str, Any]) -> list[str]:
    return [f"{i}, {reason}" for i, reason in enumerate(summary["reasons"])]
