"""How many frames a second many rollouts at once make, and how near to the machine's peak."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from scd_wm.bench import models, results
from scd_wm.bench.latency import time_frames
from scd_wm.bench.models import Entry
from scd_wm.bench.options import BenchOptions, check_at_least_1, check_out
from scd_wm.bench.results import Result, Row


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig:
    """Sizes of models and batches.

    Raises:
        ValueError: If a size is below 1.
    """

    dims: tuple[int, ...] = (256, 512)
    batches: tuple[int, ...] = (1, 8, 32, 128)
    tokens: int = 16  # a frame, patches of 8 x 8 pixels
    history: int = 4  # frames in the window
    sampler_steps: int = 2
    layers: tuple[int, int] = (6, 2)  # of encoder and decoder; the entangled model has their sum
    modes: tuple[str, ...] = ("prefix", "entangled")

    def __post_init__(self) -> None:
        models.check_modes(self.modes)
        check_at_least_1(self, "tokens", "history", "sampler_steps")
        for name in ("dims", "batches"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be numbers of 1 or more, got {getattr(self, name)}")

    def entries(self, dim: int) -> list[Entry]:
        """Return the models of a width."""
        config = models.make_config(
            dim=dim, layers=self.layers, window=self.history, num_steps=self.sampler_steps
        )
        spec = models.camera_world(self.tokens)
        return [models.entry(spec, config, mode) for mode in self.modes]


QUICK = ThroughputConfig(
    dims=(32,), batches=(1, 2), tokens=4, history=2, sampler_steps=1, layers=(1, 1)
)


def bench_throughput(
    config: ThroughputConfig | None = None,
    options: BenchOptions | None = None,
    out: str | Path | None = None,
) -> Result:
    """Time imagined frames in batches.

    Args:
        config: Sizes; None takes the defaults.
        options: How to measure; None takes three turns of what a frame takes.
        out: A JSON file for the result; None writes none.

    Returns:
        What is written to `out`.

    Raises:
        ValueError, OSError: If a size does not fit, or `out` cannot be written.
    """
    config = ThroughputConfig() if config is None else config
    options = BenchOptions(rounds=3, turn_s=0.5) if options is None else options
    entries = {dim: config.entries(dim) for dim in config.dims}
    check_out(out)
    result = results.new_result("throughput", options, config=asdict(config))
    for dim in config.dims:
        for batch in config.batches:
            result["rows"] += time_frames(result, entries[dim], batch, options)
    results.write_result(result, out)
    return result


COLUMNS: tuple[results.Column, ...] = (
    ("model", lambda row: row["model"]),
    ("shape", lambda row: row["shape"]),
    ("batch", lambda row: str(row["batch"])),
    ("frames / CPU s", lambda row: results.shown_number(row["frames_per_cpu_s"])),
    ("frames / s", lambda row: results.shown_number(row["frames_per_s"])),
    ("CPU s a batch", lambda row: results.shown_spread(row["cpu_s"])),
    *results.WORK,
)


def lines(result: Result) -> list[str]:
    """Return the result as text."""
    rows = result["rows"]
    return [
        *results.heading_lines(result),
        "",
        *results.table(rows, COLUMNS),
        *results.where_lines(rows, _name),
    ]


def _name(row: Row) -> str:
    return f"{row['model']}, {row['shape']}, batch {row['batch']}"
