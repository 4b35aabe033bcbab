"""Where the rows and the images of a LeRobot episode are, whatever the version of the folder."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scd_wm.datasets.lerobot_table import Table
from scd_wm.datasets.skipped import Skipped


@dataclass(frozen=True)
class VideoPart:
    """A part of a video file, by its clock."""

    path: Path
    start_s: float = 0.0
    stop_s: float = math.inf


@dataclass(frozen=True)
class Episode:
    """Rows of a table, and for each camera with video the part of a file that shows them."""

    index: int  # LeRobot's episode_index
    table: Table
    start: int  # first row
    stop: int  # one past the last row
    first_frame: int = 0  # the frame of the video that the first row belongs to
    videos: Mapping[str, VideoPart] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name that LeRobot gives to its files."""
        return f"episode_{self.index:06d}"

    @property
    def num_rows(self) -> int:
        """Rows T."""
        return self.stop - self.start


def first_frame(frame_index: np.ndarray) -> int:
    """Return the number of the first row's frame.

    Args:
        frame_index: What the table says of an episode's rows, (T,).

    Raises:
        ValueError: If the numbers do not go up by one, so that rows are missing or in disorder.
    """
    if len(frame_index) and frame_index[0] >= 0 and (np.diff(frame_index) == 1).all():
        return int(frame_index[0])
    wrong = int(np.argmax(np.diff(frame_index) != 1)) if len(frame_index) > 1 else 0
    raise ValueError(
        f"frame_index does not go up by one from row {wrong} on: {frame_index[wrong : wrong + 3]}; "
        "rows are missing or in disorder"
    )


def check_length(index: int, found: int, declared: Mapping[int, int], skipped: Skipped) -> None:
    """Note a declared length that is not what the file holds."""
    if found != declared.get(index, found):
        skipped.note(
            "lengths",
            f"episode {index}: declared length {declared[index]} not used, it has {found} rows",
        )


def fill_template(folder: Path, template: str, names: Mapping[str, Any]) -> Path | None:
    """Return the file that a template of `meta/info.json` points to, if it exists in the folder."""
    if re.search(r"\{[^}]*\d{3}", template):  # a width that would fill memory
        return None
    try:
        file = folder / template.format(**names)
        inside = file.is_file() and ".." not in file.relative_to(folder).parts
    except (KeyError, ValueError, IndexError, AttributeError, TypeError, OSError):
        return None
    return file if inside else None
