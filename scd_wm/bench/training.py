"""How long a training step takes, and how much memory: all that `train` does but load clips.

K > 1 noise draws are timed twice: staged, each differentiated as it is made, as `train` does it;
and together, by one backward pass.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from scd_wm.bench import cost, models, results
from scd_wm.bench.breakdown import breakdown
from scd_wm.bench.counting import count_flops
from scd_wm.bench.models import Entry
from scd_wm.bench.options import BenchOptions, check_at_least_1, check_out
from scd_wm.bench.resident import MIB, in_fresh_process, peak_mib, resident_mib
from scd_wm.bench.results import Result, Row
from scd_wm.bench.timing import Contestant, ratio, seconds, take_turns
from scd_wm.training.config import TrainConfig
from scd_wm.training.ema import EMA
from scd_wm.training.state import make_optimizer

WAYS = ("together", "staged")  # to differentiate K draws
STEPS_FOR_PEAK = 3  # the first makes the optimiser's moments


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Sizes of models and batches.

    Raises:
        ValueError: If a size is below 1.
    """

    dim: int = 256
    tokens: int = 16  # a frame, patches of 8 x 8 pixels
    history: int = 4  # frames in the window
    layers: tuple[int, int] = (6, 2)  # of encoder and decoder; the entangled model has their sum
    num_frames: int = 9  # of a clip
    batch: int = 8  # clips
    draws: tuple[int, ...] = (1, 4)  # noise draws K
    modes: tuple[str, ...] = ("prefix", "token_concat", "entangled")

    def __post_init__(self) -> None:
        models.check_modes(self.modes)
        check_at_least_1(self, "tokens", "history", "batch")
        if self.num_frames < 2:
            raise ValueError(f"num_frames must be 2 or more, got {self.num_frames}")
        if not self.draws or min(self.draws) < 1:
            raise ValueError(f"draws must be numbers of 1 or more, got {self.draws}")

    def entry(self, mode: str, draws: int) -> Entry:
        """Return a model that is trained with `draws` noise draws."""
        config = models.make_config(
            dim=self.dim, layers=self.layers, window=self.history, num_steps=1
        )
        found = models.entry(models.camera_world(self.tokens), config, mode)
        return found.with_config(draws=draws)


QUICK = TrainingConfig(
    dim=32, tokens=4, history=2, layers=(1, 1), num_frames=3, batch=2, draws=(1, 2)
)


def bench_training(
    config: TrainingConfig | None = None,
    options: BenchOptions | None = None,
    out: str | Path | None = None,
) -> Result:
    """Time training steps, and measure the peak of memory of each in a process of its own.

    Args:
        config: Sizes; None takes the defaults.
        options: How to measure; None takes the defaults.
        out: A JSON file for the result; None writes none.

    Returns:
        What is written to `out`.

    Raises:
        ValueError, OSError: If a size does not fit, or `out` cannot be written.
    """
    config = TrainingConfig() if config is None else config
    options = BenchOptions(rounds=3) if options is None else options
    config.entry(config.modes[0], config.draws[0])  # raises where sizes do not fit
    check_out(out)
    result = results.new_result("training", options, config=asdict(config))
    for draws in config.draws:
        result["rows"] += _time_steps(result, draws, config, options)
    results.write_result(result, out)
    return result


@dataclass(frozen=True)
class _Case:
    """A model and how its draws are differentiated."""

    entry: Entry
    way: str  # of WAYS


def _time_steps(
    result: Result, draws: int, config: TrainingConfig, options: BenchOptions
) -> list[Row]:
    ways = WAYS if draws > 1 else ("staged",)  # one draw is its own stage
    cases = [_Case(config.entry(mode, draws), way) for mode in config.modes for way in ways]
    steps = [training_step(c.entry, config, options, c.way == "staged") for c in cases]
    counted = [count_flops(step) for step in steps]
    contestants = [
        Contestant(f"{c.entry.name}, K={draws}, {c.way}", step)
        for c, step in zip(cases, steps, strict=True)
    ]
    turns = take_turns(
        contestants, options.rounds, options.turn_s, device=options.device, what=result["format"]
    )
    times = {
        (c.entry.mode, c.way): [seconds(turn, options.device) for turn in own]
        for c, own in zip(cases, turns, strict=True)
    }
    rows = []
    for case, own, operations in zip(cases, turns, counted, strict=True):
        row = _row(case, config, options) | results.time_columns(own)
        flops = cost.training_step(case.entry.sizes, config.batch, config.num_frames, draws)
        row |= results.work_columns(result, row, options, model_flops=flops, counted=operations)
        row |= _comparisons(case, config.batch, times)
        is_staged = case.way == "staged"
        row |= in_fresh_process(peak_of_steps, case.entry, config, options, is_staged)
        rows.append(row)
    if options.profiles:
        for row, step in zip(rows, steps, strict=True):
            row["where"] = breakdown(step, options.device)
    return rows


