"""Episodes as clips see them: keys chosen, images cut out and resized, frames skipped.

Axes: T steps of an episode after frame skip, H height, W width.
"""

from __future__ import annotations

import math

import numpy as np

from scd_wm.datasets.blocks import joined
from scd_wm.datasets.frame_skip import skip_actions, skip_episode, skip_outcome
from scd_wm.datasets.image_cache import ImageCache
from scd_wm.datasets.memory import EpisodeArrays
from scd_wm.datasets.reader import ACTION, EpisodeInfo, Reader
from scd_wm.datasets.selection import Selection

READ_BYTES = 2**26  # of images at their full size, in memory at a time


class SelectedReader:
    """What a selection leaves of a source. Arrays hold no more memory than their own values.

    Args:
        reader: The source.
        selection: What is used of it.
        cache: Of the images that are decoded from video.
    """

    def __init__(self, reader: Reader, selection: Selection, cache: ImageCache | None) -> None:
        self._reader, self._selection, self._cache = reader, selection, cache
        self._skip = selection.options.frame_skip

    @property
    def action_dim(self) -> int:
        """Values of an action."""
        stacked = self._selection.options.action_mode == "stack"
        return self._reader.info.action_dim * (self._skip if stacked else 1)

    def episode(self, index: int) -> EpisodeInfo:
        """Return what is left of an episode of the source."""
        return skip_episode(self._reader.info.episodes[index], self._skip)

    def num_bytes(self, index: int) -> int:
        """Return the bytes of what `arrays` returns."""
        info, episode = self._reader.info, self.episode(index)
        widths = sum(info.fields[name].shape[0] for name in self._selection.vectors)
        width = self.action_dim + len(info.outcomes)
        return 4 * (episode.num_observations * widths + episode.num_actions * width)

    def images(self, index: int, camera: str, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop - 1` of a camera, (stop - start, H, W, 3) uint8."""
        view = self._selection.views[camera]
        images = np.empty((max(stop - start, 0), *view.size, 3), np.uint8)
        length = max(1, READ_BYTES // (self._skip * self._stored_bytes(index, camera)))
        parts = (
            self._part(index, camera, first, min(first + length, stop))
            for first in range(start, stop, length)
        )
        return joined(parts, images)

    def _part(self, index: int, camera: str, first: int, last: int) -> np.ndarray:
        """Return images that are together in memory at their full size."""
        view, rows = (
            self._selection.views[camera],
            (first * self._skip, (last - 1) * self._skip + 1),
        )
        if self._cache and self._cache.covers(index, camera):
            return self._cache.read(index, camera, view, *rows)[:: self._skip]
        return view.apply(self._reader.read(index, camera, *rows)[:: self._skip])

    def _stored_bytes(self, index: int, camera: str) -> int:
        info = self._reader.info
        return math.prod(info.episodes[index].image_shapes.get(camera, info.fields[camera].shape))

    def arrays(self, index: int) -> EpisodeArrays:
        """Return all of an episode but its images.

        Raises:
            ValueError: If a number is NaN or infinite; names where.
        """
        info, source, skip = self._reader.info, self._reader.info.episodes[index], self._skip
        kept, mode = self.episode(index).num_observations, self._selection.options.action_mode
        vectors = {
            name: self._numbers(index, name, source.num_observations)
            for name in self._selection.vectors
        }
        outcome = {name: self._numbers(index, name, source.num_actions) for name in info.outcomes}
        actions = self._numbers(index, ACTION, source.num_actions)
        return EpisodeArrays(
            vectors={n: rows[::skip][:kept].copy() for n, rows in vectors.items()},
            actions=skip_actions(actions, skip, mode),
            outcome={name: skip_outcome(name, rows, skip) for name, rows in outcome.items()},
        )

    def _numbers(self, index: int, key: str, num_rows: int) -> np.ndarray:
        """Read rows of numbers as float32 and check that they are finite."""
        rows = self._reader.read(index, key, 0, num_rows).astype(np.float32)
        bad = ~np.isfinite(rows).reshape(num_rows, -1).all(axis=1)
        if bad.any():
            row, info = int(bad.argmax()), self._reader.info
            raise ValueError(
                f"{key} of {info.episodes[index].name} in {info.path} is not finite at row {row}: "
                f"{rows[row].tolist()}; {int(bad.sum())} of {num_rows} rows are so; repair the "
                "data or leave the episode out"
            )
        return rows
