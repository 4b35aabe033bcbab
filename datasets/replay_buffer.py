"""Read diffusion-policy replay buffers: zarr folders and zip files, version 2 or 3.

Axes: N rows of all episodes, T steps of an episode, H height, W width, A values of an action.
`data/<key>` holds a row for each step: images, (N, H, W, 3) or (N, 3, H, W), uint8 or float from 0
to 1 or to 255; vectors; `action`, (N, A), taken at the row's observation. `meta/episode_ends` holds
the row after the last of each episode. The observation after the last action is not stored.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from scd_wm.datasets.pixels import to_rgb, to_uint8
from scd_wm.datasets.replay_scan import ENDS, scan
from scd_wm.datasets.zarr_files import MARKERS, is_zip, zip_names
from scd_wm.spec import OUTCOMES

STORE_FORMAT = "scd_wm store"  # attribute `format` of our own zarr folders, which are none


def is_replay_buffer(path: Path) -> bool:
    """Return whether `path` is a zarr folder, or a zip file of one, and not our own store."""
    if path.is_dir():
        there = any((path / marker).is_file() for marker in (*MARKERS, ".zmetadata"))
        return (there or (path / ENDS).is_dir()) and not _is_store(path)
    if not is_zip(path):
        return False
    names = zip_names(path)
    return any(name.rpartition("/")[2] in MARKERS for name in names) or _is_cut_zarr(names)


class ReplayBufferReader:
    """Random access to a replay buffer. Each process opens a zip file for itself.

    An episode of which an array lacks chunks or rows counts as one without that key, and without
    its actions it is skipped: values are never filled in. `data/reward`, `data/terminated` and
    `data/success` are outcomes where they are there. How float images were read is in
    `info.metadata`.

    Args:
        path: The folder or zip file.

    Raises:
        ValueError: If it is damaged, has no actions, or no episode can be used.
    """

    def __init__(self, path: Path) -> None:
        self._scan = scan(path)
        self.info = self._scan.info

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`."""
        array, first = self._scan.arrays[key], self._scan.starts[episode]
        num_rows = self.info.episodes[episode].num_actions
        if not 0 <= start <= stop <= num_rows:  # those beyond are another episode's
            raise IndexError(f"no rows {start} to {stop - 1} of {key}: it has {num_rows}")
        if key in self._scan.cameras:
            return self._images(key, first + start, first + stop)
        rows = array.read(first + start, first + stop)
        width = math.prod(array.shape[1:])
        return rows.reshape(len(rows)) if key in OUTCOMES else rows.reshape(len(rows), width)

    def _images(self, key: str, start: int, stop: int) -> np.ndarray:
        """Return rows of a camera, converted chunk by chunk."""
        array, camera = self._scan.arrays[key], self._scan.cameras[key]
        images = np.empty((stop - start, *self.info.fields[key].shape), np.uint8)
        done = 0
        for block in array.blocks(start, stop):
            first = start + done
            where = f"{self.info.path}: rows {first} to {first + len(block) - 1} of data/{key}"
            pictures = to_uint8(where, to_rgb(block, camera.layout), camera.scale)
            images[done : done + len(pictures)] = pictures
            done += len(pictures)
        return images


def _is_store(path: Path) -> bool:
    try:
        found = json.loads((path / "zarr.json").read_bytes())
        return found["attributes"]["format"] == STORE_FORMAT
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_cut_zarr(names: list[str]) -> bool:
    """Return whether the one name read of a zip file cut short is that of a chunk."""
    return len(names) == 1 and names[0].startswith(("data/", "meta/", ".z"))
