"""Count what a reader does not use, so that each kind of thing is one line."""

from __future__ import annotations

from collections.abc import Sequence

MAX_SHOWN = 3  # places named in a line
MAX_LINES = 5  # lines on the same kind of thing


class Skipped:
    """What is not used of a data set, by kind, in the order in which the kinds came up.

    In a large data set with one fault every episode would say the same.
    """

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}  # reason: where
        self._lines: dict[str, list[str]] = {}  # kind: what each thing says for itself

    def add(self, reason: str, place: str = "") -> None:
        """Note one thing that is not used; `place`, if any, is counted under its reason."""
        places = self._places.setdefault(reason, [])
        if place:
            places.append(place)

    def note(self, kind: str, line: str) -> None:
        """Note one thing of a kind, such as "rows", in a line of its own."""
        self._lines.setdefault(kind, []).append(line)

    def lines(self) -> tuple[str, ...]:
        """Return one line a reason, with how often it came up and where first, and a few a kind."""
        counted = [
            f"{reason} ({len(places)}): {some(places)}" if places else reason
            for reason, places in self._places.items()
        ]
        for kind, lines in self._lines.items():
            counted += lines[:MAX_LINES]
            if len(lines) > MAX_LINES:
                counted.append(f"{kind}: {len(lines) - MAX_LINES} more like these")
        return tuple(counted)


def some(names: Sequence[object]) -> str:
    """Return the first few names as text, and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(map(str, names[:MAX_SHOWN])) + more
