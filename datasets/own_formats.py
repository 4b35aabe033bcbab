"""Formats that installed packages add, each one class named by an entry point.

A package adds a format with a class like those of this package and two lines in pyproject.toml:

    [project.entry-points."scd_wm.formats"]
    my_format = "my_package:MyReader"

`MyReader.recognise(path)`, a static method, says whether a path is of the format; `MyReader(path)`
opens it and is a `scd_wm.datasets.reader.Reader`. `scd_wm.testing.check_reader` tries one out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from scd_wm.datasets.reader import Reader, SourceInfo

GROUP = "scd_wm.formats"


@dataclass(frozen=True)
class OwnFormats:
    """The classes that installed packages add, and what is wrong with those that cannot be used."""

    found: dict[str, Any]  # what it is, for messages: the class
    broken: tuple[str, ...]

    def open(self, path: Path) -> Reader | None:
        """Open a path with the first class that recognises it; None where none does.

        Raises:
            ValueError: If a class fails at it; names the entry point.
        """
        for what, made in self.found.items():
            try:
                recognised = made.recognise(path)
            except Exception as error:  # a package's own mistake, of any kind
                raise ValueError(f"{what} failed to recognise {path}: {error!r}") from error
            if recognised:
                return check_opened(what, made, path)
        return None

    @property
    def note(self) -> str:
        """What to add to a message if a format that cannot be used may have been meant."""
        return f"; besides, {'; '.join(self.broken)}" if self.broken else ""


def own_formats() -> OwnFormats:
    """Load the entry points of the group."""
    found: dict[str, Any] = {}
    broken = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        what = _what(entry)
        try:
            made = entry.load()
        except Exception as error:  # importing a package can raise anything
            broken.append(f"{what} cannot be loaded: {error!r}")
            continue
        if callable(made) and callable(getattr(made, "recognise", None)):
            found[what] = made
        else:
            broken.append(
                f"{what} must be a class with a static method recognise(path), is {made!r}"
            )
    return OwnFormats(found, tuple(broken))


def check_opened(what: str, made: Callable[[Path], Any], path: Path) -> Reader:
    """Open a path with a class of somebody else's.

    Args:
        what: What the class is, for the message.
        made: The class.
        path: What to open.

    Raises:
        ValueError: If what it makes is no reader.
    """
    reader = made(path)
    if not isinstance(getattr(reader, "info", None), SourceInfo) or not callable(
        getattr(reader, "read", None)
    ):
        raise ValueError(
            f"{what} made no reader of {path} but {reader!r}; a reader has `info`, a SourceInfo, "
            "and the method `read`: see scd_wm.datasets.reader"
        )
    return reader


def _what(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "an unknown package"
    return f"format {entry.name!r} ({entry.value}) of {package}"
