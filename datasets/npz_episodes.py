"""Read a folder of npz files, one an episode, whose arrays a small mapping file explains.

Axes: N rows of an episode's arrays, T steps, H height, W width, C channels, A values of an action.
The mapping is a JSON file of any name, beside the npz files or elsewhere, such as

    {
      "format": "npz episodes",
      "episodes": "*/*.npz",
      "action": "action",
      "action_leads_to_frame": true,
      "cameras": {"image": {"key": "observation", "layout": "CHW", "channels": [6, 9]}},
      "vectors": {"state": "state"},
      "reward": "reward",
      "fps": 80
    }

| entry | meaning | if left out |
|---|---|---|
| format | always "npz episodes" | must be there |
| episodes | the files, relative to the mapping; `*` and `**` as in a shell | "*.npz" |
| action | the array of actions, (N, A) or (N,) | must be there |
| action_leads_to_frame | true: action t led to frame t, and the first is a dummy | false |
| cameras | name: the array's "key", "layout", "channels" and "scale" | none |
| ... layout | axes after that of time: "HWC", "CHW" or "HW" | "HWC" |
| ... channels | the first used and the one after the last; one channel is repeated to three | all |
| ... scale | what float values are multiplied by to reach 0 to 255 | only uint8 images |
| vectors | name: the array, (N, D) or (N,) | none |
| reward, terminated, success | the array of each step, (N,) or (N, 1) | not known |
| fps | steps a second | not known |

By default action t was taken at frame t: N = T actions, and T or T + 1 observations. Recorders that
store an action with the frame that it led to have a first action of zeros and a first reward of 0:
with `action_leads_to_frame` the N = T + 1 rows become T + 1 observations and T actions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from glob import glob
from pathlib import Path

import numpy as np

from scd_wm.datasets.limits import check_episodes
from scd_wm.datasets.npz_file import NpzArray, npz_arrays
from scd_wm.datasets.npz_mapping import (
    FORMAT,
    CameraMap,
    NpzMapping,
    is_mapping,
    read_mapping,
    suggest,
)
from scd_wm.datasets.npz_scan import Episode, like_first, look_at
from scd_wm.datasets.pixels import to_rgb, to_uint8
from scd_wm.datasets.reader import ACTION, SourceInfo
from scd_wm.datasets.zarr_files import is_zip, zip_names
from scd_wm.spec import OUTCOMES

SHOWN = 3  # episodes whose reasons are given


def is_npz_episodes(path: Path) -> bool:
    """Return whether `path` is a mapping, a folder with one or with npz files, or an npz file."""
    if path.is_dir():
        return bool(_mappings(path) or _examples(path))
    return is_mapping(path) or (is_zip(path) and zip_names(path)[:1][0].endswith(".npy"))


class NpzEpisodesReader:
    """Random access to the npz files that a mapping names. Files are opened for each read.

    Files that lack an array, are damaged or disagree with themselves are skipped and counted.

    Args:
        path: The mapping, or a folder that holds exactly one.

    Raises:
        ValueError: If there is no mapping (the message has one to start from) or it is damaged, it
            names no files, or none can be used.
    """

    def __init__(self, path: Path) -> None:
        self._mapping = read_mapping(_find_mapping(path))
        files = _files(self._mapping)
        self._episodes: list[Episode] = []
        reasons: list[str] = []
        for name, file in files.items():
            try:
                episode = look_at(name, file, self._mapping)
                if self._episodes:
                    episode = like_first(episode, self._episodes[0])
                self._episodes.append(episode)
            except ValueError as error:
                reasons.append(str(error))
        skipped = _summary(reasons, len(files))
        if not self._episodes:
            raise ValueError(f"no episode of {self._mapping.file} can be used: {skipped[0]}")
        first = self._episodes[0]
        self.info = SourceInfo(
            path=path,
            format=FORMAT,
            fields=first.fields,
            action_dim=first.action_dim,
            outcomes=tuple(name for name in OUTCOMES if name in self._mapping.outcomes),
            fps=self._mapping.fps,
            episodes=tuple(episode.info for episode in self._episodes),
            skipped=tuple(skipped),
            metadata=dict(self._mapping.content),
        )

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`."""
        array = self._episodes[episode].arrays[key]
        if key in self._mapping.cameras:
            return _images(array, self._mapping.cameras[key], start, stop)
        shift = self._mapping.action_leads_to_frame and key in (ACTION, *OUTCOMES)
        rows = array.read(start + shift, stop + shift)
        width = math.prod(array.shape[1:])
        return rows.reshape(len(rows)) if key in OUTCOMES else rows.reshape(len(rows), width)


def _images(array: NpzArray, camera: CameraMap, start: int, stop: int) -> np.ndarray:
    """Return rows of a camera, (stop - start, H, W, 3), converted block by block."""
    blocks = []
    for block in array.blocks(start, stop):
        if camera.channels:
            chosen = slice(*camera.channels)
            block = block[:, chosen] if camera.layout == "CHW" else block[..., chosen]
        where = f"{array.where} in rows {start} to {stop - 1}"
        blocks.append(to_uint8(where, to_rgb(block, camera.layout), camera.scale or 1.0))
    return np.concatenate(blocks)


def _mappings(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if is_mapping(file)]


def _examples(path: Path) -> dict[str, Path]:
    """Return an npz file below a folder, or the file itself, by the pattern of all of them."""
    if path.is_file():
        return {"*.npz": path}
    for pattern in ("*.npz", "*/*.npz"):
        if found := min(path.glob(pattern), default=None):
            return {pattern: found}
    return {}


def _find_mapping(path: Path) -> Path:
    """Return the mapping at a path.

    Raises:
        ValueError: If there is none or more than one.
    """
    if path.is_file() and is_mapping(path):
        return path
    found = _mappings(path) if path.is_dir() else []
    if len(found) > 1:
        raise ValueError(f"{path} has {len(found)} mappings, open one: {[f.name for f in found]}")
    if found:
        return found[0]
    ((pattern, example),) = _examples(path).items()
    folder = path if path.is_dir() else path.parent
    shapes = {key: (a.shape, str(a.dtype)) for key, a in npz_arrays(example).items()}
    raise ValueError(
        f"{path} has npz files and no mapping that says what their arrays are; {example.name} has "
        f"{shapes}. Write {folder / 'scd_wm.json'}, such as {suggest(example, pattern)}, and see "
        "scd_wm.datasets.npz_episodes for each entry"
    )


def _files(mapping: NpzMapping) -> dict[str, Path]:
    """Return the files of the episodes by name, in the order of their names."""
    base = mapping.file.parent
    names = sorted(glob(mapping.episodes, root_dir=base, recursive=True))
    if not names:
        raise ValueError(f"{mapping.file}: no files {mapping.episodes!r} in {base}")
    check_episodes(str(mapping.file), len(names))
    return {name.removesuffix(".npz"): base / name for name in names}


def _summary(reasons: Sequence[str], num_files: int) -> list[str]:
    if not reasons:
        return []
    more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    return [f"{len(reasons)} of {num_files} episodes: {'; '.join(reasons[:SHOWN])}{more}"]
