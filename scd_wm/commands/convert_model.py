"""The command `convert-model`."""

from __future__ import annotations

import argparse
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.console import layer_list, level_or_none, plain_rows, show_table

MODES = ("resume", "prefix", "token_concat")  # of scd_wm.model.conversion, which needs torch


def add_convert_model(commands: Commands) -> argparse.ArgumentParser:
    """Declare `convert-model`."""
    what = (
        "Make an SCD model of a trained causal diffuser (arch=entangled): some of its layers "
        "become the encoder, copies of some the decoder. Go on with: scd-wm train DATA --init RUN2."
    )
    parser = command(commands, "convert-model", what, run_convert_model)
    parser.add_argument("run", metavar="RUN", type=Path, help="run or exported model to split")
    parser.add_argument(
        "--out", type=Path, metavar="RUN2", required=True, help="model folder to write"
    )
    parser.add_argument(
        "--split",
        metavar="E+D",
        help="numbers of layers: the first E make the encoder, the first and the last D/2 the "
        "decoder; or the folder of scd-wm probe, or its summary.json",
    )
    layers = "in place of --split: layers counted from 0, such as "
    parser.add_argument("--encoder", type=layer_list, metavar="LAYERS", help=f"{layers}0-7")
    parser.add_argument("--decoder", type=layer_list, metavar="LAYERS", help=f"{layers}0,1,10-11")
    parser.add_argument(
        "--context-mode",
        choices=MODES,
        default="resume",
        help="how the decoder reads the encoder's result: goes on from it, which keeps what the "
        "model could best; or as in a model trained as SCD from the start",
    )
    parser.add_argument(
        "--fed-level",
        type=level_or_none,
        metavar="S",
        default=0.8,
        help="the encoder is fed the frame to come at noise levels from S to 1; or none: it is not",
    )
    return parser


def run_convert_model(args: argparse.Namespace) -> None:
    """Run `convert-model`."""
    from scd_wm.convert_model import convert_model

    summary = convert_model(
        args.run,
        args.out,
        split=args.split,
        encoder=args.encoder,
        decoder=args.decoder,
        context_mode=args.context_mode,
        fed_level=args.fed_level,
    )
    show_table(f"converted {args.run} to {args.out}", plain_rows(summary))
