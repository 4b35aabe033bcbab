"""Everything that a training run needs to go on, and how it is kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scd_wm.model.world_model import WorldModel
from scd_wm.training import files
from scd_wm.training.checkpoint import (
    CHECKPOINTS,
    PREFIX,
    checkpoint_step,
    checkpoints,
    copy_tensors,
    latest_checkpoint,
    load_weights,
)
from scd_wm.training.config import TrainConfig
from scd_wm.training.ema import EMA
from scd_wm.training.provenance import versions

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what AdamW keeps for each parameter


@dataclass
class TrainState:
    """Model, averages, optimiser and counters. Batches and noise follow from `step` alone."""

    model: WorldModel
    ema: EMA
    optimizer: torch.optim.Optimizer
    step: int = 0  # optimiser steps done
    samples: int = 0  # clips seen
    elapsed_s: float = 0.0  # seconds of training, over all resumes


def make_optimizer(model: WorldModel, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with the rates of encoder and decoder, and decay on weight matrices only."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    encoder, decoder = model.encoder_parameters(), model.decoder_parameters()
    assert {*encoder, *decoder} == {*names}, "encoder and decoder must be all of the model"
    groups: list[dict[str, Any]] = []
    for lr, parameters in ((config.encoder_lr, encoder), (config.decoder_lr, decoder)):
        matrices = [p for p in parameters if p.ndim >= 2 and names[p].endswith(".weight")]
        others = [p for p in parameters if not (p.ndim >= 2 and names[p].endswith(".weight"))]
        rates = {"lr": lr, "full_lr": lr}
        groups.append({"params": matrices, "weight_decay": config.weight_decay, **rates})
        groups.append({"params": others, "weight_decay": 0.0, **rates})
    return torch.optim.AdamW(groups, betas=config.betas, fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Set every group's learning rate to a share of its full one."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * scale


def save_state(state: TrainState, run: Path, keep: int) -> Path:
    """Write a checkpoint, then delete all but the newest `keep`."""
    folder = run / CHECKPOINTS / f"{PREFIX}{state.step:08d}"
    if not folder.exists():
        with files.new_folder(folder) as partial:
            files.write_tensors(partial / "model.safetensors", state.model.state_dict())
            files.write_tensors(partial / "ema.safetensors", state.ema.weights)
            files.write_tensors(partial / "optimizer.safetensors", _moments(state))
            counters = {k: getattr(state, k) for k in ("step", "samples", "elapsed_s")}
            files.write_json(partial / "state.json", {**counters, "versions": versions()})
    for old in checkpoints(run)[:-keep]:
        files.remove(old)
    return folder


def load_state(state: TrainState, run: Path, is_main: bool = True) -> None:
    """Continue from the newest checkpoint of a run, if there is one.

    The main process also deletes checkpoints that were only half written.

    Raises:
        ValueError: If a file is damaged or does not fit.
    """
    if is_main:
        for partial in (run / CHECKPOINTS).glob(".*"):
            files.remove(partial)
    folder = latest_checkpoint(run)
    if folder is None:
        return
    load_weights(state.model, folder / "model.safetensors")
    path = folder / "ema.safetensors"
    copy_tensors(files.read_tensors(path), state.ema.weights, path)
    _load_moments(state, folder / "optimizer.safetensors")
    counters: dict[str, Any] = files.read_json(folder / "state.json")
    state.step, state.samples = counters["step"], counters["samples"]
    state.elapsed_s = counters["elapsed_s"]
    assert state.step == checkpoint_step(folder), f"{folder} holds step {state.step}"


def _moments(state: TrainState) -> dict[str, Tensor]:
    """Return AdamW's state as tensors named "moment/parameter"."""
    kept = state.optimizer.state
    return {
        f"{moment}/{name}": kept[parameter][moment]
        for name, parameter in state.model.named_parameters()
        if parameter in kept
        for moment in MOMENTS
    }


def _load_moments(state: TrainState, path: Path) -> None:
    tensors = files.read_tensors(path)
    for name, parameter in state.model.named_parameters():
        if f"step/{name}" not in tensors:
            continue  # it had no gradient yet
        target = {m: torch.zeros_like(parameter) for m in MOMENTS if m != "step"}
        target["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        found = {m: tensors[f"{m}/{name}"] for m in MOMENTS if f"{m}/{name}" in tensors}
        copy_tensors(found, target, path)
        state.optimizer.state[parameter] = target
