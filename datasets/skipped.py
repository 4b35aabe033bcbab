"""Count what a reader does not use, so that each kind of thing is one line."""

from __future__ import annotations

from collections.abc import Sequence

MAX_SHOWN = 3  # places named in a line


class Skipped:
    """What is not used of a data set, by reason, in the order in which the reasons came up."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def add(self, reason: str, place: str = "") -> None:
        """Note one thing that is not used; `place`, if any, is counted under its reason."""
        places = self._places.setdefault(reason, [])
        if place:
            places.append(place)

    def lines(self) -> tuple[str, ...]:
        """Return one line a reason, with how often it came up and where first."""
        return tuple(
            f"{reason} ({len(places)}): {some(places)}" if places else reason
            for reason, places in self._places.items()
        )


def some(names: Sequence[object]) -> str:
    """Return the first few names as text, and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(map(str, names[:MAX_SHOWN])) + more
