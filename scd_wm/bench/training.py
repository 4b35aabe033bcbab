"""How long a training step takes, and how much memory: forward, backward, optimiser."""

from __future__ import annotations

from collections.abc import Callable
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
from scd_wm.bench.timing import Contestant, take_turns
from scd_wm.training.config import TrainConfig
from scd_wm.training.state import make_optimizer

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


def _time_steps(
    result: Result, draws: int, config: TrainingConfig, options: BenchOptions
) -> list[Row]:
    entries = [config.entry(mode, draws) for mode in config.modes]
    steps = [training_step(entry, config, options) for entry in entries]
    contestants = [
        Contestant(f"{e.name}, K={draws}", step) for e, step in zip(entries, steps, strict=True)
    ]
    counted = [count_flops(step) for step in steps]
    turns = take_turns(
        contestants, options.rounds, options.turn_s, device=options.device, what=result["format"]
    )
    ratios = results.ratio_columns(turns, [entry.name for entry in entries], options.device)
    rows = []
    for entry, own, operations, against in zip(entries, turns, counted, ratios, strict=True):
        flops = cost.training_step(entry.sizes, config.batch, config.num_frames, draws)
        row: Row = {
            "model": entry.name,
            "shape": entry.shape,
            "draws": draws,
            "batch": config.batch,
            "dtype": options.dtype,
            "threads": torch.get_num_threads(),
            **results.time_columns(own),
        }
        row |= results.work_columns(result, row, options, model_flops=flops, counted=operations)
        row |= against
        row |= in_fresh_process(peak_of_steps, entry, config, options)
        rows.append(row)
    if options.profiles:
        for row, step in zip(rows, steps, strict=True):
            row["where"] = breakdown(step, options.device)
    return rows


def training_step(
    entry: Entry, config: TrainingConfig, options: BenchOptions
) -> Callable[[], object]:
    """Return what does one step of the optimiser, always on the same clips."""
    # Weights stay float32 in training; only the matrix products have another precision.
    exact = models.in_float32(options)
    model = models.build(entry, exact).train()
    clip = models.history(entry, config.batch, exact, config.num_frames)
    seeds = torch.arange(config.batch, device=options.device)
    optimizer = make_optimizer(model, TrainConfig(steps=1))
    if options.compiles:
        models.compile_decoder(model)
    is_low = options.dtype != "float32"

    def step() -> object:
        with torch.autocast(options.device, options.torch_dtype, enabled=is_low):
            loss, _ = model(clip, seeds)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return step


def peak_of_steps(entry: Entry, config: TrainingConfig, options: BenchOptions) -> dict[str, Any]:
    """Return the peak of memory of some training steps, with and without what was there before.

    Run it in a fresh process: see `scd_wm.bench.resident`.
    """
    torch.set_num_threads(options.threads)
    step = training_step(entry, config, options)
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
    ("CPU s a step", lambda row: results.shown_spread(row["cpu_s"])),
    ("wall s", lambda row: results.shown_number(row["wall_s"]["median"])),
    ("peak MiB", lambda row: f"{row['peak_mib']:,.0f}"),
    ("of the step", lambda row: f"{row['peak_of_step_mib']:,.0f}"),
    *results.WORK,
)


def lines(result: Result) -> list[str]:
    """Return the result as text."""
    rows, c = result["rows"], result["config"]
    return [
        *results.heading_lines(result),
        f"a step: forward, backward, optimiser; {c['batch']} clips of {c['num_frames']} frames, "
        f"d={c['dim']} P={c['tokens']} F={c['history']}; memory in a process of its own, of the "
        "step: beyond torch and the weights",
        "",
        *results.table(rows, COLUMNS),
        *results.where_lines(rows, lambda row: f"{row['model']}, K={row['draws']}"),
    ]
