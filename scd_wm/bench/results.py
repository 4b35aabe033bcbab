"""Results of measurements: rows of a table, the table as text, and the whole as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from scd_wm.bench.breakdown import breakdown_line
from scd_wm.bench.machine import describe, gemm_peak
from scd_wm.bench.options import BenchOptions
from scd_wm.bench.timing import Spread, Turn, ratio, seconds
from scd_wm.training import files

Row = dict[str, Any]
Result = dict[str, Any]
GIGA = 1e9


def new_result(what: str, options: BenchOptions, **more: Any) -> Result:
    """Return a result without rows, with the machine and its measured peaks.

    Args:
        what: Name of the measurement.
        options: How it is made.
        more: Its own settings.
    """
    torch.set_num_threads(options.threads)
    peaks = {}
    for dtype in dict.fromkeys((torch.float32, options.torch_dtype)):
        name = str(dtype).removeprefix("torch.")
        peaks[name] = gemm_peak(options.device, dtype, options.peak_turn_s)
    return {
        "format": f"scd_wm bench {what}",
        "machine": {**describe(options.device), "device": options.device},
        "gemm_peak": peaks,
        "options": asdict(options),
        **more,
        "rows": [],
    }


def time_columns(turns: Sequence[Turn], units: float = 1.0) -> Row:
    """Return CPU and wall seconds of a unit, where a call makes `units` of them."""
    return {
        "cpu_s": asdict(Spread.of([turn.cpu_s / units for turn in turns])),
        "wall_s": asdict(Spread.of([turn.wall_s / units for turn in turns])),
    }


def work_columns(
    result: Result, row: Row, options: BenchOptions, *, model_flops: float | None, counted: float
) -> Row:
    """Return operations of a unit beside its time: the cost model's and what torch ran.

    Args:
        result: Has the measured peak.
        row: Has the times of a unit.
        options: How it was measured.
        model_flops: Operations of a unit by the cost model; None where it does not know them.
        counted: Operations of a unit that the counter saw.
    """
    clock = "cpu_s" if options.device == "cpu" else "wall_s"
    rate = counted / GIGA / row[clock]["median"]
    return {
        "model_gflop": None if model_flops is None else model_flops / GIGA,
        "counted_gflop": counted / GIGA,
        "gflop_per_s": rate,
        "share_of_peak": rate / result["gemm_peak"][options.dtype]["gflop_per_s"],
    }


def ratio_columns(turns: Sequence[list[Turn]], names: Sequence[str], device: str) -> list[Row]:
    """Return how many times faster each contestant is than the entangled one, if that is there."""
    own = [[seconds(turn, device) for turn in each] for each in turns]
    rivals = [index for index, name in enumerate(names) if name.startswith("entangled")]
    if not rivals:
        return [{"against_entangled": None} for _ in names]
    return [{"against_entangled": asdict(ratio(each, own[rivals[0]]))} for each in own]


def write_result(result: Result, out: str | Path | None) -> None:
    """Write a result as JSON, whole or not at all; None writes none."""
    if out is not None:
        files.write_json(Path(out), result)


Column = tuple[str, Callable[[Row], str]]
"""Heading, and what a row has there."""


def table(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Return rows as lines of text: the first column to the left, the others to the right."""
    cells = [[heading for heading, _ in columns]]
    cells += [[show(row) for _, show in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]

    def line(texts: Sequence[str]) -> str:
        first, *rest = [
            text.rjust(width) if index else text.ljust(width)
            for index, (text, width) in enumerate(zip(texts, widths, strict=True))
        ]
        return "  ".join((first, *rest)).rstrip()

    return [line(texts) for texts in cells]


def shown_spread(spread: Mapping[str, float] | None, scale: float = 1.0, digits: int = 3) -> str:
    """Return median, least and most as text: "1.2 (1.1 to 1.3)"."""
    if spread is None:
        return ""
    texts = [f"{spread[name] * scale:.{digits}g}" for name in ("median", "least", "most")]
    return f"{_plain(texts[0])} ({_plain(texts[1])} to {_plain(texts[2])})"


def _plain(text: str) -> str:
    return f"{float(text):.0f}" if "e+" in text else text  # 1.23e+03 is 1230


def shown_number(value: float | None, digits: int = 3) -> str:
    """Return a number as text, nothing for None."""
    return "" if value is None else _plain(f"{value:.{digits}g}")


WORK: tuple[Column, ...] = (
    ("GFLOP", lambda row: shown_number(row["model_gflop"])),
    ("counted", lambda row: shown_number(row["counted_gflop"])),
    ("GFLOP/s", lambda row: shown_number(row["gflop_per_s"])),
    ("of peak", lambda row: f"{row['share_of_peak']:.0%}"),
    ("times entangled", lambda row: shown_spread(row["against_entangled"])),
)
"""Columns on operations, which rows with `work_columns` and `ratio_columns` have."""


def where_lines(rows: Sequence[Row], name: Callable[[Row], str]) -> list[str]:
    """Return where the time of each row goes, for the rows that were profiled."""
    profiled = [row for row in rows if "where" in row]
    found = [f"{name(row)}: {breakdown_line(row['where'])}" for row in profiled]
    return ["", "where the time goes", *found] if found else []


def heading_lines(result: Result) -> list[str]:
    """Return what holds for all rows: machine, threads, precision, the measured peak."""
    machine, options = result["machine"], result["options"]
    name = machine.get("gpu", machine["cpu"]) if options["device"] == "cuda" else machine["cpu"]
    peaks = [
        f"{dtype} {peak['gflop_per_s']:,.0f} GFLOP/s ({peak['shape']})"
        for dtype, peak in result["gemm_peak"].items()
    ]
    clock = "a CPU second" if options["device"] == "cpu" else "a second"
    return [
        f"{name}, {machine['cores']} cores, {options['threads']} threads, torch "
        f"{machine['torch']}, {options['dtype']}, {machine['date']}",
        f"matrix products at best, {clock}: {', '.join(peaks)}",
        f"medians of {options['rounds']} turns (least to most); GFLOP by the cost model and as "
        "counted",
    ]
