"""The command `train`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.commands.data_options import add_data_options, data_options
from scd_wm.console import gibibytes, plain_rows, show_table

PRESETS = ("state", "tiny", "small", "base", "paper")  # of scd_wm.model.presets, which needs torch


def add_train(commands: Commands) -> argparse.ArgumentParser:
    """Declare `train`."""
    what = "Train a world model on a data set, without converting it."
    parser = command(commands, "train", what, run_train)
    parser.add_argument("data", metavar="DATA", type=Path, help="data set of any known format")
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="settings of model and training in place of the preset's; --dry-run shows them all",
    )
    parser.add_argument(
        "--out", type=Path, metavar="RUN", required=True, help="run folder to write"
    )
    parser.add_argument("--preset", choices=PRESETS, help="size and recipe; default: tiny")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--steps", type=int, metavar="N", help="in all; default: the preset's")
    limit.add_argument(
        "--minutes", type=float, metavar="M", help="of training in all, over all resumes"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from RUN's newest checkpoint, with its settings: of these only --steps or "
        "--minutes and how often it reports may be given anew",
    )
    parser.add_argument("--init", type=Path, metavar="RUN", help="run or model to start from")
    parser.add_argument(
        "--autoencoder",
        metavar="AE",
        help="train on latents of this frozen autoencoder: a folder, or an id on the model hub",
    )
    parser.add_argument(
        "--held-out",
        type=float,
        metavar="X",
        help="share of episodes not trained on; default: 0.1",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="default: the preset's")
    parser.add_argument("--tensorboard", action="store_true", help="also write TensorBoard events")
    parser.add_argument("--dry-run", action="store_true", help="show settings and sizes, and stop")
    parser.add_argument(
        "--memory-gib",
        type=gibibytes,
        metavar="G",
        default="2",
        help="how much of the data is kept in memory, in each process; 0: nothing",
    )
    add_data_options(parser)
    return parser


def run_train(args: argparse.Namespace) -> None:
    """Run `train`.

    Raises:
        KeyboardInterrupt: If training was stopped before its end; all is saved.
    """
    from scd_wm.training.run import train_run

    summary = train_run(
        args.data,
        args.out,
        preset=args.preset,
        steps=args.steps,
        minutes=args.minutes,
        overrides=args.overrides,
        resume=args.resume,
        init=args.init,
        options=data_options(args),
        memory_bytes=args.memory_gib,
        tensorboard=args.tensorboard,
        dry_run=args.dry_run,
        seed=args.seed,
        held_out=args.held_out,
        autoencoder=args.autoencoder,
    )
    if args.dry_run:
        return
    if os.environ.get("RANK", "0") == "0":  # one of the processes of a launcher
        show_table(f"trained {args.out}", plain_rows(summary))
    if not summary["finished"]:
        raise KeyboardInterrupt
