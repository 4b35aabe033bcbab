"""Teach a trained model what its training data looks like to it, so that it knows when it is off.

RUN/.../familiarity.safetensors   written beside the weights, and loaded with them from then on
RUN/.../familiarity.json          what it is of
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scd_wm import imagination
from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.frames import encode_clip
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluate_run import default_device
from scd_wm.evaluation.clips import choose_clips
from scd_wm.evaluation.evaluate import read_clips
from scd_wm.model.familiarity import fit, pool
from scd_wm.model.world_model import WorldModel
from scd_wm.progress import progress_bar
from scd_wm.training import files
from scd_wm.training.checkpoint import (
    AVERAGED,
    EXPORT,
    WEIGHTS,
    check_folder,
    latest_checkpoint,
    load_world_autoencoder,
    load_world_model,
)
from scd_wm.training.familiarity_files import TENSORS, write_familiarity
from scd_wm.training.run_data import fingerprint, open_run_parts, split_data

CLIPS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """How much data is looked at.

    Raises:
        ValueError: If a number is out of range.
    """

    clips: int = 400  # of training, spread over its episodes
    held_out_clips: int = 200  # of episodes held out
    clip_len: int = 12  # frames of a clip; shorter where no episode is as long
    seed: int = 0  # of their choice

    def __post_init__(self) -> None:
        for name, least in (("clips", 1), ("held_out_clips", 1), ("clip_len", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")


def calibrate_run(
    run: str | Path,
    data: str | Path | None = None,
    config: CalibrationConfig | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit a model's familiarity with its training data and write it beside the weights.

    What the model was trained on says where the data is; what was held out of training says how
    far from it is ordinary. Where nothing was held out, or the data is another set, a tenth of its
    episodes takes that part.

    Args:
        run: A run folder, an exported model or the name of a shipped one.
        data: The data set; None is the one of training.
        config: How much to look at; None takes the defaults.
        device: Where the model runs; None is a CUDA device if there is one.
        progress: Show a progress bar.

    Returns:
        A few plain values: what it is of, and where it lies.

    Raises:
        FileNotFoundError: If there is nothing at `run` or `data`, or the run has no weights yet.
        KeyError, ValueError: If the data does not fit the model, or is too little.
    """
    started, config = time.perf_counter(), CalibrationConfig() if config is None else config
    device = device or default_device()
    # Without the familiarity that is there: it may be what is to be replaced.
    model = load_world_model(run, device, engine="auto", familiarity=False)
    autoencoder = load_world_autoencoder(run, device)
    trained, held_out = open_run_parts(run, data)
    is_unseen = held_out is not None
    if held_out is None or held_out is trained:
        trained, held_out = split_data(trained, 0.1)
        assert held_out is not None
    parts = ((trained, config.clips), (held_out, config.held_out_clips))
    with progress_bar(
        total=config.clips + config.held_out_clips, unit="clip", disable=not progress
    ) as bar:
        features = [
            torch.cat(list(_features(model, part, count, config, autoencoder, bar)))
            for part, count in parts
        ]
    folders = weight_folders(check_folder(run))
    origin = {
        "data": trained.info.path.name,
        "fingerprint": fingerprint(trained),
        "contexts": len(features[0]),
        "held_out_contexts": len(features[1]),
        "held_out_is_unseen": is_unseen,
        "episodes": len(trained.episodes),
        "held_out_episodes": len(held_out.episodes),
    }
    familiarity = fit(features[0], features[1], origin)
    for folder in folders:
        write_familiarity(folder, familiarity, model)
    file = folders[0] / TENSORS
    return {
        **origin,
        "run": str(run),
        "file": str(file),
        "kilobytes": file.stat().st_size / 1000,
        "duration_s": time.perf_counter() - started,
    }


def weight_folders(path: Path) -> list[Path]:
    """Return the folders whose weights `load_world_model` loads from a run or model.

    Of a run these are its newest checkpoint and, where it holds the same, the exported model.
    """
    newest, export = latest_checkpoint(path), path / EXPORT
    if newest is None:
        return [export if (export / WEIGHTS).is_file() else path]
    if not (export / WEIGHTS).is_file():
        return [newest]
    averaged, exported = (files.read_tensors(p) for p in (newest / AVERAGED, export / WEIGHTS))
    is_same = all(n in exported and torch.equal(t, exported[n]) for n, t in averaged.items())
    return [newest, export] if is_same else [newest]


def _features(
    model: WorldModel,
    source: RobotDataset,
    num_clips: int,
    config: CalibrationConfig,
    autoencoder: FrameAutoencoder | None,
    bar: Any,
) -> Iterator[Tensor]:
    """Yield pooled context features, (n, E), of clips of a data set."""
    source.prepare()
    longest = max((e.num_observations for e in source.episodes), default=0)
    clip_len = min(config.clip_len, longest)
    places = choose_clips(source, max(2, clip_len), num_clips, config.seed)
    for first in range(0, len(places), CLIPS_AT_ONCE):
        some = places[first : first + CLIPS_AT_ONCE]
        clip = read_clips(source, some, clip_len)
        if autoencoder is not None:
            clip = encode_clip(clip, autoencoder, model.spec)
        yield pool(imagination.contexts(model, clip)).flatten(0, 1)
        bar.update(len(some))
