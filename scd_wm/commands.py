"""The commands of `scd-wm`: their arguments, and the function elsewhere that each one calls.

Nothing heavy is imported here, so that help is there at once. To add a command: two functions, one
that declares arguments and one that runs, and a line in `COMMANDS`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PRESETS = ("state", "tiny", "small", "base", "paper")  # of scd_wm.model.presets, which needs torch
POLICIES = ("random", "scripted", "zero")  # of scd_wm.policies.registry, which needs gymnasium

Commands = Any  # argparse gives the type of `add_subparsers()` no public name


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows every default but that of flags, off; for None the help text says what it means."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, []):
            return action.help
        return super()._get_help_string(action)


def _command(
    commands: Commands, name: str, summary: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, formatter_class=_Help, allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def show_table(title: str, rows: Iterable[tuple[str, Any]]) -> None:
    """Print names and values under a title, one pair a line."""
    pairs = [(name, f"{x:.4g}" if isinstance(x, float) else str(x)) for name, x in rows]
    width = max((len(name) for name, _ in pairs), default=0)
    print(f"\n{title}")
    for name, text in pairs:
        print(f"  {name:<{width}}  {text}")


def plain_rows(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the entries of a summary that fit on a line: neither absent nor nested."""
    return [(k, v) for k, v in summary.items() if isinstance(v, str | int | float)]


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary as JSON, whole or not at all; what is not finite becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        text = json.dumps(finite(summary), indent=2, allow_nan=False)
        partial.write_text(f"{text}\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """Return a copy of JSON types in which NaN and infinity, which JSON has not, are None."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def add_collect(commands: Commands) -> argparse.ArgumentParser:
    """Declare `collect`."""
    what = "Record episodes of a policy in an environment; the summary goes beside the file."
    parser = _command(commands, "collect", what, run_collect)
    parser.add_argument("env", metavar="ENV", help="Gymnasium id, such as scd_wm/PushT-v0")
    parser.add_argument("--policy", choices=POLICIES, default="scripted", help="who acts")
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
    )
    write_summary(args.out.with_suffix(".summary.json"), summary)
    show_table(f"recorded {args.out}", plain_rows(summary))


def add_inspect(commands: Commands) -> argparse.ArgumentParser:
    """Declare `inspect`."""
    what = "Show what a data set holds."
    parser = _command(commands, "inspect", what, run_inspect)
    parser.add_argument(
        "path", metavar="PATH", type=Path, help="robomimic HDF5 file or LeRobot folder"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for summary.json; default: only print"
    )
    return parser


def run_inspect(args: argparse.Namespace) -> None:
    """Run `inspect`."""
    from scd_wm.datasets.summary import summarise, summary_lines

    summary = summarise(args.path)
    if args.out is not None:
        write_summary(args.out / "summary.json", summary)
    print("\n".join((str(args.path), *(f"  {line}" for line in summary_lines(summary)))))


def add_train(commands: Commands) -> argparse.ArgumentParser:
    """Declare `train`."""
    what = "Train a world model on a data set, without converting it."
    parser = _command(commands, "train", what, run_train)
    parser.add_argument(
        "data", metavar="DATA", type=Path, help="robomimic HDF5 file or LeRobot folder"
    )
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
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="size and recipe")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--steps", type=int, metavar="N", help="in all; default: the preset's")
    limit.add_argument(
        "--minutes", type=float, metavar="M", help="of training in all, over all resumes"
    )
    parser.add_argument("--resume", action="store_true", help="go on from RUN's newest checkpoint")
    parser.add_argument("--init", type=Path, metavar="RUN", help="run or model to start from")
    names = "separated by commas, or none; default: all that the preset or --init can use"
    parser.add_argument("--cameras", type=name_list, metavar="A,B", help=names)
    parser.add_argument("--vectors", type=name_list, metavar="A,B", help=names)
    parser.add_argument(
        "--image-size",
        type=image_size,
        metavar="S or HxW",
        help="pixels; default: the data's or less",
    )
    parser.add_argument(
        "--frame-skip",
        type=int,
        metavar="N",
        default=1,
        help="steps of the data in one of the model",
    )
    parser.add_argument(
        "--held-out", type=float, metavar="X", default=0.1, help="share of episodes not trained on"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="default: the preset's")
    parser.add_argument("--tensorboard", action="store_true", help="also write TensorBoard events")
    parser.add_argument("--dry-run", action="store_true", help="show settings and sizes, and stop")
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
        cameras=args.cameras,
        vectors=args.vectors,
        image_size=args.image_size,
        frame_skip=args.frame_skip,
        tensorboard=args.tensorboard,
        dry_run=args.dry_run,
        seed=args.seed,
        held_out=args.held_out,
    )
    if args.dry_run:
        return
    if os.environ.get("RANK", "0") == "0":  # one of the processes of a launcher
        show_table(f"trained {args.out}", plain_rows(summary))
    if not summary["finished"]:
        raise KeyboardInterrupt


def name_list(text: str) -> tuple[str, ...]:
    """Return the names of a list separated by commas; "none" is an empty one."""
    return () if text == "none" else tuple(name.strip() for name in text.split(","))


def image_size(text: str) -> int | tuple[int, int]:
    """Return a side, or height and width as in 48x64."""
    sides = [int(side) if side.isdecimal() else 0 for side in text.split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"must be pixels such as 64 or 48x64, got {text!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


COMMANDS = (add_collect, add_inspect, add_train)
