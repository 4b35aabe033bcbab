"""The command `study`."""

from __future__ import annotations

import argparse
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.console import name_list, number_list

ARMS = ("prefix", "token_concat", "entangled", "entangled_one_copy")  # of scd_wm.study.config
WORLDS = ("push_t_state", "push_t", "lift")


def add_study(commands: Commands) -> argparse.ArgumentParser:
    """Declare `study`."""
    what = "Train SCD and its entangled rival for equal compute and compare quality and speed."
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
    parser.add_argument("--horizon", type=int, metavar="N", default=16, help="imagined frames")
    parser.add_argument("--clips", type=int, metavar="N", default=64, help="clips to imagine")
    return parser


def run_study(args: argparse.Namespace) -> None:
    """Run `study`."""
    from scd_wm.study.config import StudyConfig
    from scd_wm.study.study import study

    config = StudyConfig(
        worlds=args.worlds,
        arms=args.arms,
        seeds=args.seeds,
        scale=args.scale,
        data_scale=args.data_scale,
        sampler_steps=args.sampler_steps,
        horizon=args.horizon,
        num_clips=args.clips,
        overrides=tuple(args.overrides),
    )
    found = study(args.out, config)
    print(f"\nwrote {found['table']}")


def _some(names: tuple[str, ...]) -> str:
    return f"some of {','.join(names)}"
