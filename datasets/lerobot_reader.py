"""Read LeRobot data sets of versions 2 and 3 without the lerobot package.

Axes: T steps of an episode, H height, W width.
An episode is T rows of a parquet file, each an observation and the action taken at it, and for each
camera T images in a video or in the rows. The observation after the last action is not stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from scd_wm.datasets.lerobot_images import stored_images
from scd_wm.datasets.lerobot_scan import OUTCOME_COLUMNS, scan, start_time
from scd_wm.datasets.lerobot_table import RecentRows, check_pyarrow
from scd_wm.datasets.reader import ACTION, ImageSource
from scd_wm.datasets.video import decode


class LeRobotReader:
    """Random access to a LeRobot folder; needs the extra `lerobot`.

    What the files hold counts, not what the metadata declares. `next.done` is not offered as
    "terminated", since it is also set at the end of a recording.

    Args:
        path: The folder that has `meta/info.json`.

    Raises:
        ValueError: If pyarrow is not installed, the version is not supported, the metadata is
            damaged, or nothing is usable.
    """

    def __init__(self, path: Path) -> None:
        check_pyarrow()
        self._scan = scan(path)
        self._rows = RecentRows()
        self.info = self._scan.info

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`. Images are decoded from the first one on."""
        field = self.info.fields.get(key)
        if field is not None and field.kind == "image":
            images = list(islice(self.decode(episode, key), start, stop))
            return np.stack(images) if images else np.zeros((0, *field.shape), np.uint8)
        column = self._scan.action_column if key == ACTION else OUTCOME_COLUMNS.get(key, key)
        place = self._scan.episodes[episode]
        with self._naming(episode, key):
            first, last = place.start + start, min(place.start + stop, place.stop)
            rows = self._rows.read(place.table, column, first, last)
        return rows[:, 0] if key in OUTCOME_COLUMNS else rows

    def image_source(self, episode: int, key: str) -> ImageSource:
        """See `scd_wm.datasets.reader.VideoReader.image_source`."""
        place = self._scan.episodes[episode]
        if key not in self._scan.videos:
            return ImageSource(place.table.path, f"{key} from row {place.start}")
        part, header = place.videos[key], self._scan.videos[key][place.index]
        return ImageSource(part.path, f"from {start_time(place, part, header)} s")

    def decode(self, episode: int, key: str) -> Iterator[np.ndarray]:
        """See `scd_wm.datasets.reader.VideoReader.decode`."""
        info = self.info.episodes[episode]
        shape = info.image_shapes.get(key, self.info.fields[key].shape)
        with self._naming(episode, key):
            for number, image in enumerate(self._images(episode, key)):
                if image.shape != shape:
                    raise ValueError(
                        f"image {number} in {self.image_source(episode, key).path} has shape "
                        f"{image.shape}, expected {shape}"
                    )
                yield image

    def _images(self, episode: int, key: str) -> Iterator[np.ndarray]:
        place = self._scan.episodes[episode]
        if key not in self._scan.videos:
            return stored_images(place.table, key, place.start, place.stop, self.info.path)
        part, header = place.videos[key], self._scan.videos[key][place.index]
        return decode(part.path, place.num_rows, start_time(place, part, header))

    @contextmanager
    def _naming(self, episode: int, key: str) -> Iterator[None]:
        """Say in errors of which episode and key what is damaged was to be read."""
        info = self.info.episodes[episode]
        try:
            if key in info.missing:
                raise ValueError(f"{self.info.path} lacks it there")
            yield
        except ValueError as error:
            raise ValueError(f"{key} of {info.name}: {error}") from error
