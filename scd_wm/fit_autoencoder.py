"""Fit a small autoencoder of our own to the images of a data set, and say how good it is.

OUT/config.json         sizes: with the weights, what `load_autoencoder` reads
OUT/model.safetensors   weights, from the first checkpoint on
OUT/checkpoint/         what a stopped run needs to go on
OUT/log.jsonl           numbers by step
OUT/samples.png         held-out images, what becomes of them, and the difference
OUT/summary.json        PSNR on held-out images, beside what needs no learning

Axes: N images, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.conv import KIND, ConvAutoencoder, ConvConfig
from scd_wm.autoencoder.folder import CONFIG, folder_config
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.evaluation.metrics import psnr
from scd_wm.report.build import write_bytes
from scd_wm.report.drawing import difference, film_strip
from scd_wm.report.video import encode_png
from scd_wm.training import files
from scd_wm.training.autoencoder_trainer import CHECKPOINT, FitConfig, fit
from scd_wm.training.provenance import versions
from scd_wm.training.run_data import describe_data, split_data

SUMMARY, SAMPLES = "summary.json", "samples.png"
NUM_SCORED = 64  # held-out images for the numbers
NUM_SHOWN = 6  # of them, in samples.png


def fit_autoencoder(
    data: str | Path,
    out: str | Path,
    *,
    sizes: ConvConfig | None = None,
    config: FitConfig | None = None,
    cameras: Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    held_out: float = 0.1,
    resume: bool = False,
) -> dict[str, Any]:
    """Fit an autoencoder to the images of a data set; all its cameras share it.

    Args:
        data: Path of the data set.
        out: Folder to write.
        sizes: Of the autoencoder; None takes the defaults.
        config: How to fit it; None takes ten minutes.
        cameras: Names to use; None takes all.
        image_size: Side, or height and width, of all images; None keeps them as they are.
        held_out: Share of the episodes kept out for the numbers; at least one, unless it is 0.
        resume: Go on with what a stopped run left in `out`.

    Returns:
        What summary.json holds.

    Raises:
        FileExistsError: If `out` holds something else, or an autoencoder and `resume` is False.
        FileNotFoundError: If `data` is not there, or with `resume` nothing in `out`.
        KeyError: If there is no such camera.
        ValueError: If the data has no images, or sides that the autoencoder cannot halve often
            enough; if a resumed run has other settings.
    """
    out, sizes = Path(out), ConvConfig() if sizes is None else sizes
    config = FitConfig(minutes=10.0) if config is None else config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        autoencoder = ConvAutoencoder(sizes)
    dataset = open_dataset(data, cameras=cameras, vectors=(), image_size=image_size)
    for camera, (height, width) in dataset.image_sizes.items():
        autoencoder.latent_size(height, width, f"images of {camera!r}")
    part, rest = split_data(dataset, held_out)
    settings = {k: v for k, v in asdict(config).items() if k not in ("steps", "minutes")}
    stored = {
        **folder_config(KIND, autoencoder.config),
        "fit": settings,
        "data": describe_data(data, dataset, part, rest),
        "versions": versions(),
    }
    _claim(out, stored, resume)
    dataset.prepare()
    state = fit(autoencoder, _drawing(part, config), config, out)
    images = spread_images(part if rest is None else rest, NUM_SCORED)
    summary = {
        "out": str(out),
        "finished": state.progress(config) >= 1,
        "steps": state.step,
        "minutes": state.elapsed_s / 60,
        "parameters": sum(p.numel() for p in autoencoder.parameters()),
        "held_out_images": 0 if rest is None else sum(len(group) for group in images),
        **scores(autoencoder, images, _mean_images(part)),
    }
    write_bytes(out / SAMPLES, encode_png(samples(autoencoder, images[0][:NUM_SHOWN])))
    files.write_json(out / SUMMARY, summary)
    return summary


def scores(
    autoencoder: FrameAutoencoder, images: Sequence[Tensor], means: Sequence[Tensor]
) -> dict[str, float]:
    """Return mean PSNR, in dB, of the round trip and of what needs no learning.

    Args:
        autoencoder: What is scored.
        images: A group of images for each camera, (N, H, W, 3) uint8.
        means: Of each camera, the mean image, (H, W, 3) uint8.
    """

    def mean(one: Callable[[Tensor, Tensor], Tensor]) -> float:
        values = [psnr(one(g, m)[None], g[None])[0] for g, m in zip(images, means, strict=True)]
        return float(torch.cat(values).mean())

    return {
        "psnr": mean(lambda group, _: autoencoder.decode(autoencoder.encode(group))),
        "psnr (resized to as many values)": mean(lambda group, _: resized(group, autoencoder)),
        "psnr (mean image)": mean(lambda group, image: image.expand_as(group)),
        "values of an image in one of a latent": 3
        * autoencoder.downscale**2
        / autoencoder.channels,
    }


def resized(images: Tensor, autoencoder: FrameAutoencoder) -> Tensor:
    """Return images made small enough to have no more values than latents, and large again.

    Args:
        images: (N, H, W, 3) uint8.
        autoencoder: Whose latents set the number of values.
    """
    height, width = images.shape[1:3]
    factor = (autoencoder.channels / 3) ** 0.5 / autoencoder.downscale
    small = (max(1, round(height * factor)), max(1, round(width * factor)))
    pixels = images.permute(0, 3, 1, 2).float()
    reduced = F.interpolate(pixels, small, mode="bicubic", antialias=True)
    again = F.interpolate(reduced, (height, width), mode="bicubic")
    return again.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def samples(autoencoder: FrameAutoencoder, images: Tensor) -> np.ndarray:
    """Return a picture of images, (N, H, W, 3) uint8, what becomes of them, and the difference."""
    again = autoencoder.decode(autoencoder.encode(images)).numpy()
    real = images.numpy()
    rows = [
        ("real", real),
        ("round trip", again),
        ("difference", difference(again, real)),
        ("resized", resized(images, autoencoder).numpy()),
    ]
    return film_strip(rows, [f"image {i + 1}" for i in range(len(images))])


def spread_images(dataset: RobotDataset, count: int) -> list[Tensor]:
    """Return about `count` images spread evenly over the frames, (N, H, W, 3), for each camera."""
    ends = np.cumsum([e.num_observations for e in dataset.episodes])
    share = max(1, count // len(dataset.cameras))
    frames = np.unique(np.linspace(0, ends[-1] - 1, share).round().astype(int))
    return [torch.cat([_image(dataset, c, ends, int(f)) for f in frames]) for c in dataset.cameras]


def _image(dataset: RobotDataset, camera: str, ends: np.ndarray, frame: int) -> Tensor:
    """Return one image, (1, H, W, 3), by its number among the frames of all episodes."""
    episode = int(np.searchsorted(ends, frame, side="right"))
    start = frame - (int(ends[episode - 1]) if episode else 0)
    return torch.from_numpy(dataset.images(episode, camera, start, start + 1))


def _mean_images(dataset: RobotDataset) -> list[Tensor]:
    groups = spread_images(dataset, NUM_SCORED * len(dataset.cameras))
    return [group.float().mean(dim=0).round().to(torch.uint8) for group in groups]


def _drawing(dataset: RobotDataset, config: FitConfig) -> Callable[[int], Tensor]:
    """Return a function that draws the images of a step, of one camera, which follow from it."""
    ends = np.cumsum([e.num_observations for e in dataset.episodes])

    def draw(step: int) -> Tensor:
        random = np.random.default_rng((config.seed, step))
        camera = dataset.cameras[step % len(dataset.cameras)]
        height, width = dataset.image_sizes[camera]
        frames = random.integers(0, ends[-1], max(1, config.batch_pixels // (height * width)))
        return torch.cat([_image(dataset, camera, ends, int(frame)) for frame in frames])

    return draw


def _claim(out: Path, stored: dict[str, Any], resume: bool) -> None:
    """Make `out` with its config.json, or raise if it holds something that must not change."""
    is_ours = (out / CONFIG).is_file()
    if resume:
        if not is_ours:
            raise FileNotFoundError(f"nothing to resume: no autoencoder in {out}")
        before = files.read_json(out / CONFIG)
        for name, kind in (("sizes", ConvConfig), ("fit", FitConfig)):
            # What came after it was begun has its default.
            later = {f.name: f.default for f in fields(kind) if f.name in stored[name]}
            before[name] = {**later, **before.get(name, {})}
        for name in ("kind", "sizes", "fit"):
            if (was := before.get(name)) != stored[name]:
                raise ValueError(
                    f"cannot resume {out} with other settings: {name} was {was} and "
                    f"is {stored[name]}; repeat the command as it was, or choose another folder"
                )
        return
    if is_ours and (out / CHECKPOINT).is_dir():
        raise FileExistsError(f"{out} holds an autoencoder; resume it (--resume) or choose another")
    if out.exists() and (out.is_file() or (any(out.iterdir()) and not is_ours)):
        raise FileExistsError(f"{out} holds something other than an autoencoder; choose another")
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / CONFIG, stored)
