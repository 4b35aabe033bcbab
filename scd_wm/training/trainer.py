"""The training loop. The order on the page is the order in time."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from scd_wm.clip import Clip
from scd_wm.model.world_model import WorldModel
from scd_wm.training.config import TrainConfig
from scd_wm.training.ema import EMA
from scd_wm.training.noise_seeds import row_seeds
from scd_wm.training.processes import average_over, check_own_launch
from scd_wm.training.run_log import Reporter
from scd_wm.training.state import (
    TrainState,
    load_state,
    make_optimizer,
    save_state,
    set_learning_rates,
)
from scd_wm.training.stop import StopRequest

HELD_OUT_SEED = 2**40  # of the noise on held-out clips; no run's own


class NonFiniteLossError(ValueError):
    """The loss or its gradient became NaN or infinite."""


class Batches(Protocol):
    """What training needs of a loader; `scd_wm.datasets.loader.ClipLoader` has it."""

    def sample_ids(self, step: int) -> list[int]:
        """Return the numbers in the run of this process's clips of a step, counted from 0."""

    def batch(self, step: int) -> Clip:
        """Return these clips, a pure function of the step."""

    def iterate(self, start_step: int = 0) -> Iterator[Clip]:
        """Yield the batches from a step on."""


def make_accelerator() -> Accelerator:
    """Return accelerate's view of the devices and processes at hand.

    Precision is not accelerate's here: it allows a process only one, for good.

    Raises:
        ValueError: If `accelerate launch` started fewer processes than it was asked for.
    """
    check_own_launch()
    # A batch may leave parameters without a gradient, such as those for frames that are missing.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision="no", kwargs_handlers=[unused])


def train(
    model: WorldModel,
    batches: Batches,
    held_out: Batches | None,
    config: TrainConfig,
    run: Path,
    accelerator: Accelerator,
    tensorboard: bool = False,
) -> TrainState:
    """Train to the limit, from the newest checkpoint in the run folder or the model's weights.

    On a CPU with the same threads, the weights after N steps do not depend on whether and when the
    process was killed and started again. SIGINT or SIGTERM ends training after the step under way.

    Args:
        model: Is changed in place.
        batches: Clips to train on.
        held_out: Clips for a loss on what training does not see.
        config: How to train.
        run: The run folder, for checkpoints and log.jsonl.
        accelerator: From `make_accelerator`.
        tensorboard: Also write TensorBoard events.

    Returns:
        The state at the end, which is also the newest checkpoint.

    Raises:
        NonFiniteLossError: If loss or gradient is not finite; names the step and the episodes.
        ValueError: If a checkpoint does not fit.
    """
    network, state = _prepare(model, config, run, accelerator)
    held_out_clips = _held_out_clips(held_out, config, accelerator)
    is_main, start = accelerator.is_main_process, time.perf_counter() - state.elapsed_s
    reporter = Reporter(run, config, state, is_main, tensorboard)
    saved_s = state.elapsed_s
    with StopRequest() as stop, closing(reporter), closing(_stream(batches, state.step)) as clips:
        while not _all_end(is_over(state, config) or stop.is_set, accelerator):
            seeds = row_seeds(config.seed, batches.sample_ids(state.step))
            values = _optimise(network, state, config, next(clips), seeds, accelerator)
            state.ema.update(state.step)
            state.step += 1
            state.samples += config.batch_size
            state.elapsed_s = time.perf_counter() - start
            reporter.add(state, values)
            line: dict[str, float] = {}
            if reporter.is_due(state.step):
                line = _mean_over_ranks(reporter.means(state), accelerator)
            if held_out_clips and state.step % config.eval_every == 0:
                with _matmul_precision(config, accelerator):
                    line |= held_out_losses(model, state.ema, held_out_clips)
            if line:
                reporter.write(state.step, line)
            if is_main and _checkpoint_is_due(state, config, saved_s):
                save_state(state, run, config.keep_checkpoints)
                saved_s = state.elapsed_s
    if is_main:
        save_state(state, run, config.keep_checkpoints)
    accelerator.wait_for_everyone()
    return state


def is_over(state: TrainState, config: TrainConfig) -> bool:
    """Say whether a run has reached its limit."""
    if config.steps is not None:
        return state.step >= config.steps
    assert config.minutes is not None
    return state.elapsed_s >= 60 * config.minutes


