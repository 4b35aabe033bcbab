"""Find the episodes of LeRobot v2.x folders: one parquet file each, and one video a camera.

Templates in `meta/info.json` point nowhere in some data sets; files are then found by their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scd_wm.datasets.lerobot_episodes import (
    Episode,
    VideoPart,
    check_length,
    fill_template,
    first_frame,
)
from scd_wm.datasets.lerobot_table import RecentRows, Table
from scd_wm.datasets.limits import check_episodes
from scd_wm.datasets.skipped import Skipped, some

DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
CHUNK = 1000  # episodes in a folder where `chunks_size` does not say


def find_episodes(
    path: Path, info: Mapping[str, Any], cameras: Sequence[str], skipped: Skipped
) -> list[Episode]:
    """Return the episodes that have rows, in order.

    Args:
        path: The data set's folder.
        info: The content of `meta/info.json`.
        cameras: Features whose images are in videos.
        skipped: Takes what cannot be used.

    Raises:
        ValueError: If `meta/episodes.jsonl` is damaged.
    """
    lengths = _declared_lengths(path)
    files = _Files(path, info)
    check_episodes(str(path), len(files.episodes))
    absent = sorted(set(lengths) - set(files.episodes))
    if absent:
        skipped.note(
            "files", f"{len(absent)} declared episodes without a data file: {some(absent)}"
        )
    found = []
    for index in files.episodes:
        try:
            table = Table.open(files.data(index))
            if table.num_rows == 0:
                raise ValueError(f"{table.path} has 0 rows")
            first = _first_frame(table)
        except ValueError as error:
            skipped.note("episodes", f"episode {index}: {error}")
            continue
        check_length(index, table.num_rows, lengths, skipped)
        videos = {camera: file for camera in cameras if (file := files.video(index, camera))}
        parts = {camera: VideoPart(file) for camera, file in videos.items()}
        found.append(Episode(index, table, 0, table.num_rows, first, parts))
    return found


def _first_frame(table: Table) -> int:
    if table.width("frame_index") != 1:
        return 0
    rows = RecentRows().read(table, "frame_index", 0, table.num_rows)
    try:
        return first_frame(rows[:, 0])
    except ValueError as error:
        raise ValueError(f"{table.path}: {error}") from error


def _declared_lengths(path: Path) -> dict[int, int]:
    """Return the steps of each episode that `meta/episodes.jsonl` lists; empty without that file.

    Raises:
        ValueError: If a line is damaged; names it.
    """
    file = path / "meta" / "episodes.jsonl"
    lengths: dict[int, int] = {}
    if not file.is_file():
        return lengths
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                episode = json.loads(line)
                lengths[int(episode["episode_index"])] = int(episode["length"])
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                raise ValueError(
                    f"{file} line {number} is damaged ({error}): {line[:60]!r}; repair or remove "
                    "the file, episodes are then found by their names"
                ) from error
            check_episodes(str(file), len(lengths))
    return lengths


class _Files:
    """Where the files of each episode are."""

    def __init__(self, path: Path, info: Mapping[str, Any]) -> None:
        self._path = path
        size = info.get("chunks_size")
        self._chunk = size if isinstance(size, int) and size > 0 else CHUNK
        self._data_template = str(info.get("data_path") or DATA_PATH)
        self._video_template = str(info.get("video_path") or VIDEO_PATH)
        data = _by_episode(path / "data", ".parquet")
        self._data = {episode: file for (_, episode), file in data.items()}
        self._videos = _by_episode(path / "videos", ".mp4")
        self.episodes = sorted(self._data)  # that have a data file

    def data(self, episode: int) -> Path:
        """Return the parquet file of one of `episodes`."""
        return self._fill(self._data_template, episode) or self._data[episode]

    def video(self, episode: int, camera: str) -> Path | None:
        """Return the video of an episode's camera."""
        templated = self._fill(self._video_template, episode, camera)
        return templated or self._videos.get((camera, episode))

    def _fill(self, template: str, episode: int, camera: str = "") -> Path | None:
        """Return the file that a template points to, if it exists."""
        names = {
            "episode_chunk": episode // self._chunk,
            "episode_index": episode,
            "video_key": camera,
        }
        return fill_template(self._path, template, names) if "{episode_index" in template else None


def _by_episode(folder: Path, suffix: str) -> dict[tuple[str, int], Path]:
    """Return the files below `folder` by the name of the folder they are in and their episode."""
    found = {}
    for file in sorted(folder.rglob(f"*{suffix}")):
        number = re.fullmatch(r"episode_(\d{1,9})", file.stem)
        if number:
            found[(file.parent.name, int(number.group(1)))] = file
    return found
