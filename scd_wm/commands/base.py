"""How a command is declared; see `scd_wm.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Commands = Any  # argparse gives the type of `add_subparsers()` no public name


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows every default but that of flags, off; for None the help text says what it means."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == []:
            return action.help
        return super()._get_help_string(action)


def command(
    commands: Commands, name: str, summary: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    """Declare a command: its name, a sentence on it, and the function that runs it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, formatter_class=Help, allow_abbrev=False
    )
    parser.set_defaults(handler=run)
    return parser


def add_data_and_out(parser: argparse.ArgumentParser) -> None:
    """Declare DATA and `--out` of a command that looks at what a run has not seen."""
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        nargs="?",
        help="data set; default: that of training, of which only held-out episodes are used",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="folder to write; replaced if there"
    )
