"""The command `study`."""

from __future__ import annotations

import argparse
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.commands.data_options import add_data_options, data_options
from scd_wm.console import name_list, number_list

ARMS = (  # of scd_wm.study.config, which needs torch
    *("prefix", "token_concat", "entangled", "entangled_one_copy"),
    *("deeper_encoder", "deeper_decoder", "no_interface_noise", "more_interface_noise"),
    *("four_draws", "no_own_history", "change_noise", "history_noise", "no_residual", "velocity"),
)
WORLDS = ("push_t_state", "push_t_state_chance", "push_t", "lift")


def add_study(commands: Commands) -> argparse.ArgumentParser:
    """Declare `study`."""
    what = "Train SCD and the entangled baseline for equal compute and compare quality and speed."
    parser = command(commands, "study", what, run_study)
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="settings of every run"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="a stopped study goes on there"
    )
    parser.add_argument(
        "--worlds", type=name_list, metavar="NAMES", default="push_t,lift", help=_some(WORLDS)
    )
    parser.add_argument(
        "--arms",
        type=name_list,
        metavar="NAMES",
        default="prefix,token_concat,entangled",
        help=_some(ARMS),
    )
    parser.add_argument("--seeds", type=number_list, metavar="N,N", default="0,1", help="of runs")
    parser.add_argument(
        "--scale", type=float, metavar="X", default=1.0, help="of the training steps of every run"
    )
    parser.add_argument(
        "--data-scale", type=float, metavar="X", default=1.0, help="of the episodes recorded"
    )
    parser.add_argument(
        "--sampler-steps", type=number_list, metavar="N,N", default="1,4", help="of a frame"
    )
    parser.add_argument(
        "--horizons",
        type=number_list,
        metavar="N,N",
        default="1,4,8,16",
        help="imagined frames at which to measure; the table has the last",
    )
    parser.add_argument("--clips", type=int, metavar="N", default=64, help="clips to imagine")
    parser.add_argument(
        "--futures",
        type=int,
        metavar="N",
        default=1,
        help="of each clip; 2 or more also give energy scores, for worlds of chance",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", default=1, help="runs at a time, each a process"
    )
    parser.add_argument(
        "--data",
        type=_named_path,
        metavar="NAME=DATA",
        action="append",
        default=[],
        help="a data set of yours as another world, a quarter of its episodes kept to test on; "
        "may be repeated",
    )
    add_data_options(parser)
    return parser


def run_study(args: argparse.Namespace) -> None:
    """Run `study`."""
    from scd_wm.study.config import StudyConfig
    from scd_wm.study.study import study

    data = dict(args.data)
    config = StudyConfig(
        worlds=(*args.worlds, *(name for name in data if name not in args.worlds)),
        data=data,
        options=data_options(args),
        arms=args.arms,
        seeds=args.seeds,
        scale=args.scale,
        data_scale=args.data_scale,
        sampler_steps=args.sampler_steps,
        horizons=args.horizons,
        num_clips=args.clips,
        num_futures=args.futures,
        overrides=tuple(args.overrides),
    )
    found = study(args.out, config, args.workers)
    print(f"\nwrote {found['table']}")


def _named_path(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name.isidentifier() or not path:
        raise argparse.ArgumentTypeError(f"say NAME=DATA, such as arm=data/arm.hdf5, not {text!r}")
    return name, Path(path)


def _some(names: tuple[str, ...]) -> str:
    return f"some of {','.join(names)}"
