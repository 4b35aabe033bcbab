"""What `meta/info.json` of a LeRobot folder says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scd_wm.datasets.skipped import Skipped

MAX_INFO_BYTES = 2**24  # of `meta/info.json`; that of a robot has a few kilobytes
NEWEST = {2: 1, 3: 0}  # major version: the newest minor version that was tested
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def is_lerobot(path: Path) -> bool:
    """Return whether `path` is a LeRobot folder of any version."""
    return (path / "meta" / "info.json").is_file()


def read_info(path: Path) -> dict[str, Any]:
    """Read `meta/info.json`.

    Raises:
        ValueError: If it is not JSON or lacks what is needed.
    """
    file = path / "meta" / "info.json"
    size = file.stat().st_size
    if size > MAX_INFO_BYTES:
        raise ValueError(f"{file} has {size} bytes; allowed are {MAX_INFO_BYTES}")
    try:
        info = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}); it has {size} bytes") from error
    if not isinstance(info, dict) or not isinstance(info.get("features"), dict):
        raise ValueError(f"{file} has no 'features', needed to tell cameras from vectors")
    for key, feature in info["features"].items():
        if not isinstance(feature, dict):
            raise ValueError(
                f"{file}: feature {key!r} is {str(feature)[:40]!r}, not an object with a 'dtype'"
            )
    return info


def major_version(path: Path, info: Mapping[str, Any], skipped: Skipped) -> int:
    """Return 2 or 3.

    A minor version that is newer than those tested is read as the one tested, with a note: LeRobot
    moves files with the major version only, and what is read is checked against the files.

    Raises:
        ValueError: If the version is another; says what to do.
    """
    version = info.get("codebase_version")
    numbers = re.fullmatch(r"v?(\d{1,3})\.(\d{1,3})(\.\d+)*", str(version))
    major, minor = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if major not in NEWEST:
        todo = (
            "; convert it with the lerobot release that has convert_dataset_v1_to_v2.py"
            if major == 1
            else ""
        )
        raise ValueError(
            f"{path} is a LeRobot data set of version {version}; supported are v2.0, v2.1 and "
            f"v3.0{todo}"
        )
    if minor > NEWEST[major]:
        skipped.note(
            "version", f"version {version}: newer than is known, read as v{major}.{NEWEST[major]}"
        )
    return major


def frame_rate(info: Mapping[str, Any], skipped: Skipped) -> float | None:
    """Return the declared steps a second; None, with a note, where that is no positive number."""
    fps = info.get("fps")
    if isinstance(fps, int | float) and not isinstance(fps, bool) and 0 < fps < math.inf:
        return float(fps)
    skipped.note("fps", f"fps: not used, meta/info.json says {fps!r}")
    return None


def masks(
    info: Mapping[str, Any], names: Mapping[int, str], skipped: Skipped
) -> dict[str, tuple[str, ...]]:
    """Return the subsets that `splits` names, such as {"train": "0:80"}.

    Args:
        info: What `read_info` returned.
        names: LeRobot's episode_index of each usable episode: its name.
        skipped: Takes what cannot be understood.
    """
    splits = info.get("splits") or {}
    if not isinstance(splits, dict):
        skipped.note("splits", f"splits: not used, {str(splits)[:40]!r} is no object")
        return {}
    found = {}
    for split, text in splits.items():
        span = re.fullmatch(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*", str(text))
        if span:
            chosen = range(int(span[1]), int(span[2]))
            found[split] = tuple(name for index, name in names.items() if index in chosen)
        else:
            skipped.note(
                "splits", f"split {split}: not used, {str(text)[:40]!r} is not like '0:80'"
            )
    return found


def check_totals(
    info: Mapping[str, Any], num_episodes: int, num_steps: int, skipped: Skipped
) -> None:
    """Note declared totals that are not what can be used."""
    found = {"total_episodes": num_episodes, "total_frames": num_steps}
    for key, number in found.items():
        if info.get(key, number) != number:
            skipped.note(key, f"{key}: says {info[key]}, usable are {number}")
