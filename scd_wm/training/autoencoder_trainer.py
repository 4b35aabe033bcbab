"""Fits our own autoencoder to images: loss, loop, and what a stopped run needs to go on.

Axes: N images, H height, W width, C channels of a latent.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scd_wm.autoencoder.conv import ConvAutoencoder
from scd_wm.autoencoder.folder import WEIGHTS
from scd_wm.progress import progress_bar
from scd_wm.training import files
from scd_wm.training.checkpoint import copy_tensors
from scd_wm.training.stop import StopRequest

CHECKPOINT = "checkpoint"  # folder with what a stopped run needs to go on
LOG = "log.jsonl"
SQUARED_WEIGHT = (
    10.0  # of the squared error beside the absolute one, whose median hides small things
)
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what AdamW keeps for each parameter


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How the autoencoder is fitted.

    Raises:
        ValueError: If a value is outside what its comment allows.
    """

    steps: int | None = None  # optimiser steps in all; exactly one of steps and minutes is given
    minutes: float | None = None  # in all, over all resumes
    seed: int = 0  # of the initial weights, the choice of images and the noise
    batch_pixels: int = 2**15  # of the images of a step: 8 images of 64 x 64
    lr: float = 2e-3  # learning rate at its highest
    warmup_steps: int = 50  # over which it rises linearly from 0
    latent_noise: float = 0.1  # deviation of noise on latents: neighbours decode to like images
    latent_penalty: float = 1e-4  # on the mean square of latents, or they would outgrow the noise
    log_every: int = 20  # steps between lines of log.jsonl
    checkpoint_every_s: float = 60.0  # seconds between checkpoints

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(
                f"give either steps or minutes, got steps={self.steps} and minutes={self.minutes}"
            )
        limit = self.steps if self.minutes is None else self.minutes
        if limit is None or not limit > 0:
            raise ValueError(f"steps or minutes must be above 0, got {limit}")

    def lr_at(self, step: int, progress: float) -> float:
        """Return the learning rate at a step: a linear rise, then half a cosine down to 0.

        Args:
            step: Counted from 0.
            progress: Share of all training that is done, 0 to 1.
        """
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.lr * rise * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass
class FitState:
    """The autoencoder, its optimiser and how far they are."""

    autoencoder: ConvAutoencoder
    optimizer: torch.optim.Optimizer
    step: int = 0
    elapsed_s: float = 0.0

    def progress(self, config: FitConfig) -> float:
        """Return the share of training that is done."""
        if config.steps is not None:
            return self.step / config.steps
        assert config.minutes is not None
        return self.elapsed_s / (60 * config.minutes)


def fit(
    autoencoder: ConvAutoencoder,
    draw: Callable[[int], Tensor],
    config: FitConfig,
    out: Path,
) -> FitState:
    """Fit to the limit, going on from the checkpoint in `out` if there is one.

    With the same threads the weights after a number of `steps` do not depend on whether the process
    was killed and started again. SIGINT or SIGTERM ends it after the step under way.

    Args:
        autoencoder: Changed in place.
        draw: Gives the images of a step, (N, H, W, 3) uint8, a pure function of the step.
        config: How.
        out: Its folder, for weights, checkpoint and log.

    Raises:
        ValueError: If the loss is not finite, or a checkpoint does not fit.
    """
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=config.lr, betas=(0.9, 0.98))
    state = FitState(autoencoder.train(), optimizer)
    _load(state, out / CHECKPOINT)
    start, saved_s = time.perf_counter() - state.elapsed_s, state.elapsed_s
    bar = progress_bar(
        total=100, desc="fit", unit="%", bar_format="{desc} {bar} {elapsed}<{remaining}"
    )
    with bar, StopRequest() as stop:
        while state.progress(config) < 1 and not stop.is_set:
            for group in optimizer.param_groups:
                group["lr"] = config.lr_at(state.step, state.progress(config))
            values = _optimise(state, draw(state.step), config)
            state.step += 1
            state.elapsed_s = time.perf_counter() - start
            bar.set_description_str(f"step {state.step}  PSNR {values['psnr']:.1f} dB", False)
            bar.update(100 * min(state.progress(config), 1) - bar.n)
            if state.step % config.log_every == 0:
                _log(out / LOG, {"step": state.step, "elapsed_s": state.elapsed_s, **values})
            if state.elapsed_s - saved_s >= config.checkpoint_every_s:
                save(state, out)
                saved_s = state.elapsed_s
    save(state, out)
    autoencoder.eval()
    return state


