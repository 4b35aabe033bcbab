"""How a world model is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scd_wm.model.few_steps import check_steps


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything about training but the model and the data.

    Raises:
        ValueError: If a value is outside what its comment allows.
    """

    steps: int | None = None  # optimiser steps in all; exactly one of steps and minutes is given
    minutes: float | None = None  # of training in all, over all resumes, from the first step on
    seed: int = 0  # of the initial weights, the order of clips and all noise

    batch_size: int = 16  # clips of a step, over all processes
    num_frames: int = 10  # of a clip, the start frame included; 2 windows of the encoder or more
    encoder_lr: float = 1e-4  # learning rate of the encoder after warm-up
    decoder_lr: float = 2e-4  # learning rate of the decoder after warm-up
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's decays of gradient and squared gradient
    weight_decay: float = 0.01  # AdamW's, of weight matrices only
    warmup_steps: int = 100  # over which the learning rates rise linearly from 0
    cooldown_steps: int = 0  # over which they fall linearly to 0 at the end; needs steps
    clip_norm: float = 1.0  # largest norm of the gradient of all parameters
    ema_decay: float = 0.999  # of the averaged weights, once min(ema_decay, (1+n)/(10+n)) is there
    distill_steps: int = 0  # sampler steps to learn from the initial model's many; 0 for none
    distill_teacher_steps: int = 16  # Heun steps of the initial model; a multiple of them
    distill_weight: float = 1.0  # of that loss beside that of the outcomes
    precision: Literal["float32", "bfloat16"] = "float32"  # of matrix products; weights are float32

    log_every: int = 20  # steps between lines of log.jsonl
    eval_every: int = 500  # steps between losses on held-out clips; 0 for none
    eval_batches: int = 4  # held-out batches, the same each time
    checkpoint_every: int = 0  # steps between checkpoints; 0 leaves it to checkpoint_every_s
    checkpoint_every_s: float = 120.0  # seconds between checkpoints; 0 leaves it to the steps
    keep_checkpoints: int = 2  # newest checkpoints that stay on disk

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(
                f"give either steps or minutes, got steps={self.steps} and minutes={self.minutes}"
            )
        for name in ("steps", "minutes"):
            value = getattr(self, name)
            _check(value is None or value > 0, name, value, "above 0")
        for name in ("batch_size", "log_every", "eval_batches", "keep_checkpoints"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _check(self.num_frames >= 2, "num_frames", self.num_frames, "at least 2")
        for name in ("encoder_lr", "decoder_lr", "clip_norm"):
            _check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("weight_decay", "warmup_steps", "cooldown_steps", "eval_every"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("distill_steps", "distill_weight"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("checkpoint_every", "checkpoint_every_s"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        decays = (*self.betas, self.ema_decay)
        _check(len(decays) == 3, "betas", self.betas, "two numbers")
        _check(all(0 <= x < 1 for x in decays), "betas and ema_decay", decays, "in [0, 1)")
        if self.distill_steps:
            check_steps(self.distill_steps, self.distill_teacher_steps)
        kinds = ("float32", "bfloat16")
        _check(self.precision in kinds, "precision", self.precision, f"one of {kinds}")
        if self.cooldown_steps and (self.steps is None or self.cooldown_steps > self.steps):
            raise ValueError(
                f"cooldown_steps={self.cooldown_steps} needs at least as many steps, "
                f"got steps={self.steps}"
            )

    def lr_scale(self, step: int) -> float:
        """Return what the learning rates are multiplied by at a step, counted from 0, in (0, 1]."""
        scale = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.cooldown_steps and self.steps is not None:
            scale = min(scale, max(0.0, (self.steps - step) / self.cooldown_steps))
        return scale


# What a resumed run may change: the limit, and what leaves the path of the weights as it is.
FREE_ON_RESUME = (
    "steps",
    "minutes",
    "cooldown_steps",
    "log_every",
    "eval_every",
    "eval_batches",
    "checkpoint_every",
    "checkpoint_every_s",
    "keep_checkpoints",
)


def _check(is_ok: bool, name: str, value: object, allowed: str) -> None:
    if not is_ok:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
