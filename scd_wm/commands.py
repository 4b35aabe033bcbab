"""The commands of `scd-wm`: their arguments, and the function of another module that each one calls.

Nothing heavy is imported here, so that help is there at once. To add a command: two functions, one that
declares arguments and one that runs, and a line in `COMMANDS`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PRESETS = ("state", "tiny", "small", "base", "paper")  # of scd_wm.model.presets, which needs torch
POLICIES = ("random", "scripted", "zero")  # of scd_wm.policies.registry, which needs gymnasium

Commands = Any  # argparse gives the type of `add_subparsers()` no public name


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows every default, but not that flags are off; for None the help text says what it means."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, []):
            return action.help
        return super()._get_help_string(action)


def _command(
    commands: Commands, name: str, summary: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, formatter_class=_Help
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
    parser.add_argument("path", metavar="PATH", type=Path, help="robomimic HDF5 file or LeRobot folder")
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

COMMANDS = (add_collect, add_inspect)