def _row(case: _Case, config: TrainingConfig, options: BenchOptions) -> Row:
    return {
        "model": case.entry.name,
        "shape": case.entry.shape,
        "draws": case.entry.config.draws,
        "way": case.way,
        "batch": config.batch,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
    }


def _comparisons(case: _Case, batch: int, times: Mapping[tuple[str, str], list[float]]) -> Row:
    """Return clips a second and the ratios to the rivals in the same rounds, where there are any.

    Args:
        case: Whose row it is.
        batch: Clips of a step.
        times: Seconds of the turns of each mode and way.
    """
    own = times[case.entry.mode, case.way]
    entangled = times.get(("entangled", case.way))
    together = times.get((case.entry.mode, "together"))
    return {
        "clips_per_s": batch / statistics.median(own),
        "against_entangled": None if entangled is None else asdict(ratio(own, entangled)),
        "time_of_together": None if together is None else asdict(ratio(together, own)),
    }


def training_step(
    entry: Entry, config: TrainingConfig, options: BenchOptions, staged: bool = True
) -> Callable[[], object]:
    """Return what does one step of the optimiser, always on the same clips."""
    # Weights stay float32 in training; only the matrix products have another precision.
    exact = models.in_float32(options)
    model = models.build(entry, exact).train()
    clip = models.history(entry, config.batch, exact, config.num_frames)
    seeds = torch.arange(config.batch, device=options.device)
    training = TrainConfig(steps=1)
    optimizer, ema = make_optimizer(model, training), EMA(model, training.ema_decay)
    if options.compiles:
        models.compile_decoder(model)
    is_low = options.dtype != "float32"

    def step() -> object:
        with torch.autocast(options.device, options.torch_dtype, enabled=is_low):
            loss, _ = model(clip, seeds, staged=staged)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(0)
        return loss.detach()

    return step


def peak_of_steps(
    entry: Entry, config: TrainingConfig, options: BenchOptions, staged: bool
) -> dict[str, Any]:
    """Return the peak of memory of some training steps, with and without what was there before.

    Run it in a fresh process: see `scd_wm.bench.resident`.
    """
    torch.set_num_threads(options.threads)
    step = training_step(entry, config, options, staged)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / MIB
    else:
        before = resident_mib() or 0.0
    for _ in range(STEPS_FOR_PEAK):
        step()
    peak = torch.cuda.max_memory_allocated() / MIB if options.device == "cuda" else peak_mib()
    return {"peak_mib": peak, "peak_of_step_mib": peak - before}


COLUMNS: tuple[results.Column, ...] = (
    ("model", lambda row: row["model"]),
    ("K", lambda row: str(row["draws"])),
    ("draws", lambda row: row["way"] if row["draws"] > 1 else ""),
    ("CPU s a step", lambda row: results.shown_spread(row["cpu_s"])),
    ("wall s", lambda row: results.shown_number(row["wall_s"]["median"])),
    ("clips / s", lambda row: results.shown_number(row["clips_per_s"])),
    ("of together", lambda row: results.shown_spread(row["time_of_together"])),
    ("peak MiB", lambda row: f"{row['peak_mib']:,.0f}"),
    ("of the step", lambda row: f"{row['peak_of_step_mib']:,.0f}"),
    *results.WORK,
)


def lines(result: Result) -> list[str]:
    """Return the result as text."""
    rows, c = result["rows"], result["config"]
    return [
        *results.heading_lines(result),
        f"a step: forward, backward, clipping, AdamW, EMA; {c['batch']} clips of "
        f"{c['num_frames']} frames, d={c['dim']} P={c['tokens']} F={c['history']}; memory in a "
        "process of its own, of the step: beyond torch and the weights",
        "K draws staged: each differentiated as it is made; together: in one backward pass",
        "",
        *results.table(rows, COLUMNS),
        *results.where_lines(rows, lambda row: f"{row['model']}, K={row['draws']}, {row['way']}"),
    ]
