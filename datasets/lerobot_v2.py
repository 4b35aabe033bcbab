"""Read LeRobot data sets of version 2.0 and 2.1 without the lerobot package.

Axes: T steps of an episode, H height, W width.
An episode is one parquet file of T rows, each an observation and the action taken at it, and one
video a camera. The observation after the last action is not stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from scd_wm.datasets.lerobot_scan import OUTCOME_COLUMNS, scan
from scd_wm.datasets.lerobot_table import Table, check_pyarrow
from scd_wm.datasets.reader import ACTION
from scd_wm.datasets.video import decode


class LeRobotReader:
    """Random access to a LeRobot v2.x folder; needs the extra `lerobot`.

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
        self.info = self._scan.info

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`. Images are decoded from the first one on."""
        field = self.info.fields.get(key)
        if field is not None and field.kind == "image":
            images = list(islice(self.decode(episode, key), start, stop))
            return np.stack(images) if images else np.zeros((0, *field.shape), np.uint8)
        column = self._scan.action_column if key == ACTION else OUTCOME_COLUMNS.get(key, key)
        rows = self._table(episode).numbers(column)[start:stop]
        return rows[:, 0] if key in OUTCOME_COLUMNS else rows

    def image_source(self, episode: int, key: str) -> Path:
        """See `scd_wm.datasets.reader.VideoReader.image_source`."""
        if key not in self._scan.video_keys:
            return self._table(episode).path
        file = self._scan.files.video(self._scan.indices[episode], key)
        assert file is not None, f"episode {episode} lacks {key}, which its info says"
        return file

    def decode(self, episode: int, key: str) -> Iterator[np.ndarray]:
        """See `scd_wm.datasets.reader.VideoReader.decode`."""
        if key not in self._scan.video_keys:
            return self._table(episode).images(key, self.info.path)
        return decode(self.image_source(episode, key), self.info.episodes[episode].num_actions)

    def _table(self, episode: int) -> Table:
        return self._scan.tables[episode]
