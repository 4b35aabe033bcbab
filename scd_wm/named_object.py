"""Code of the user's own that a command line names as module:name, such as a policy or a goal."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def search_here() -> None:
    """Let modules of the folder that the command is called in be imported.

    Python does so of itself for `python -m`, but a console script has its own folder in that place.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")


def load_named(text: str, what: str) -> Any:
    """Return what a text names; modules of the folder that the command is called in are found too.

    Args:
        text: "module:name".
        what: What it is to be, for the message, such as "policy".

    Raises:
        ValueError: If there is no such module, or nothing of that name in it.
    """
    module, _, name = text.partition(":")
    search_here()
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{what} {text!r}: {error}") from None
