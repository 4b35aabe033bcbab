"""Let a trained run imagine held-out clips, and write what it imagined as videos and arrays.

OUT/clip_1.mp4 ...  the real clip beside several imagined futures; none for a world without cameras
OUT/imagined.npz    the imagined and the real frames, and the actions
OUT/summary.json    what was imagined from where, and how fast

Axes: B clips, S futures of each, T imagined frames.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scd_wm.clip import Clip
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.evaluate_run import STEPS_TO_DRAW, SUMMARY, check_out, default_device
from scd_wm.evaluation.clips import ClipPlace, choose_clips, fitting_horizons
from scd_wm.evaluation.evaluate import clip_seeds, read_clips
from scd_wm.evaluation.scores import view_label
from scd_wm.evaluation.world_model import as_imagine
from scd_wm.imagination import Frames, sampler_of
from scd_wm.report.build import write_bytes
from scd_wm.report.drawing import Panel, compose
from scd_wm.report.media import MAX_FPS
from scd_wm.report.video import encode_mp4
from scd_wm.spec import DEFAULT_FPS, Spec
from scd_wm.training import files
from scd_wm.training.checkpoint import load_world_autoencoder, load_world_model
from scd_wm.training.run_data import open_run_data

FORMAT = "scd_wm imagination"
PANEL_WIDTH = 256  # pixels, about


@dataclass(frozen=True, kw_only=True)
class ImagineConfig:
    """What is imagined."""

    num_clips: int = 4  # different starts
    num_futures: int = 3  # imagined from each start with different noise
    history: int = 4  # real frames given
    horizon: int = 32  # frames imagined
    seed: int = 0  # of the choice of clips and the noise

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_futures", "history", "horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")


def imagine_run(
    run: str | Path,
    data: str | Path | None,
    out: str | Path,
    *,
    config: ImagineConfig | None = None,
    num_steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Imagine clips of a data set under their own actions, several times each.

    Args:
        run: A run folder or an exported model.
        data: The data set; None is the one of training. Of that one only the held-out episodes are
            used, of any other all.
        out: Folder to write, whole or not at all; one of earlier imaginations is replaced.
        config: What to imagine; None takes the defaults.
        num_steps: Sampler steps for each frame; None takes the model's own, or more where several
            futures are to differ.
        solver: "euler" or "heun"; None takes the model's own.
        guidance: g of `scd_wm.model.guidance`, 1 for none; None takes the model's own.
        device: Where the model runs; None is a CUDA device if there is one.

    Returns:
        What summary.json holds.

    Raises:
        FileExistsError: If `out` holds something else.
        FileNotFoundError: If there is nothing at `run` or `data`, or the run has no weights yet.
        KeyError: If the data lacks a camera or vector of the model.
        ValueError: If the data does not fit the model, or no episode is long enough.
    """
    out, config = Path(out), ImagineConfig() if config is None else config
    check_out(out, FORMAT)
    model = load_world_model(run, device or default_device(), engine="auto")
    if num_steps is None:  # in one step all futures would be their mean
        num_steps = max(model.config.num_steps, STEPS_TO_DRAW if config.num_futures > 1 else 1)
    sampler = sampler_of(model, num_steps, solver, guidance)
    autoencoder = load_world_autoencoder(run, device or default_device())
    source = open_run_data(run, data)
    fitting_horizons(source, config.history, (config.horizon,))
    length = config.history + config.horizon
    places = choose_clips(source, length, config.num_clips, config.seed)
    clip = read_clips(source, places, length)
    imagine = as_imagine(model, num_steps, autoencoder, solver, guidance)
    seeds = clip_seeds(config.num_futures * len(places), config.seed).reshape(-1, len(places))
    history, actions = clip.frames(0, config.history), clip.actions[:, config.history - 1 :]
    started = time.perf_counter()
    futures = [imagine(history, actions, row) for row in seeds]
    duration_s = time.perf_counter() - started
    num_frames = config.num_futures * len(places) * config.horizon
    summary = {
        "format": FORMAT,
        "run": str(run),
        "data": str(source.info.path),
        "out": str(out),
        "num_clips": len(places),
        **{k: v for k, v in vars(config).items() if k != "num_clips"},
        **asdict(sampler),
        "frames_per_s": num_frames / duration_s,
        "clips": _names(source, places),
    }
    with files.new_folder(out) as partial:
        _write_videos(partial, model.spec.pixels, clip, futures, config.history, source.fps)
        write_arrays(partial / "imagined.npz", arrays(clip, futures))
        files.write_json(partial / SUMMARY, summary)
    return summary


def arrays(clip: Clip, futures: list[Frames]) -> dict[str, np.ndarray]:
    """Return what is kept of imagined clips, by name.

    Args:
        clip: The real clips, batched: history and what followed.
        futures: S times what was imagined to follow.

    Returns:
        "imagined/<name>", (B, S, T, ...); "real/<name>", (B, history + T, ...); "actions",
        (B, history + T - 1, A), for every camera, vector and outcome.
    """
    kept = {"actions": clip.actions.numpy()}
    for real, group in (
        (clip.images, "images"),
        (clip.vectors, "vectors"),
        (clip.outcome, "outcome"),
    ):
        kept |= {f"real/{name}": values.numpy() for name, values in real.items()}
        for name in getattr(futures[0], group):
            every = torch.stack([getattr(f, group)[name] for f in futures], dim=1)
            kept[f"imagined/{name}"] = every.numpy()
    return kept


def write_arrays(path: Path, kept: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as a compressed npz file."""
    values: dict[str, Any] = dict(kept)
    np.savez_compressed(path, **values)


def _names(source: RobotDataset, places: tuple[ClipPlace, ...]) -> list[dict[str, Any]]:
    return [{"episode": source.episodes[p.episode].name, "start": p.start} for p in places]


def _write_videos(
    folder: Path, spec: Spec, clip: Clip, futures: list[Frames], history: int, fps: float | None
) -> None:
    """Write a video a clip: the real one and its futures side by side, a row a camera."""
    cameras = [n for n, c in spec.cameras.items() if c.kind == "pixels" and c.channels == 3]
    for row in range(len(clip.episodes) if cameras else 0):
        panels = []
        for camera in cameras:
            real = clip.images[camera][row]
            panels.append(Panel("real" + view_label(camera, cameras), real.numpy()))
            for i, future in enumerate(futures):
                frames = torch.cat([real[:history], future.images[camera][row]])
                panels.append(Panel(f"imagined {i + 1}", frames.numpy(), history))
        film = compose(panels, len(futures) + 1, history, PANEL_WIDTH)
        video = encode_mp4(film, min(fps or DEFAULT_FPS, MAX_FPS))
        write_bytes(folder / f"clip_{row + 1}.mp4", video)