def loss_parts(
    autoencoder: ConvAutoencoder, images: Tensor, noise: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """Return the loss and the mean squared error of the images decoded from noisy latents.

    The noise and the penalty together are a variational autoencoder whose deviation is fixed
    (Kingma and Welling 2014, arXiv:1312.6114): latents keep only what they can tell through noise.

    Args:
        autoencoder: What is fitted.
        images: (N, 3, H, W) in [0, 1].
        noise: For the latents, (N, C, h, w).
        penalty: Weight of the latents' mean square.
    """
    latents = autoencoder.to_latents(images)
    decoded = autoencoder.to_images(latents + noise)
    error = F.mse_loss(decoded, images)
    loss = F.l1_loss(decoded, images) + SQUARED_WEIGHT * error
    return loss + penalty * latents.square().mean(), error


def _optimise(state: FitState, images: Tensor, config: FitConfig) -> dict[str, float]:
    """Take one step and return numbers on it."""
    pixels = images.permute(0, 3, 1, 2).contiguous().float() / 255
    height, width = state.autoencoder.latent_size(*images.shape[1:3])
    generator = torch.Generator().manual_seed(config.seed * 2**32 + state.step)
    shape = (len(images), state.autoencoder.channels, height, width)
    noise = config.latent_noise * torch.randn(shape, generator=generator)
    loss, error = loss_parts(state.autoencoder, pixels, noise, config.latent_penalty)
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(state.autoencoder.parameters(), 1.0)
    value = loss.item()
    if not math.isfinite(value) or not math.isfinite(norm.item()):
        raise ValueError(
            f"loss is {value} at step {state.step + 1}; look at the images, or lower lr"
        )
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return {"loss": value, "psnr": -10 * math.log10(max(error.item(), 1e-10))}


def save(state: FitState, out: Path) -> None:
    """Write the weights for use, and all that is needed to go on; each whole or not at all."""
    weights = state.autoencoder.state_dict()
    with files.new_folder(out / CHECKPOINT) as partial:
        files.write_tensors(partial / "training.safetensors", weights | _moments(state))
        counters = {"step": state.step, "elapsed_s": state.elapsed_s}
        files.write_json(partial / "state.json", counters)
    files.replace_tensors(out / WEIGHTS, weights)


def _load(state: FitState, folder: Path) -> None:
    """Go on from a checkpoint, if there is one."""
    if not folder.is_dir():
        return
    path = folder / "training.safetensors"
    tensors = files.read_tensors(path)
    for parameter in state.autoencoder.parameters():
        moments = {m: torch.zeros_like(parameter) for m in MOMENTS if m != "step"}
        state.optimizer.state[parameter] = {**moments, "step": torch.zeros(())}
    copy_tensors(tensors, state.autoencoder.state_dict() | _moments(state), path)
    counters: dict[str, Any] = files.read_json(folder / "state.json")
    state.step, state.elapsed_s = counters["step"], counters["elapsed_s"]


def _moments(state: FitState) -> dict[str, Tensor]:
    """Return AdamW's state as tensors named "moment/parameter"."""
    kept = state.optimizer.state
    return {
        f"{moment}/{name}": kept[parameter][moment]
        for name, parameter in state.autoencoder.named_parameters()
        if parameter in kept
        for moment in MOMENTS
    }


def _log(path: Path, line: dict[str, float]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
