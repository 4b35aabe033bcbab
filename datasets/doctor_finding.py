"""What a check of a data set says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")  # worst first
MAX_NAMES = 4  # that a sentence lists


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found in a data set, and what to do about it."""

    code: str  # of its kind, such as "nan"
    severity: Severity  # error: training fails or learns nonsense; warning: it suffers
    what: str  # one sentence on what was found
    advice: str  # one sentence on what to do
    episodes: tuple[str, ...] = ()  # names, where it is about some
    keys: tuple[str, ...] = ()  # cameras, vectors, "action", where it is about some
    numbers: Mapping[str, Any] = field(default_factory=dict)  # what it rests on, in JSON types

    def to_json(self) -> dict[str, Any]:
        """Return all of it in JSON types."""
        return asdict(self) | {"numbers": dict(self.numbers)}


def listed(names: Sequence[object], most: int = MAX_NAMES) -> str:
    """Return names in words, the first few of many."""
    shown = ", ".join(str(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def dims(key: str, indices: Sequence[int], most: int = 8) -> str:
    """Return values of a vector by their indices, such as action[0, 2]."""
    shown = ", ".join(str(i) for i in indices[:most])
    return f"{key}[{shown}{', ...' if len(indices) > most else ''}]"
