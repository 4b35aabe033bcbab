"""Write a robomimic file from a reader."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scd_wm.datasets.episode_arrays import (
    Choice,
    bytes_of,
    episode_arrays,
    image_bytes,
    source_paths,
)
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.reader import ACTION, Reader, SourceInfo
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.datasets.selection import select
from scd_wm.progress import progress_bar

EPISODE_BYTES = 2**32  # images of an episode, which the writer takes whole
COPIES = 2  # of images: obs and next_obs
RESERVE = 2**24  # bytes, for all that are no images
GYM_TYPE = 2  # robomimic's number for environments of Gymnasium


def write_robomimic(
    reader: Reader, choice: Choice, target: Path, overwrite: bool = False
) -> dict[str, Any]:
    """Write every episode that has all of the chosen keys; return a summary.

    Args:
        reader: The source.
        choice: What to write of it.
        target: The file, which appears when it is whole.
        overwrite: Replace a file that exists.

    Raises:
        FileExistsError: If `target` exists and `overwrite` is False.
        OSError: If there is too little room.
        ValueError: If images are of several sizes, an episode is too large to hold, or no episode
            can be written.
    """
    info = reader.info
    options = DataOptions(
        cameras=choice.cameras, vectors=choice.vectors, image_size=choice.image_size
    )
    _, usable, left_out = select(reader, options)  # a file has the same keys in all episodes
    for episode in (info.episodes[i] for i in usable):
        if (size := image_bytes(info, episode, choice)) > EPISODE_BYTES:
            raise ValueError(
                f"images of {episode.name} take {size / 1e9:.1f} GB, more than the "
                f"{EPISODE_BYTES / 1e9:.1f} GB that writing a robomimic file allows; use "
                "--image-size, or write a store"
            )
    written: dict[str, int] = {}  # name in the source: index in the file
    damaged = []
    with RobomimicWriter(target, env_args(info), overwrite=overwrite) as writer:
        for number in progress_bar(usable, desc=f"converting to {target}", unit="episode"):
            name = info.episodes[number].name
            _check_room(target, COPIES * image_bytes(info, info.episodes[number], choice))
            try:
                arrays = {k: _join(parts) for k, _, parts in episode_arrays(reader, number, choice)}
                add_episode(writer, info, number, arrays)
            except ValueError as error:
                damaged.append(f"{name}: {error}")
                continue
            written[name] = len(written)
        for mask, names in info.masks.items():
            writer.add_mask(mask, [written[name] for name in names if name in written])
    return {
        "format": "robomimic",
        "episodes": len(written),
        "steps": writer.num_steps,
        "damaged": len(damaged),
        "source_bytes": bytes_of(source_paths(reader)),
        "image_bytes": sum(image_bytes(info, info.episodes[i], choice) for i in usable),
        "target_bytes": target.stat().st_size,
        "damaged_episodes": damaged,
        "left_out": left_out,
    }


def env_args(info: SourceInfo) -> dict[str, Any]:
    """Return robomimic's description of the environment: the source's if it is robomimic's."""
    if "env_name" in info.metadata:
        return dict(info.metadata)
    kwargs = {} if info.fps is None else {"control_freq": info.fps}
    return {"env_name": info.format, "type": GYM_TYPE, "env_kwargs": kwargs}


def add_episode(
    writer: RobomimicWriter, info: SourceInfo, number: int, arrays: Mapping[str, np.ndarray]
) -> None:
    """Append an episode of which all arrays are given by key."""
    success = arrays.get("success")
    writer.add_episode(
        {key: rows for key, rows in arrays.items() if key != ACTION and key not in info.outcomes},
        arrays[ACTION],
        arrays.get("reward"),
        arrays.get("terminated"),
        info.episodes[number].success if success is None else success,
    )


def _check_room(target: Path, needed: int) -> None:
    """Raise OSError before a disk is full, as HDF5 then leaves the process in ruins."""
    free = shutil.disk_usage(target.parent).free
    if free < needed + RESERVE:
        raise OSError(
            f"{target.parent} has {free / 1e6:.0f} MB free, the next episode takes up to "
            f"{(needed + RESERVE) / 1e6:.0f} MB; make room, or choose another disk, fewer cameras "
            "or a smaller image size"
        )


def _join(parts: Any) -> np.ndarray:
    batches = list(parts)
    return batches[0] if len(batches) == 1 else np.concatenate(batches)
