"""`scd-wm convert`: write a data set of any format as a store or a robomimic file.

A store is written by several processes, an episode each at a time. What is whole stays: after an
interruption, or when the source has grown, the same command goes on, and writes only episodes that
are not there or whose source has changed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import scd_wm
from scd_wm.convert.to_robomimic import write_robomimic
from scd_wm.convert.to_store import StoreJob
from scd_wm.datasets.episode_arrays import Choice, describe
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.store import is_store
from scd_wm.datasets.store_writer import remove_store

LEVEL = 3  # of zstd: 1.5 times smaller than 1 on camera images, and as fast to read

Target = Literal["store", "robomimic"]


def convert(
    source: Path,
    target: Path,
    *,
    target_format: Target | None = None,
    options: DataOptions | None = None,
    workers: int = 1,
    level: int = LEVEL,
    overwrite: bool = False,
    verify: bool = False,
) -> dict[str, Any]:
    """Convert a data set.

    Args:
        source: Of any format that `open_dataset` opens.
        target: The folder of a store, or a robomimic file.
        target_format: What to write; None: robomimic if `target` ends in .hdf5 or .h5, else a
            store.
        options: Which cameras and vectors, and their size; None is all, pixel by pixel. What else
            they say is done in training and not here.
        workers: Processes that write a store.
        level: Of zstd, 1 to 22; higher is smaller and slower to write. 0 does not compress.
        overwrite: Replace what is at `target`.
        verify: Read the store back and compare it with what was read from the source.

    Returns:
        A summary in JSON types.

    Raises:
        FileNotFoundError: If there is no `source`.
        KeyError: If it has no such camera or vector.
        ValueError: If an argument is out of range, `target` is something else, there is too little
            room, no episode can be converted, or `verify` finds a difference.
    """
    start_s = time.monotonic()
    options = DataOptions() if options is None else options
    if workers < 1 or not 0 <= level <= 22:
        raise ValueError(f"workers must be at least 1 and level 0 to 22, got {workers}, {level}")
    reader = open_reader(source)
    _check_apart(source, target)
    choice = Choice.of(reader.info, options)
    target_format = target_format or _format_of(target)
    if target_format == "robomimic":
        if verify:
            raise ValueError("only a store has checksums to verify")
        summary = write_robomimic(reader, choice, target, overwrite=overwrite)
    else:
        description = describe(reader, choice, options, scd_wm.__version__)
        if overwrite and is_store(target):
            remove_store(target)
        job = StoreJob(reader, choice, target, workers=workers, level=level, verify=verify)
        summary = job.run(description)
    summary["seconds"] = round(time.monotonic() - start_s, 2)
    return summary


def _format_of(target: Path) -> Target:
    return "robomimic" if target.suffix.lower() in (".hdf5", ".h5") else "store"


def _check_apart(source: Path, target: Path) -> None:
    """Raise ValueError if one of the two places is inside the other."""
    one, other = source.expanduser().resolve(), target.expanduser().resolve()
    if one == other or one in other.parents or other in one.parents:
        raise ValueError(f"source and target must be apart, got {source} and {target}")
