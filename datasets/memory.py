"""Keep what was read of a data set in memory, up to a limit.

Clips are drawn at random, so what was read longest ago is as likely to be wanted as anything else:
what came first is kept, nothing is thrown out, and once the limit is reached the rest is read from
disk, clip by clip. That has the hit rate of any other choice and never reads an episode for one
clip only to drop it.

Axes: T steps of an episode after frame skip, K = T or T + 1 stored frames, D values of a vector,
A values of an action.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

MEMORY_BYTES = 2**31  # default limit of a data set, over images and numbers

Value = TypeVar("Value")


@dataclass(frozen=True)
class EpisodeArrays:
    """All of an episode but its images, after frame skip."""

    vectors: dict[str, np.ndarray]  # name: (K, D) float32
    actions: np.ndarray  # (T, A) float32
    outcome: dict[str, np.ndarray]  # name: (T,) float32, of step t


class Memory(Generic[Value]):
    """Values by key, of no more than `limit` bytes together. A pickled copy is empty.

    Args:
        limit: In bytes.

    Raises:
        ValueError: If `limit` is below 0.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"what is kept in memory must be 0 bytes or more, got {limit}")
        self.limit, self.used = limit, 0
        self._kept: dict[Hashable, Value] = {}
        self._lock = threading.Lock()  # of the two above; nothing is read while it is held

    def get(self, key: Hashable, size: int, read: Callable[[], Value]) -> Value | None:
        """Return a value, reading and keeping it the first time; None if there is no room for it.

        Room is taken before a value is read, so that threads together keep to the limit. Those
        that ask for the same value at the same time may each read it; one is kept.

        Args:
            key: Which value.
            size: Its bytes.
            read: Called if the value is not kept yet and there is room.
        """
        with self._lock:
            if key in self._kept:
                return self._kept[key]
            if self.used + size > self.limit:
                return None
            self.used += size
        is_kept = False
        try:
            value = read()
            with self._lock:
                is_kept = self._kept.setdefault(key, value) is value
                return self._kept[key]
        finally:
            if not is_kept:
                with self._lock:
                    self.used -= size

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit,)
