"""The command line: `scd-wm COMMAND ...`, also `python -m scd_wm COMMAND ...`.

Every command is a function of another module, imported when the command runs, so that help is there
at once. A user's mistake ends in one line on standard error and exit status 2. argparse and not a
generator of parsers, because its errors can be made one line too.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

import scd_wm
from scd_wm import commands
from scd_wm.envs.headless import choose_renderer
from scd_wm.memory_setup import keep_freed_memory

# What the package raises for what a user can cause; anything else is a fault of ours and shows its
# traceback.
USER_ERRORS = (OSError, ValueError, KeyError, TypeError, FloatingPointError)

EXTRAS = {
    "diffusers": "latent",
    "huggingface_hub": "latent",
    "pyarrow": "lerobot",
    "robomimic": "robomimic",
    "six": "robomimic",
    "tensorboard": "tensorboard",
    "torchvision": "robomimic",
}  # optional package: the extra that installs it

STATUS_MISTAKE = 2
STATUS_INTERRUPTED = 130  # 128 + SIGINT, as shells do
STATUS_READER_GONE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        The exit status: 0; 2 for a user's mistake; 130 for Ctrl-C; 141 if
        whoever reads our output has closed it.

    Raises:
        SystemExit: If the command line itself is wrong (status 2) or asks for help.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    shows_traceback = "--debug" in arguments or os.environ.get("SCD_WM_DEBUG", "") not in ("", "0")
    args = parse(arguments)
    keep_freed_memory()
    choose_renderer()
    try:
        args.handler(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STATUS_READER_GONE
    except KeyboardInterrupt:
        return _fail(f"interrupted{_how_to_go_on(args, arguments)}", STATUS_INTERRUPTED)
    except ModuleNotFoundError as error:
        if shows_traceback or error.name not in EXTRAS:
            raise
        return _fail(f"error: {_what_to_install(error.name)}")
    except USER_ERRORS as error:
        if shows_traceback:
            raise
        return _fail(f"error: {one_line(error)}")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; exits with one line and status 2 where it is wrong."""
    parser = build_parser()
    args, rest = parser.parse_known_args(arguments)
    # argparse takes positional arguments in one run only, and overrides may come after options
    overrides = [text for text in rest if "=" in text and not text.startswith("-")]
    unknown = [text for text in rest if text not in overrides or not hasattr(args, "overrides")]
    if unknown:
        parser.error(f"unknown argument {unknown[0]!r}; see scd-wm {args.command} --help")
    if overrides:
        args.overrides = [*args.overrides, *overrides]
    return args


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(STATUS_MISTAKE, f"scd-wm: error: {' '.join(message.split())}\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="scd-wm",
        description="Train a world model on robot data, and see what it imagines.",
        epilog="scd-wm COMMAND --help shows a command's arguments and their defaults.",
    )
    parser.add_argument("--version", action="version", version=f"scd-wm {scd_wm.__version__}")
    added = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in commands.COMMANDS:
        command: argparse.ArgumentParser = add(added)
        command.add_argument(
            "--debug",
            action="store_true",
            help="show the traceback of an error (or SCD_WM_DEBUG=1)",
        )
    return parser


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror.lower()}"  # of the system, without its number
    elif isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])  # str(KeyError(x)) is repr(x)
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__


def _what_to_install(package: str | None) -> str:
    extra = EXTRAS[str(package)]
    return f"this needs {package}, which is not installed; pip install 'scd-wm[{extra}]'"


def _how_to_go_on(args: argparse.Namespace, arguments: list[str]) -> str:
    if args.command in ("convert", "study"):  # the same command goes on
        again = [argument for argument in arguments if argument != "--overwrite"]
        return f"; go on with: scd-wm {shlex.join(again)}"
    if args.command != "train" or not (args.out / "config.json").is_file():
        return ""
    again = arguments if args.resume else [*arguments, "--resume"]
    return f"; go on with: scd-wm {shlex.join(again)}"


def _fail(message: str, status: int = STATUS_MISTAKE) -> int:
    sys.stdout.flush()
    print(f"scd-wm: {message}", file=sys.stderr)
    return status
