"""The command `bench` and what it can measure."""

from __future__ import annotations

import argparse
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.console import plain_rows, show_table


def add_bench(commands: Commands) -> argparse.ArgumentParser:
    """Declare `bench`."""
    what = "Measure speed and memory on this machine, beside others' code in the same run."
    parser = command(commands, "bench", what, run_bench)
    parser.add_argument("what", choices=("data",), help="data: loading clips from each format")
    parser.add_argument(
        "data", metavar="DATA", type=Path, nargs="?", help="data set; default: records some"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file for the result")
    parser.add_argument("--frames", type=int, metavar="N", default=16, help="of a clip")
    parser.add_argument("--batch", type=int, metavar="N", default=16, help="clips of a batch")
    parser.add_argument("--rounds", type=int, metavar="N", default=5, help="turns of each loader")
    return parser


def run_bench(args: argparse.Namespace) -> None:
    """Run `bench`."""
    from scd_wm.bench_data import BenchConfig, bench_data, table_lines

    config = BenchConfig(num_frames=args.frames, batch_size=args.batch, rounds=args.rounds)
    result = bench_data(args.data, config, args.out)
    print("\n".join(("", result["clip"], "", *table_lines(result))))
    show_table("on this machine", plain_rows(result["machine"]))
    resident = result["resident_mib_in_an_epoch"]
    show_table("resident memory in an epoch from disk, MiB", plain_rows(resident))
