"""Write a store: one process begins and ends it, any number of processes write its episodes.

The layout is in `scd_wm.datasets.store`.

Axes: T steps of an episode, K stored frames, H height, W width.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scd_wm.datasets.store import (
    EPISODE_FOLDER,
    FORMAT,
    GROUP_FILE,
    INDEX_FILE,
    VERSION,
    digest,
    episode_file,
    group_text,
    index_text,
    is_store,
)
from scd_wm.datasets.store_file import EpisodeWriter
from scd_wm.datasets.store_reader import layout_digest, read_description, whole_episodes


class StoreWriter:
    """Begin, go on with, and end a store. While one exists no other process may have another.

    Args:
        path: The folder, new or empty or a store of the same source.
        description: Of the data set; see `describe` of `scd_wm.datasets.episode_arrays`.

    Raises:
        ValueError: If `path` holds something else, or another process writes to it.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        check_place(path, description)
        self.path, self._description = path, description
        self.layout = layout_digest(description)
        (path / EPISODE_FOLDER).mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        for left in (path / EPISODE_FOLDER).glob(".*.tmp"):  # of a process that was killed
            left.unlink()
        attributes = {
            "format": FORMAT,
            "version": VERSION,
            "sha256": digest(description),
            "description": description,
        }
        text = group_text(attributes)
        group = path / GROUP_FILE
        if not group.exists() or group.read_text(encoding="utf-8") != text:
            self.begin()
            _write_whole(group, text)

    def begin(self) -> None:
        """Say that episodes are about to change: without an index each file speaks for itself."""
        (self.path / INDEX_FILE).unlink(missing_ok=True)

    def existing(self) -> dict[int, dict[str, Any]]:
        """Return the attributes of the episodes that are there and whole, by number."""
        return whole_episodes(self.path, self.layout)[0]

    def end(self, episodes: Mapping[int, Mapping[str, Any]], damaged: Sequence[str]) -> None:
        """Write the index; remove files of episodes that are not in it.

        Args:
            episodes: Description of each episode that is there, by number.
            damaged: A line on each that could not be converted.
        """
        entries = [
            {
                "number": number,
                "bytes": episode_file(self.path, number).stat().st_size,
                "episode": episodes[number],
            }
            for number in sorted(episodes)
        ]
        wanted = {episode_file(self.path, number) for number in episodes}
        for file in (self.path / EPISODE_FOLDER).iterdir():
            if file not in wanted:
                file.unlink()
        _sync(self.path / EPISODE_FOLDER)
        _write_whole(
            self.path / INDEX_FILE, index_text({"episodes": entries, "damaged": [*damaged]})
        )

    def close(self) -> None:
        """Let other processes write."""
        os.close(self._lock)


def check_place(path: Path, description: Mapping[str, Any]) -> None:
    """Raise ValueError if a store of this description cannot be begun or gone on with at `path`."""
    if not path.exists():
        return
    if not is_store(path):
        found = sorted(p.name for p in path.iterdir()) if path.is_dir() else ["a file"]
        if any(name != EPISODE_FOLDER and not name.startswith(".") for name in found):
            raise ValueError(
                f"{path} exists and is no {FORMAT}: it has {found[:5]}; choose another place"
            )
        return
    there = read_description(path)
    for what, mine, theirs in (
        ("source", description["source"]["path"], there["source"]["path"]),
        ("choice of keys and size", description["choice"], there["choice"]),
    ):
        if mine != theirs:
            raise ValueError(
                f"{path} is a store with another {what}: {theirs}, not {mine}; choose another "
                "place, or replace it with --overwrite"
            )


def write_episode(
    path: Path,
    level: int,
    arrays: Iterable[tuple[str, int, Iterable[np.ndarray]]],
    attributes: Mapping[str, Any],
) -> dict[str, str]:
    """Write or replace the file of an episode; on an error leave nothing new.

    Args:
        path: The file.
        level: Of zstd.
        arrays: Key, number of rows and the rows, in parts, of each array.
        attributes: Of the group; "sha256" is added.

    Returns:
        The checksum of each array.

    Raises:
        ValueError: If an array is not as announced.
    """
    writer = EpisodeWriter(path, level)
    try:
        for key, num_rows, batches in arrays:
            writer.add(key, num_rows, batches)
        writer.close({**attributes, "sha256": writer.checksums})
    except BaseException:
        writer.discard()
        raise
    return writer.checksums


def remove_store(path: Path) -> None:
    """Delete a store; at no time is there half of one under its name.

    Raises:
        ValueError: If `path` is no store.
    """
    if not is_store(path):
        raise ValueError(f"{path} is no {FORMAT}; it is not replaced")
    hidden = path.with_name(f".{path.name}.{os.getpid()}.old")
    path.rename(hidden)
    shutil.rmtree(hidden)


def _lock(folder: Path) -> int:
    """Return a descriptor that holds a lock on the folder until it is closed or the process ends.

    Raises:
        ValueError: If another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ValueError(f"another process is converting into {folder}; wait for it") from error
    return descriptor


def _write_whole(path: Path, text: str) -> None:
    """Write or replace a text file."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text, encoding="utf-8")
    _sync(aside)
    aside.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
