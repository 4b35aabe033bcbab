"""The command `train-success`."""

from __future__ import annotations

import argparse
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.commands.data_options import add_data_options, data_options
from scd_wm.console import plain_rows, show_table


def add_train_success(commands: Commands) -> argparse.ArgumentParser:
    """Declare `train-success`."""
    what = "Train a classifier that tells success from a frame, to check what a model predicts."
    parser = command(commands, "train-success", what, run_train_success)
    parser.add_argument("data", metavar="DATA", type=Path, help="data set that tells success")
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="to write")
    parser.add_argument("--steps", type=int, metavar="N", default=1500, help="of the optimiser")
    parser.add_argument(
        "--held-out", type=float, metavar="X", default=0.2, help="share of episodes for the scores"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of all that is random")
    add_data_options(parser)
    return parser


def run_train_success(args: argparse.Namespace) -> None:
    """Run `train-success`."""
    from scd_wm.success.fit import fit_success_classifier
    from scd_wm.success.training import ClassifierTraining

    fitted = fit_success_classifier(
        args.data,
        args.out,
        options=data_options(args),
        config=ClassifierTraining(steps=args.steps, seed=args.seed),
        held_out=args.held_out,
    )
    rows = [row for row in plain_rows(fitted.summary) if row[0] != "format"]
    show_table(f"success classifier {args.out}", rows)
    show_table("on held-out episodes", fitted.held_out.rows())
