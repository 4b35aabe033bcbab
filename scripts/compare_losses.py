"""Compare the held-out loss of runs: the same clips, noise and noise levels for all.

What a run's log calls val_loss depends on its settings (noise on the history, own rollouts, how
much of the frame to come an encoder is fed). Here all that is off: clean recorded history, and of
four noise levels for each frame about half are 1, where few-step sampling starts. Intervals are
95 % bootstrap over episodes, of differences paired by clip, relative to the first run.

usage: python scripts/compare_losses.py DATA RUN [RUN ...] [--clips N] [--frames N]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from compare_runs import unseen
from numpy.typing import NDArray

from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluation.bootstrap import bootstrap_mean
from scd_wm.evaluation.clips import ClipPlace, choose_clips
from scd_wm.evaluation.evaluate import clip_seeds, read_clips
from scd_wm.evaluation.result import number
from scd_wm.model.world_model import WorldModel
from scd_wm.training.checkpoint import load_world_model

SEED = 0  # of clips, noise and resampling
CLEAN = {
    "interface_noise": 0.0,
    "history_noise": 0.0,
    "self_rollouts": 0,
    "self_forcing": 0,
    "draws": 4,
    "full_noise_fraction": 0.5,
}


def compare(data: Path, runs: list[Path], num_clips: int, num_frames: int) -> None:
    """Print the loss of each run, and its difference from the first in per cent."""
    source, models = unseen(runs, data), [load_world_model(run) for run in runs]
    if len({(m.config.prediction, m.config.residual) for m in models}) > 1:
        raise ValueError("losses of runs that predict different things cannot be compared")
    source.prepare()
    places = choose_clips(source, num_frames, num_clips, SEED)
    episodes = [place.episode for place in places]
    found = [losses(clean(model), source, places, num_frames) for model in models]
    print(f"{len(places)} clips of {num_frames} frames, of {len(set(episodes))} episodes")
    scale = 100 / found[0].mean()
    for run, values in zip(runs, found, strict=True):
        difference = bootstrap_mean(scale * (values - found[0])[:, None], episodes, seed=SEED)
        low, high = float(difference.low[0]), float(difference.high[0])
        change = f"{float(difference.mean[0]):+.1f} % ({low:+.1f} to {high:+.1f})"
        print(f"{str(run)[-40:]:<42}{number(float(values.mean())):>10}  {change}")


def clean(model: WorldModel) -> WorldModel:
    """Let a model learn as all others would; returns it."""
    fed = None if model.config.fed_level is None else 1.0  # nothing of the frame to come
    model.config = replace(model.config, **CLEAN, fed_level=fed)
    return model.eval()


@torch.inference_mode()
def losses(
    model: WorldModel, source: RobotDataset, places: tuple[ClipPlace, ...], num_frames: int
) -> NDArray[np.float64]:
    """Return the loss of each clip."""
    seeds = clip_seeds(len(places), SEED)
    return np.array(
        [
            float(model(read_clips(source, [place], num_frames), seeds[i : i + 1])[0])
            for i, place in enumerate(places)
        ]
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--frames", type=int, default=6, help="of a clip")
    args = parser.parse_args()
    compare(args.data, args.runs, args.clips, args.frames)


if __name__ == "__main__":
    main()
