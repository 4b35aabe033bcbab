"""The metadata of LeRobot v2.x folders, and where their files really are.

Templates in `meta/info.json` point nowhere in some data sets; files are then found by their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SUPPORTED = ("v2.0", "v2.1")
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def is_lerobot(path: Path) -> bool:
    """Return whether `path` is a LeRobot folder of any version."""
    return (path / "meta" / "info.json").is_file()


def read_info(path: Path) -> dict[str, Any]:
    """Read `meta/info.json`.

    Raises:
        ValueError: If it is not JSON, lacks what is needed, or is of a version not supported.
    """
    file = path / "meta" / "info.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        size = file.stat().st_size
        raise ValueError(f"{file} is not JSON ({error}); it has {size} bytes") from error
    if not isinstance(info, dict) or not isinstance(info.get("features"), dict):
        raise ValueError(f"{file} has no 'features', needed to tell cameras from vectors")
    version = info.get("codebase_version")
    if version not in SUPPORTED:
        raise ValueError(
            f"{path} is a LeRobot data set of version {version}; supported are "
            f"{' and '.join(SUPPORTED)}"
        )
    return info


def declared_lengths(path: Path) -> dict[int, int]:
    """Return the steps of each episode that `meta/episodes.jsonl` lists; empty without that file.

    Raises:
        ValueError: If a line is damaged; names it.
    """
    file = path / "meta" / "episodes.jsonl"
    lengths: dict[int, int] = {}
    if not file.is_file():
        return lengths
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            episode = json.loads(line)
            lengths[int(episode["episode_index"])] = int(episode["length"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file} line {number} is damaged ({error}): {line[:60]}") from error
    return lengths


class Files:
    """Where the files of each episode are.

    Args:
        path: The data set's folder.
        info: What `read_info` returned.
    """

    def __init__(self, path: Path, info: Mapping[str, Any]) -> None:
        self._path = path
        self._chunk = int(info.get("chunks_size") or 1000)
        self._data_template = info.get("data_path") or DATA_PATH
        self._video_template = info.get("video_path") or VIDEO_PATH
        data = _by_episode(path / "data", ".parquet")
        self._data = {episode: file for (_, episode), file in data.items()}
        self._videos = _by_episode(path / "videos", ".mp4")

    @property
    def episodes(self) -> list[int]:
        """Indices of the episodes that have a data file, in order."""
        return sorted(self._data)

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
        try:
            file = self._path / template.format(**names)
        except (KeyError, ValueError, IndexError):
            return None
        return file if file.is_file() else None


def _by_episode(folder: Path, suffix: str) -> dict[tuple[str, int], Path]:
    """Return the files below `folder` by the name of the folder they are in and their number."""
    found = {}
    for file in sorted(folder.rglob(f"*{suffix}")):
        number = re.search(r"(\d+)$", file.stem)
        if number:
            found[(file.parent.name, int(number.group()))] = file
    return found
