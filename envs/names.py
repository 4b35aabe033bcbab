"""Names of observations in packages that know no groups, such as robomimic."""

from __future__ import annotations

from collections.abc import Iterable


def flat_name(name: str) -> str:
    """Return a name without the characters that torch's and robomimic's tables refuse."""
    return name.replace("/", "_").replace(".", "_")


def find_name(wanted: str, names: Iterable[str]) -> str | None:
    """Return which of some names is meant: that name, or the only one that is it when flat."""
    names = list(names)
    if wanted in names:
        return wanted
    alike = [name for name in names if flat_name(name) == wanted]
    return alike[0] if len(alike) == 1 else None
