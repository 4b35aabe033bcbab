"""The progress bar of everything that takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

WATCHED_S, LOGGED_S = 0.5, 60  # between two states of a bar on a terminal, and in a log


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """Return a bar of tqdm on stderr, which in a log is a line a minute and not ten a second.

    Args:
        items: What to go through; None for a bar that is moved by `update`.
        options: Of tqdm. Texts must be set with `refresh=False`, or each is a line of its own.
    """
    every_s = WATCHED_S if sys.stderr.isatty() else LOGGED_S
    return tqdm(items, mininterval=every_s, maxinterval=every_s, **options)
