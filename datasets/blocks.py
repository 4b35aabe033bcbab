"""Rows that come in consecutive blocks, so that only one block more than they is in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def joined(blocks: Iterable[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Fill `rows`, (T, ...), from blocks that have T rows together, and return it."""
    done = 0
    for block in blocks:
        rows[done : done + len(block)] = block
        done += len(block)
    return rows
