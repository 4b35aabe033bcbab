"""The commands about data sets: `collect` and `inspect`."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any

from scd_wm.commands.base import Commands, command
from scd_wm.console import plain_rows, show_table, write_summary


def add_collect(commands: Commands) -> argparse.ArgumentParser:
    """Declare `collect`."""
    what = "Record episodes of a policy in an environment; the summary goes beside the file."
    parser = command(commands, "collect", what, run_collect)
    parser.add_argument("env", metavar="ENV", help="Gymnasium id, such as scd_wm/PushT-v0")
    parser.add_argument(
        "env_kwargs",
        metavar="key=value",
        nargs="*",
        type=_env_argument,
        default=[],
        help="arguments of the environment, such as disturbance=0.01 of PushT",
    )
    parser.add_argument(
        "--policy",
        default="scripted",
        help="who acts: expert, scripted, random, zero, checkpoint (.pth) or module:function",
    )
    parser.add_argument("--episodes", type=int, metavar="N", default=100, help="how many")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", required=True, help="robomimic HDF5 file to write"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the first episode")
    parser.add_argument("--noise", type=float, metavar="X", help="of the policy; default: its own")
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help="of an episode; default: the environment's limit"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace PATH if it is there")
    return parser


def run_collect(args: argparse.Namespace) -> None:
    """Run `collect`."""
    from scd_wm.collect import collect

    summary = collect(
        args.env,
        args.policy,
        args.episodes,
        args.out,
        seed=args.seed,
        noise=args.noise,
        max_steps=args.max_steps,
        overwrite=args.overwrite,
        env_kwargs=dict(args.env_kwargs),
    )
    write_summary(args.out.with_suffix(".summary.json"), summary)
    show_table(f"recorded {args.out}", plain_rows(summary))


def _env_argument(text: str) -> tuple[str, Any]:
    """Return name and value; a value that is no number, list or the like is a text."""
    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals:
        raise argparse.ArgumentTypeError(f"say key=value, such as disturbance=0.01, not {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, {"true": True, "false": False}.get(value, value)


def add_inspect(commands: Commands) -> argparse.ArgumentParser:
    """Declare `inspect`."""
    what = "Show what a data set holds, what is wrong with it, and what to do about that."
    parser = command(commands, "inspect", what, run_inspect)
    parser.add_argument("path", metavar="PATH", type=Path, help="data set of any known format")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for summary.json and report.html; default: only print",
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        default=12,
        help="episodes of each camera whose images are looked at",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        default=45.0,
        help="after which no further images are read",
    )
    parser.add_argument(
        "--strict", action="store_true", help="end with status 1 if there is any warning"
    )
    return parser


def run_inspect(args: argparse.Namespace) -> None:
    """Run `inspect`.

    Raises:
        SystemExit: With status 1, if `--strict` is given and not all is well.
    """
    from scd_wm.inspect_run import inspect_run

    diagnosis = inspect_run(args.path, args.out, images=args.images, image_s=args.seconds)
    if args.strict and not diagnosis.is_healthy:
        raise SystemExit(1)
