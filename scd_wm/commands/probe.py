"""The command `probe`."""

from __future__ import annotations

import argparse

from scd_wm.commands.base import Commands, add_data_and_out, command


def add_probe(commands: Commands) -> argparse.ArgumentParser:
    """Declare `probe`."""
    what = "Look into a causal diffuser (arch=entangled): which layers could run once per frame?"
    parser = command(commands, "probe", what, run_probe)
    parser.add_argument(
        "run",
        metavar="RUN",
        help="run folder or exported model of arch=entangled; or module:function, which returns a "
        "model of your own: see scd_wm/probe/protocol.py",
    )
    add_data_and_out(parser)
    parser.add_argument("--clips", type=int, metavar="N", default=16, help="5 or more")
    parser.add_argument(
        "--frames", type=int, metavar="N", default=4, help="of a clip that are denoised"
    )
    parser.add_argument(
        "--num-steps", type=int, metavar="N", default=8, help="of the sampler that is looked at"
    )
    parser.add_argument(
        "--levels",
        type=_levels,
        metavar="S,S",
        default="1,0.75,0.5,0.25,0.1",
        help="noise levels at which the loss is measured",
    )
    parser.add_argument(
        "--middle",
        type=_layers,
        metavar="A:B",
        help="layers that run at the first step only, together; default: the middle half",
    )
    parser.add_argument(
        "--plateau",
        type=float,
        metavar="X",
        default=0.95,
        help="centred cosine between steps from which features count as the same",
    )
    parser.add_argument(
        "--near-zero",
        type=float,
        metavar="X",
        default=0.1,
        help="part of the uniform share below which attention on the past counts as none",
    )
    parser.add_argument(
        "--matters",
        type=float,
        metavar="X",
        default=0.05,
        help="relative rise of the sample error from which a layer must run at every step",
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of clips and noise")
    return parser


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError:
        message = f"must be numbers separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _layers(text: str) -> tuple[int, int]:
    parts = text.split(":")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"must be two layers such as 2:5, got {text!r}")
    return int(parts[0]), int(parts[1])


def run_probe(args: argparse.Namespace) -> None:
    """Run `probe`."""
    from scd_wm.probe.config import ProbeConfig
    from scd_wm.probe.run import probe_run

    config = ProbeConfig(
        clips=args.clips,
        frames=args.frames,
        num_steps=args.num_steps,
        levels=args.levels,
        middle=args.middle,
        plateau=args.plateau,
        near_zero=args.near_zero,
        matters=args.matters,
        seed=args.seed,
    )
    probe_run(args.run, args.data, args.out, config=config)
