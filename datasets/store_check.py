"""Compare a store with its checksums."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scd_wm.datasets.store import array_hash, episode_file
from scd_wm.datasets.store_file import EpisodeFile
from scd_wm.datasets.store_reader import StoreReader
from scd_wm.progress import progress_bar

ROWS_BYTES = 2**24  # in memory at a time


def check_store(path: Path) -> int:
    """Read everything in a store and compare it with what was read from its source.

    Returns:
        The number of arrays.

    Raises:
        ValueError: If anything is damaged; names the first episodes and how many there are.
    """
    reader, count = StoreReader(path), 0
    lines = list(reader.info.skipped[len(reader.provenance["skipped"]) :])
    for number in progress_bar(reader.numbers, desc=f"verifying {path}", unit="episode"):
        file = episode_file(path, number)
        found = damage_of(file)
        count += 0 if found else len(EpisodeFile(file).arrays)
        lines += found
    if lines:
        raise ValueError(f"{path}: {len(lines)} faults: {'; '.join(lines[:3])}")
    return count


def damage_of(path: Path) -> list[str]:
    """Return a line on each array of an episode's file that is not as it was in the source."""
    lines = []
    try:
        file = EpisodeFile(path)
        for key, array in file.arrays.items():
            layout = array.layout
            sums = array_hash(layout.shape, layout.dtype)
            step = layout.rows * max(1, ROWS_BYTES // layout.chunk_bytes)
            for start in range(0, layout.shape[0], step):
                rows = file.read(key, start, min(start + step, layout.shape[0]))
                sums.update(np.ascontiguousarray(rows).data)
            if sums.hexdigest() != file.attributes["sha256"][key]:
                lines.append(f"{key} in {path} differs from its source")
    except ValueError as error:
        lines.append(str(error))
    return lines
