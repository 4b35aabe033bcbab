"""The command `calibrate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.console import plain_rows, show_table


def add_calibrate(commands: Commands) -> argparse.ArgumentParser:
    """Declare `calibrate`."""
    what = "Teach a trained run what its data looks like, so that it knows when it is off its data."
    parser = command(commands, "calibrate", what, run_calibrate)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder or exported model")
    parser.add_argument(
        "data", metavar="DATA", type=Path, nargs="?", help="data set; default: that of training"
    )
    parser.add_argument(
        "--clips", type=int, metavar="N", default=400, help="of the episodes trained on"
    )
    parser.add_argument(
        "--held-out-clips", type=int, metavar="N", default=200, help="of the episodes held out"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the choice of clips")
    return parser


def run_calibrate(args: argparse.Namespace) -> None:
    """Run `calibrate`."""
    from scd_wm.calibrate_run import CalibrationConfig, calibrate_run

    config = CalibrationConfig(clips=args.clips, held_out_clips=args.held_out_clips, seed=args.seed)
    show_table(f"calibrated {args.run}", plain_rows(calibrate_run(args.run, args.data, config)))
