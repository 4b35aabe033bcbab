"""Find out what a diffusion-policy replay buffer holds, and which episodes can be used.

Axes: N rows of all episodes, E episodes, H height, W width, D values of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scd_wm.datasets.limits import check_episodes, check_images, check_numbers
from scd_wm.datasets.pixels import white_level
from scd_wm.datasets.reader import ACTION, EpisodeInfo, Field, SourceInfo
from scd_wm.datasets.skipped import some
from scd_wm.datasets.zarr_array import ZarrArray
from scd_wm.datasets.zarr_files import MARKERS, ZarrFiles, open_files
from scd_wm.spec import OUTCOMES

ENDS = "meta/episode_ends"
MAX_FLAT = 256  # values of an array such as (N, 9, 2) that are still taken for a vector
LOOKED_AT = 3  # chunks of float images whose values tell their range


@dataclass(frozen=True)
class Camera:
    """How the images of one array become (N, H, W, 3) uint8."""

    layout: str  # "HWC" or "CHW"
    scale: float  # of float values


@dataclass(frozen=True)
class Scan:
    """What is usable of a buffer, and where."""

    info: SourceInfo
    arrays: Mapping[str, ZarrArray]  # those of the fields, of the action and of outcomes
    cameras: Mapping[str, Camera]
    starts: tuple[int, ...]  # first row of each usable episode


def scan(path: Path) -> Scan:
    """Look at the metadata, the ends of the episodes and a few float images.

    Raises:
        ValueError: If something is damaged that all episodes need, or no episode can be used.
    """
    files = open_files(path)
    starts, stops = _episodes(files)
    skipped = _empty_episodes(starts, stops)
    starts, stops = starts[stops > starts], stops[stops > starts]
    arrays = _arrays(files, skipped)
    if ACTION not in arrays:
        raise ValueError(_no_action(files, arrays))
    fields, cameras = _fields(arrays, int((stops - starts).max()), skipped)
    has = {name: array.has_rows(starts, stops) for name, array in arrays.items()}
    _note_missing(has, {*fields, ACTION}, skipped)
    usable = np.flatnonzero(has[ACTION])
    fields = {name: field for name, field in fields.items() if has[name][usable].any()}
    _check_usable(path, usable, fields, skipped)
    _note_rest(arrays, int(stops[-1]), skipped)
    outcomes = tuple(name for name in OUTCOMES if name in arrays and has[name][usable].all())
    info = SourceInfo(
        path=path,
        format="diffusion-policy replay buffer",
        fields=fields,
        action_dim=math.prod(arrays[ACTION].shape[1:]),
        outcomes=outcomes,
        fps=None,
        episodes=tuple(
            EpisodeInfo(
                name=f"episode_{i}",
                num_actions=int(stops[i] - starts[i]),
                has_last_observation=False,
                missing=frozenset(name for name in fields if not has[name][i]),
            )
            for i in usable
        ),
        skipped=tuple(skipped),
        metadata={"arrays": _notes(arrays, fields, cameras)},
    )
    kept = {name: arrays[name] for name in (*fields, ACTION, *outcomes)}
    return Scan(info, kept, cameras, tuple(int(start) for start in starts[usable]))


def _episodes(files: ZarrFiles) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each episode and the one after its last, (E,) int64 each."""
    ends = ZarrArray.open(files, ENDS)
    if ends is None:
        top = sorted({name.partition("/")[0] for name in files.names("")})[:8]
        raise ValueError(
            f"{files.path} is zarr but no replay buffer: it has no array {ENDS}, only {top}"
        )
    where = f"{files.path}: {ENDS}"
    if len(ends.shape) != 1 or ends.dtype.kind not in "iu":
        raise ValueError(
            f"{where} is {ends.dtype} of shape {ends.shape}; expected whole numbers, (E,)"
        )
    check_episodes(where, len(ends))
    stops = ends.read(0, len(ends)).astype(np.int64)
    starts = np.concatenate([np.zeros(min(len(stops), 1), np.int64), stops[:-1]])
    falling = np.flatnonzero(stops < starts)
    if len(falling):
        i = int(falling[0])
        raise ValueError(
            f"{where} falls from {starts[i]} to {stops[i]} at episode {i}; expected the row after "
            "the last of each episode, counted through all of them"
        )
    if not (stops > starts).any():
        raise ValueError(f"{where} holds no episode: {stops[:5].tolist()}")
    return starts, stops


def _empty_episodes(starts: np.ndarray, stops: np.ndarray) -> list[str]:
    empty = int((stops == starts).sum())
    return [f"{empty} of {len(stops)} episodes: they have no rows"] if empty else []


def _arrays(files: ZarrFiles, skipped: list[str]) -> dict[str, ZarrArray]:
    """Return the arrays below `data`, noting those of a kind not known."""
    names = {name.rpartition("/") for name in files.names("data")}
    found: dict[str, ZarrArray] = {}
    for name in sorted({folder for folder, _, marker in names if folder and marker in MARKERS}):
        try:
            array = ZarrArray.open(files, f"data/{name}")
        except ValueError as error:
            if name == ACTION:
                raise
            skipped.append(f"data/{name}: {error}")
            continue
        if array is not None:
            found[name] = array
    return found


def _no_action(files: ZarrFiles, arrays: Mapping[str, ZarrArray]) -> str:
    there = {name: array.shape for name, array in arrays.items()}
    return (
        f"{files.path} has no array data/{ACTION}, only {there or 'none'}; recordings as UMI's "
        f"leave the actions to be computed: write them to data/{ACTION}, (N, A), row t being the "
        "action taken at row t, such as the pose that row t + 1 of the poses holds"
    )


