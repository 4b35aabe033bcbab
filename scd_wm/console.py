"""What the commands of `scd-wm` share: values on the command line, tables and summaries."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

N = TypeVar("N", int, float)


def name_list(text: str) -> tuple[str, ...]:
    """Return the names of a list separated by commas; "none" is an empty one."""
    return () if text == "none" else tuple(name.strip() for name in text.split(","))


def number_list(text: str) -> tuple[int, ...]:
    """Return the whole numbers of a list separated by commas."""
    return _split(text, int)


def float_list(text: str) -> tuple[float, ...]:
    """Return the numbers of a list separated by commas."""
    return _split(text, float)


def _split(text: str, kind: Callable[[str], N]) -> tuple[N, ...]:
    try:
        return tuple(kind(number) for number in text.split(","))
    except ValueError:
        message = f"must be numbers separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def layer_split(text: str) -> tuple[int, int]:
    """Return encoder and decoder layers from a text such as 10+2."""
    parts = [int(part) if part.isdecimal() else 0 for part in text.split("+")]
    if len(parts) != 2 or min(parts) < 1:
        message = f"must be encoder and decoder layers such as 10+2, got {text!r}"
        raise argparse.ArgumentTypeError(message)
    return parts[0], parts[1]


def layer_list(text: str) -> tuple[int, ...]:
    """Return layers from a list such as 0-5,7; "none" is an empty one."""
    layers: list[int] = []
    for part in () if text == "none" else text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdecimal() for end in ends):
            message = f"must be layers counted from 0 such as 0-5,7, got {text!r}"
            raise argparse.ArgumentTypeError(message)
        layers += range(int(ends[0]), int(ends[-1]) + 1)
    return tuple(layers)


def level_or_none(text: str) -> float | None:
    """Return a noise level from 0 to 1, or None for "none"."""
    with contextlib.suppress(ValueError):
        if text == "none" or 0 <= float(text) <= 1:
            return None if text == "none" else float(text)
    raise argparse.ArgumentTypeError(f"must be a noise level from 0 to 1 or none, got {text!r}")


def image_size(text: str) -> int | tuple[int, int]:
    """Return a side, or height and width as in 48x64."""
    sides = [int(side) if side.isdecimal() else 0 for side in text.split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"must be pixels such as 64 or 48x64, got {text!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def gibibytes(text: str) -> int:
    """Return bytes from GiB, 0 or more."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < float("inf"):  # false for NaN too
            return int(float(text) * 2**30)
    raise argparse.ArgumentTypeError(f"must be GiB, 0 or more, got {text!r}")


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
    from scd_wm.training import files  # needs torch, which help does without

    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, summary)
