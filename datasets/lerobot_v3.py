"""Find the episodes of LeRobot v3.x folders: many share a parquet file, and many share a video.

Rows are found by what the data files say in `episode_index`, so that wrong offsets in
`meta/episodes` do not matter. Only that folder says where in a video an episode begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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

VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def find_episodes(
    path: Path, info: Mapping[str, Any], cameras: Sequence[str], skipped: Skipped
) -> list[Episode]:
    """Return the episodes that have rows, in order; see `scd_wm.datasets.lerobot_v2.find_episodes`.

    Raises:
        ValueError: If there are more episodes than anybody records.
    """
    templates = (str(info.get("video_path") or VIDEO_PATH), VIDEO_PATH)
    described = _described(path, cameras, templates, skipped)
    lengths = {index: entry.length for index, entry in described.items()}
    runs: dict[int, list[_Run]] = {}
    for run in _runs(path, skipped):
        runs.setdefault(run.index, []).append(run)
        check_episodes(str(path / "data"), len(runs))
    absent = sorted(set(lengths) - set(runs))
    if absent:
        skipped.note("rows", f"{len(absent)} declared episodes without rows: {some(absent)}")
    found = []
    for index, places in sorted(runs.items()):
        first, *others = places
        if others or isinstance(first.first_frame, str):
            why = first.first_frame if not others else f"rows in {len(places)} places"
            skipped.note("episodes", f"episode {index} in {first.table.path}: {why}")
            continue
        check_length(index, first.stop - first.start, lengths, skipped)
        videos = described[index].videos if index in described else {}
        found.append(
            Episode(index, first.table, first.start, first.stop, first.first_frame, videos)
        )
    return found


@dataclass(frozen=True)
class _Run:
    """Consecutive rows of one episode."""

    index: int
    table: Table
    start: int
    stop: int
    first_frame: int | str  # or why the rows cannot be used


def _runs(path: Path, skipped: Skipped) -> Iterator[_Run]:
    """Yield the runs of rows in all data files."""
    for file in sorted((path / "data").rglob("*.parquet")):
        try:
            table = Table.open(file)
            if table.width("episode_index") != 1:
                raise ValueError(f"{file} has no column episode_index to tell episodes apart")
            episode_index = _column(table, "episode_index")
            frame_index = _column(table, "frame_index")
        except ValueError as error:
            skipped.note("data", str(error))
            continue
        bounds = (np.flatnonzero(np.diff(episode_index)) + 1).tolist()
        for start, stop in itertools.pairwise([0, *bounds, table.num_rows]):
            frames = frame_index[start:stop] if len(frame_index) else np.arange(stop - start)
            if start < stop:
                yield _Run(int(episode_index[start]), table, start, stop, _first_or_why(frames))


def _column(table: Table, name: str) -> np.ndarray:
    """Return a column of one integer a row, (T,); empty where it is absent.

    Raises:
        ValueError: If it is damaged or not whole numbers.
    """
    if table.width(name) != 1:
        return np.zeros(0, np.int64)
    values = RecentRows().read(table, name, 0, table.num_rows)[:, 0]
    whole = np.isfinite(values) & (np.abs(values) < 2**53)
    if not whole.all():
        row = int(np.argmin(whole))
        raise ValueError(f"{name} in {table.path} is {values[row]} at row {row}, no whole number")
    return values.astype(np.int64)


def _first_or_why(frame_index: np.ndarray) -> int | str:
    try:
        return first_frame(frame_index)
    except ValueError as error:
        return str(error)


@dataclass(frozen=True)
class _Entry:
    """What `meta/episodes` says of an episode."""

    length: int
    videos: Mapping[str, VideoPart]


def _described(
    path: Path, cameras: Sequence[str], templates: Sequence[str], skipped: Skipped
) -> dict[int, _Entry]:
    """Return what the files in `meta/episodes` say."""
    described: dict[int, _Entry] = {}
    files = sorted((path / "meta" / "episodes").rglob("*.parquet"))
    if not files and cameras:
        skipped.note("meta", "meta/episodes: absent, so that no episode can be found in a video")
    for file in files:
        try:
            table = Table.open(file, ignore="stats/")
            check_episodes(str(file), table.num_rows)
            index, length = _column(table, "episode_index"), _column(table, "length")
            if len(index) != table.num_rows or len(length) != table.num_rows:
                raise ValueError(f"{file} needs the columns episode_index and length")
            parts = {camera: _parts(path, table, camera, templates, skipped) for camera in cameras}
        except ValueError as error:
            skipped.note("meta", str(error))
            continue
        for row in range(table.num_rows):
            videos = {camera: part for camera in cameras if (part := parts[camera][row])}
            described[int(index[row])] = _Entry(int(length[row]), videos)
    return described


def _parts(
    path: Path, table: Table, camera: str, templates: Sequence[str], skipped: Skipped
) -> list[VideoPart | None]:
    """Return where each row's episode is in a camera's videos; None where nothing says it."""
    names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    columns = [f"videos/{camera}/{name}" for name in names]
    absent = [name for name in columns[:3] if table.width(name) != 1]
    if absent:
        skipped.note("meta", f"{table.path} has no column {absent[0]}: its episodes lack {camera}")
        return [None] * table.num_rows
    if table.width(columns[3]) != 1:
        columns.pop()
    reader = RecentRows()
    rows = np.concatenate(
        [reader.read(table, column, 0, table.num_rows).astype(float) for column in columns], axis=1
    )
    return [_part(path, camera, row, templates) for row in rows.tolist()]


def _part(
    path: Path, camera: str, place: Sequence[float], templates: Sequence[str]
) -> VideoPart | None:
    """Return the part of a video at (chunk_index, file_index, from_timestamp[, to_timestamp])."""
    if not all(0 <= value < 2**31 for value in place[:3]):  # false for NaN too
        return None
    names = {"video_key": camera, "chunk_index": int(place[0]), "file_index": int(place[1])}
    for template in templates:
        file = fill_template(path, template, names)
        if file:
            stop_s = place[3] if len(place) > 3 and np.isfinite(place[3]) else np.inf
            return VideoPart(file, place[2], float(stop_s))
    return None
