"""The command `convert`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from scd_wm.commands.base import Commands, command
from scd_wm.console import image_size, name_list, show_table

DAMAGED_SHOWN = 10


def add_convert(commands: Commands) -> argparse.ArgumentParser:
    """Declare `convert`."""
    what = (
        "Write a data set of any format as a store, which trains fastest, or as a robomimic file. "
        "Said again, it goes on where it was interrupted, and writes what has changed."
    )
    parser = command(commands, "convert", what, run_convert)
    parser.add_argument("source", metavar="SRC", type=Path, help="data set of any format")
    parser.add_argument(
        "target", metavar="DST", type=Path, help="folder of the store, or robomimic HDF5 file"
    )
    parser.add_argument(
        "--format",
        choices=("store", "robomimic"),
        help="what to write; default: robomimic if DST ends in .hdf5 or .h5, else store",
    )
    names = "names or patterns such as '*_image', separated by commas, or none; default: all"
    parser.add_argument("--cameras", type=name_list, metavar="A,B", help=names)
    parser.add_argument("--vectors", type=name_list, metavar="A,B", help=names)
    parser.add_argument(
        "--image-size", type=image_size, metavar="S or HxW", help="pixels; default: unchanged"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes for a store; default: one a core"
    )
    parser.add_argument(
        "--level",
        type=int,
        metavar="N",
        default=3,
        help="of compression, 1 to 22: smaller, slower to write; 0: none, fastest to read if the "
        "disk is fast; of what is written now: episodes that are there stay as they are",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all of the store and compare it with its source; restores what is damaged",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it is there")
    return parser


def run_convert(args: argparse.Namespace) -> None:
    """Run `convert`."""
    from scd_wm.convert.run import convert
    from scd_wm.datasets.options import DataOptions

    summary = convert(
        args.source,
        args.target,
        target_format=args.format,
        options=DataOptions(cameras=args.cameras, vectors=args.vectors, image_size=args.image_size),
        workers=len(os.sched_getaffinity(0)) if args.workers is None else args.workers,
        level=args.level,
        overwrite=args.overwrite,
        verify=args.verify,
    )
    show_table(f"converted {args.source} to {args.target}", _rows(summary))
    for level, count in summary.get("kept_at_other_levels", {}).items():
        print(
            f"  {count} episodes stay as they were written, at level {level} and not {args.level}; "
            "--overwrite writes them anew"
        )
    lines = [*summary.get("left_out", ()), *summary["damaged_episodes"]]
    more = [f"and {len(lines) - DAMAGED_SHOWN} more"] if len(lines) > DAMAGED_SHOWN else []
    for line in (*lines[:DAMAGED_SHOWN], *more):
        print(f"  not written: {line}")


def _rows(summary: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the entries of a summary to show."""
    rows: list[tuple[str, Any]] = []
    for name, value in summary.items():
        if name.endswith("_bytes"):
            rows.append((name.removesuffix("_bytes"), f"{value / 1e6:,.1f} MB"))
        elif isinstance(value, str | int | float):
            rows.append((name, value))
    ratio = summary["image_bytes"] / max(1, summary["target_bytes"])
    return [*rows, ("images to target", f"{ratio:.2f}")]
