"""Keep what was read of a data set in memory.

Axes: T steps of an episode after frame skip, K = T or T + 1 stored frames, D values of a vector,
A values of an action, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

IMAGE_BYTES = 2**30  # images are kept if those of all episodes together are no more than this

Value = TypeVar("Value")


@dataclass(frozen=True)
class EpisodeArrays:
    """All of an episode but its images, after frame skip."""

    vectors: dict[str, np.ndarray]  # name: (K, D) float32
    actions: np.ndarray  # (T, A) float32
    outcome: dict[str, np.ndarray]  # name: (T,) float32, of step t


class Memory:
    """What was read of each episode, by its index in the source. A pickled copy is empty.

    Args:
        keep_images: Whether images are worth keeping: all of them fit.
    """

    def __init__(self, keep_images: bool) -> None:
        self.keep_images = keep_images
        self._arrays: dict[int, EpisodeArrays] = {}
        self._images: dict[tuple[int, str], np.ndarray] = {}

    def arrays(self, episode: int, read: Callable[[], EpisodeArrays]) -> EpisodeArrays:
        """Return an episode's arrays, calling `read` the first time."""
        return _kept(self._arrays, episode, read)

    def images(self, episode: int, camera: str, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return all images of an episode's camera, (K, H, W, 3), calling `read` the first time."""
        return _kept(self._images, (episode, camera), read)

    def __getstate__(self) -> dict[str, Any]:
        return {"keep_images": self.keep_images, "_arrays": {}, "_images": {}}


def _kept(store: dict[Any, Value], key: Any, read: Callable[[], Value]) -> Value:
    if key not in store:
        store[key] = read()
    return store[key]
