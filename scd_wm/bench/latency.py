"""How long one imagined frame takes: a single rollout with its history full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from scd_wm import imagination
from scd_wm.bench import cost, models, results
from scd_wm.bench.breakdown import breakdown
from scd_wm.bench.counting import count_flops
from scd_wm.bench.models import Entry
from scd_wm.bench.options import BenchOptions, check_at_least_1, check_out
from scd_wm.bench.results import Result, Row
from scd_wm.bench.timing import Contestant, take_turns
from scd_wm.model.engine import chosen, prepare
from scd_wm.model.world_model import WorldModel


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """Sizes of the models.

    Raises:
        ValueError: If a size is below 1, or a mode is unknown.
    """

    dim: int = 512
    tokens: int = 64  # a frame, patches of 8 x 8 pixels
    history: int = 16  # frames in the window, all of them there
    sampler_steps: int = 10
    # What is compared: mode, encoder layers, decoder layers. The entangled model has their sum.
    contestants: tuple[tuple[str, int, int], ...] = (
        ("prefix", 10, 2),
        ("token_concat", 8, 4),
        ("prefix", 8, 4),
        ("entangled", 8, 4),
    )

    def __post_init__(self) -> None:
        check_at_least_1(self, "dim", "tokens", "history", "sampler_steps")

    def restricted(
        self, modes: tuple[str, ...] | None, layers: tuple[int, int] | None
    ) -> LatencyConfig:
        """Return the sizes with some of the modes only, or all with the same layers.

        Raises:
            ValueError: If a mode is unknown.
        """
        modes = models.MODES if modes is None else modes
        models.check_modes(modes)
        kept = [entry for entry in self.contestants if entry[0] in modes]
        if layers is not None:
            kept = list(dict.fromkeys((mode, *layers) for mode, *_ in kept))
        return replace(self, contestants=tuple(kept))

    def entries(self) -> list[Entry]:
        """Return the models to compare."""
        spec = models.camera_world(self.tokens)
        return [
            models.entry(
                spec,
                models.make_config(
                    dim=self.dim,
                    layers=(encoder_layers, decoder_layers),
                    window=self.history,
                    num_steps=self.sampler_steps,
                ),
                mode,
            )
            for mode, encoder_layers, decoder_layers in self.contestants
        ]


QUICK = LatencyConfig(
    dim=32,
    tokens=4,
    history=2,
    sampler_steps=2,
    contestants=(("prefix", 1, 1), ("token_concat", 1, 1), ("entangled", 1, 1)),
)
_SPLITS = (("prefix", 8, 4), ("token_concat", 8, 4), ("entangled", 8, 4))
CASES: dict[str, LatencyConfig] = {
    "short": LatencyConfig(),
    "paper": LatencyConfig(dim=1024, history=150, sampler_steps=50, contestants=_SPLITS),
    "stream": LatencyConfig(
        dim=256,
        history=4,
        sampler_steps=3,
        contestants=(("prefix", 2, 1), ("token_concat", 2, 1), ("entangled", 2, 1)),
    ),
}
"""Name: short history as robots have, the paper's regime, and a small model that runs as fast as it
can. `scd_wm.commands.bench` names them too."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The sizes of a run's model.

    Raises:
        ValueError: If `sampler_steps` is below 1.
    """

    run: str  # or an export, or the name of a shipped model
    sampler_steps: int | None = None  # None: the model's own

    def __post_init__(self) -> None:
        if self.sampler_steps is not None:
            check_at_least_1(self, "sampler_steps")

    def entries(self) -> list[Entry]:
        """Return the models to compare."""
        return models.run_entries(self.run, self.sampler_steps)


def bench_latency(
    config: LatencyConfig | RunConfig | None = None,
    options: BenchOptions | None = None,
    out: str | Path | None = None,
) -> Result:
    """Time one imagined frame.

    Args:
        config: Sizes, or the run that has them; None takes those of "short".
        options: How to measure; None takes the defaults.
        out: A JSON file for the result; None writes none.

    Returns:
        What is written to `out`.

    Raises:
        ValueError, OSError: If a size does not fit, there is no such run, or `out` cannot be
            written.
    """
    config = LatencyConfig() if config is None else config
    options = BenchOptions() if options is None else options
    entries = config.entries()
    check_out(out)
    result = results.new_result("latency", options, config=asdict(config))
    result["rows"] = time_frames(result, entries, 1, options)
    results.write_result(result, out)
    return result


def time_frames(
    result: Result, entries: list[Entry], batch: int, options: BenchOptions
) -> list[Row]:
    """Return a row for each model: one frame of `batch` rollouts whose history is full."""
    steppers, rows = [], []
    for entry in entries:
        step, row = _stepper(entry, batch, options)
        steppers.append(Contestant(entry.name, step))
        rows.append(row)
    turns = take_turns(
        steppers, options.rounds, options.turn_s, device=options.device, what=result["format"]
    )
    names = [entry.name for entry in entries]
    ratios = results.ratio_columns(turns, names, options.device)
    for row, entry, own, against in zip(rows, entries, turns, ratios, strict=True):
        flops = batch * cost.frame(entry.sizes) if entry.is_in_cost_model else None
        counted = row.pop("counted")
        row |= results.time_columns(own)
        row |= results.work_columns(result, row, options, model_flops=flops, counted=counted)
        row |= against
        row["frames_per_cpu_s"] = batch / row["cpu_s"]["median"]
        row["frames_per_s"] = batch / row["wall_s"]["median"]
    if options.profiles:
        for row, stepper in zip(rows, steppers, strict=True):
            row["where"] = breakdown(stepper.run, options.device)
    return rows


def _stepper(entry: Entry, batch: int, options: BenchOptions) -> tuple[Callable[[], object], Row]:
    """Return what imagines the next frame, and the part of its row that is known before timing."""
    plain = models.build(entry, options).eval()
    model = prepare(plain, options.engine)
    row = {
        "model": entry.name,
        "shape": entry.shape,
        "batch": batch,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "engine": chosen(plain, options.engine),
        "parameters": models.num_parameters(plain),
        "sequential_layers": cost.sequential_layers(entry.sizes)
        if entry.is_in_cost_model
        else None,
        "counted": count_flops(_step(plain, entry, batch, options)),  # knows torch's own layers
    }
    return _step(model, entry, batch, options), row


def _step(
    model: WorldModel, entry: Entry, batch: int, options: BenchOptions
) -> Callable[[], object]:
    """Return what imagines the next frame of rollouts whose history is full."""
    state = imagination.begin(model, models.history(entry, batch, options, 2))
    # As if a window had been read, which takes minutes: what it holds does not change the time.
    state.cache.num_frames = [entry.config.window] * batch
    with torch.inference_mode():
        state.cache.keys.normal_()
        state.cache.values.normal_()
    action = models.actions(entry, batch, options)
    return lambda: imagination.step(model, state, action)


COLUMNS: tuple[results.Column, ...] = (
    ("model", lambda row: row["model"]),
    ("M params", lambda row: results.shown_number(row["parameters"] / 1e6)),
    ("layers in turn", lambda row: str(row["sequential_layers"] or "")),
    ("CPU ms a frame", lambda row: results.shown_spread(row["cpu_s"], 1e3)),
    ("wall ms", lambda row: results.shown_number(1e3 * row["wall_s"]["median"])),
    ("frames / CPU s", lambda row: results.shown_number(row["frames_per_cpu_s"])),
    *results.WORK,
)


def lines(result: Result) -> list[str]:
    """Return the result as text."""
    rows = result["rows"]
    return [
        *results.heading_lines(result),
        f"one frame, batch {rows[0]['batch']}, history full: {rows[0]['shape']}",
        "",
        *results.table(rows, COLUMNS),
        *results.where_lines(rows, lambda row: row["model"]),
    ]