@torch.no_grad()
def held_out_losses(
    model: WorldModel, ema: EMA, batches: list[tuple[Clip, Tensor]]
) -> dict[str, float]:
    """Return mean loss and parts of the averaged weights, under names that begin with "val_"."""
    totals: dict[str, float] = {}
    for clip, seeds in batches:
        loss, parts = torch.func.functional_call(model, ema.weights, (clip, seeds))
        for name, value in {"loss": loss, **parts}.items():
            totals[f"val_{name}"] = totals.get(f"val_{name}", 0.0) + float(value) / len(batches)
    return totals


def _prepare(
    model: WorldModel, config: TrainConfig, run: Path, accelerator: Accelerator
) -> tuple[nn.Module, TrainState]:
    """Return the model as accelerate wraps it, and the state to start from."""
    model.train()
    network, prepared = accelerator.prepare(model, make_optimizer(model, config))
    state = TrainState(model, EMA(model, config.ema_decay), prepared.optimizer)
    load_state(state, run, accelerator.is_main_process)
    accelerator.wait_for_everyone()  # all have read before the first writes
    return network, state


def _stream(batches: Batches, step: int) -> Generator[Clip, None, None]:
    """Yield batches from a step on; closing it closes the loader's iterator."""
    yield from batches.iterate(step)


def _optimise(
    network: nn.Module,
    state: TrainState,
    config: TrainConfig,
    clip: Clip,
    seeds: Tensor,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Take one step of the optimiser and return loss, its parts and the gradient's norm."""
    set_learning_rates(state.optimizer, config.lr_scale(state.step))
    device = accelerator.device
    with _matmul_precision(config, accelerator):
        loss, parts = network(clip.to(device), seeds.to(device), average=average_over(accelerator))
    accelerator.backward(loss)
    grad_norm = accelerator.clip_grad_norm_(network.parameters(), config.clip_norm)
    values = _to_floats({"loss": loss, **parts, "grad_norm": grad_norm})
    _check_finite(values, state.step, clip)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return values


def _matmul_precision(config: TrainConfig, accelerator: Accelerator) -> torch.autocast:
    """Return a context in which matrix products have the precision of the configuration."""
    is_low = config.precision == "bfloat16"
    return torch.autocast(accelerator.device.type, torch.bfloat16, enabled=is_low)


def _to_floats(values: dict[str, Tensor]) -> dict[str, float]:
    """Bring scalars to the host, all at once."""
    numbers = torch.stack([value.detach().float() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def _check_finite(values: dict[str, float], step: int, clip: Clip) -> None:
    """Raise NonFiniteLossError, before the weights are touched, unless all values are finite."""
    wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
    if wrong:
        names = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        raise NonFiniteLossError(
            f"{names} at step {step + 1}, with clips {'; '.join(clip.episodes)}; look at this "
            "data, or lower encoder_lr and decoder_lr"
        )


def _held_out_clips(
    held_out: Batches | None, config: TrainConfig, accelerator: Accelerator
) -> list[tuple[Clip, Tensor]]:
    """Return the same held-out batches and noise seeds at every call, on the main process only."""
    if held_out is None or config.eval_every == 0 or not accelerator.is_main_process:
        return []
    device = accelerator.device
    return [
        (held_out.batch(i).to(device), row_seeds(HELD_OUT_SEED, held_out.sample_ids(i)).to(device))
        for i in range(config.eval_batches)
    ]


def _checkpoint_is_due(state: TrainState, config: TrainConfig, saved_s: float) -> bool:
    by_step = config.checkpoint_every and state.step % config.checkpoint_every == 0
    by_time = config.checkpoint_every_s and state.elapsed_s - saved_s >= config.checkpoint_every_s
    return bool(by_step or by_time)


def _all_end(is_ending: bool, accelerator: Accelerator) -> bool:
    """Agree with the other processes on whether to end: if one does, all do."""
    if accelerator.num_processes == 1:
        return is_ending
    flag = torch.tensor(float(is_ending), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum") > 0)


def _mean_over_ranks(values: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    if accelerator.num_processes == 1:
        return values
    numbers = torch.tensor(list(values.values()), device=accelerator.device)
    return dict(zip(values, accelerator.reduce(numbers, "mean").tolist(), strict=True))