def _fields(
    arrays: Mapping[str, ZarrArray], longest: int, skipped: list[str]
) -> tuple[dict[str, Field], dict[str, Camera]]:
    """Say what the arrays hold that are observations, and how images are read.

    Raises:
        ValueError: If the action or an outcome has another shape than these have.
    """
    fields, cameras = {}, {}
    for name, array in arrays.items():
        if name == ACTION or name in OUTCOMES:
            _check_rows(array, name, longest)
            continue
        try:
            field, camera = _field(array, longest)
        except ValueError as error:
            skipped.append(f"data/{name}: {error}")
            continue
        fields[name] = field
        if camera is not None:
            cameras[name] = camera
    return fields, cameras


def _check_rows(array: ZarrArray, name: str, longest: int) -> None:
    """Raise unless an array holds an action or an outcome of every row."""
    where, values = array.layout.where, math.prod(array.shape[1:])
    if len(array.shape) > 2 or not values or (name != ACTION and values != 1):
        allowed = "(N, A)" if name == ACTION else "(N,)"
        raise ValueError(f"{where} has shape {array.shape}; expected {allowed}")
    check_numbers(where, (longest, *array.shape[1:]), array.dtype.itemsize)


def _field(array: ZarrArray, longest: int) -> tuple[Field, Camera | None]:
    """Say what an array holds.

    Raises:
        ValueError: If that is neither images nor vectors; says why.
    """
    where, shape, dtype = array.layout.where, array.shape[1:], array.dtype
    if len(shape) == 3 and 3 in (shape[0], shape[2]) and min(shape) > 0:
        layout = "HWC" if shape[2] == 3 else "CHW"
        check_images(where, (longest, *shape), dtype.itemsize)
        size = shape[:2] if layout == "HWC" else shape[1:]
        return Field((*size, 3), "uint8", "image"), Camera(layout, _scale(array))
    values = math.prod(shape)
    if values < 1 or (len(shape) > 1 and values > MAX_FLAT):
        raise ValueError(
            f"{dtype} of shape {shape} a row is neither an image, (H, W, 3) or (3, H, W), nor a "
            "vector, (D,)"
        )
    check_numbers(where, (longest, *shape), dtype.itemsize)
    return Field((values,), dtype.newbyteorder("=").name, "vector"), None


def _scale(array: ZarrArray) -> float:
    """Return what the values of images are multiplied by to reach 0 to 255.

    Float images are taken to go from 0 to 1 if no value of the first, the middle and the last chunk
    is above 1, and from 0 to 255 otherwise.

    Raises:
        ValueError: If they are of another dtype, or values are NaN or lie in neither range.
    """
    if array.dtype == np.uint8:
        return 1.0
    if array.dtype.kind != "f":
        raise ValueError(f"images are {array.dtype}; expected uint8 or float")
    height = array.layout.chunks[0]
    rows = {int(i) // height * height for i in np.linspace(0, max(len(array) - 1, 0), LOOKED_AT)}
    ends = [
        end
        for row in rows
        for block in array.blocks(row, min(row + height, len(array)))
        for end in (block.min(), block.max())
    ]
    return 255 / white_level(np.array(ends))


def _note_missing(has: Mapping[str, np.ndarray], names: set[str], skipped: list[str]) -> None:
    """Note the episodes of which an array lacks rows or files."""
    for name in sorted(names):
        lacking = np.flatnonzero(~has[name])
        if len(lacking):
            which = some([f"episode_{i}" for i in lacking])
            skipped.append(
                f"data/{name}: rows of {len(lacking)} of {len(has[name])} episodes are not stored "
                f"({which}): the array is shorter than {ENDS} says, chunks were lost, or "
                "chunks of one value only were left out (write them with write_empty_chunks)"
            )


def _check_usable(
    path: Path, usable: np.ndarray, fields: Mapping[str, Field], skipped: list[str]
) -> None:
    if not len(usable):
        raise ValueError(f"{path} has no episode whose actions are stored: {'; '.join(skipped)}")
    if not fields:
        raise ValueError(f"{path} has neither images nor vectors: {'; '.join(skipped)}")


def _note_rest(arrays: Mapping[str, ZarrArray], end: int, skipped: list[str]) -> None:
    rest = {name: len(array) - end for name, array in arrays.items() if len(array) > end}
    if rest:
        skipped.append(f"rows after the end of the last episode, at {end}: {rest}")
    if "done" in arrays:
        skipped.append("data/done: not used as an outcome, as it also marks the end of a recording")


def _notes(
    arrays: Mapping[str, ZarrArray], fields: Mapping[str, Field], cameras: Mapping[str, Camera]
) -> dict[str, str]:
    """Say of arrays that could be read in another way how they are read."""
    notes: dict[str, str] = {}
    for name in fields:
        array, camera = arrays[name], cameras.get(name)
        found = []
        if camera is None and len(array.shape) > 2:
            found.append(f"{array.shape[1:]} a row, read as a vector of {fields[name].shape[0]}")
        if camera is not None and array.dtype.kind == "f":
            top = round(255 / camera.scale)
            found.append(
                f"{array.dtype.name} images taken to go from 0 to {top}, by the values of "
                f"{LOOKED_AT} chunks, and rounded to uint8"
            )
        if camera is not None and camera.layout == "CHW":
            found.append("stored channels first")
        if found:
            notes[name] = "; ".join(found)
    return notes
