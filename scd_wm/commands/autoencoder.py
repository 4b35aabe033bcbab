"""The command `train-autoencoder`."""

from __future__ import annotations

import argparse
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.console import image_size, name_list, plain_rows, show_table


def add_train_autoencoder(commands: Commands) -> argparse.ArgumentParser:
    """Declare `train-autoencoder`."""
    what = "Fit a small autoencoder to the images of a data set, for train --autoencoder."
    parser = command(commands, "train-autoencoder", what, run_train_autoencoder)
    parser.add_argument("data", metavar="DATA", type=Path, help="data set of any known format")
    parser.add_argument("--out", type=Path, metavar="AE", required=True, help="folder to write")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=float, metavar="M", help="in all; default: 10")
    limit.add_argument("--steps", type=int, metavar="N", help="in all, in place of minutes")
    parser.add_argument("--resume", action="store_true", help="go on with what is in AE")
    parser.add_argument(
        "--downscale", type=int, metavar="N", default=8, help="pixels along a side of a latent cell"
    )
    parser.add_argument(
        "--channels", type=int, metavar="C", default=16, help="values of a latent cell"
    )
    parser.add_argument(
        "--width", type=int, metavar="N", default=16, help="channels of the first convolution"
    )
    parser.add_argument(
        "--image-size", type=image_size, metavar="S or HxW", help="pixels; default: the data's"
    )
    parser.add_argument(
        "--cameras", type=name_list, metavar="A,B", help="separated by commas; default: all"
    )
    parser.add_argument(
        "--held-out", type=float, metavar="X", default=0.1, help="share of episodes for the numbers"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of all that is random")
    return parser


def run_train_autoencoder(args: argparse.Namespace) -> None:
    """Run `train-autoencoder`.

    Raises:
        KeyboardInterrupt: If it was stopped before its end; all is saved.
    """
    from scd_wm.autoencoder.conv import ConvConfig
    from scd_wm.fit_autoencoder import fit_autoencoder
    from scd_wm.training.autoencoder_trainer import FitConfig

    minutes = 10.0 if args.minutes is None and args.steps is None else args.minutes
    summary = fit_autoencoder(
        args.data,
        args.out,
        sizes=ConvConfig(channels=args.channels, downscale=args.downscale, width=args.width),
        config=FitConfig(minutes=minutes, steps=args.steps, seed=args.seed),
        cameras=args.cameras,
        image_size=args.image_size,
        held_out=args.held_out,
        resume=args.resume,
    )
    show_table(f"autoencoder {args.out}", plain_rows(summary))
    if not summary["finished"]:
        raise KeyboardInterrupt
