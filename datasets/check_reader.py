"""Check that a reader keeps what `scd_wm.datasets.reader.Reader` promises.

Axes: T steps of an episode, H height, W width, D values of a vector, A values of an action.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from scd_wm.datasets.reader import (
    ACTION,
    EpisodeInfo,
    Field,
    ImageSource,
    Reader,
    SourceInfo,
    VideoReader,
)
from scd_wm.spec import OUTCOMES

EPISODES = 5  # that are read, spread evenly
ROWS = 16  # that are read at the beginning and at the end of each


def check_reader(reader: Reader) -> None:
    """Check a reader: what it says of its data, and that what it reads is so.

    A few episodes are read: shapes and dtypes, parts against the whole, nothing beyond an episode's
    end, and the same from a pickled copy.

    Args:
        reader: An opened one, of a format of this package or of one's own.

    Raises:
        AssertionError: Saying what is wrong, and where.
    """
    info = reader.info
    _require(isinstance(info, SourceInfo), f"info must be a SourceInfo, is {type(info)}")
    _check_info(info)
    _check_fields(info)
    _check_episodes(info)
    copy: Reader = pickle.loads(pickle.dumps(reader))  # what was pickled here
    _require(copy.info == info, "a pickled copy has another info")
    chosen = np.linspace(0, len(info.episodes) - 1, EPISODES).round().astype(int)
    for index in sorted({int(i) for i in chosen}):
        episode = info.episodes[index]
        for key in (*(k for k in info.fields if k not in episode.missing), ACTION, *info.outcomes):
            _check_rows(reader, copy, index, key)
    if isinstance(reader, VideoReader):
        _check_video(reader)


def _check_info(info: SourceInfo) -> None:
    _require(isinstance(info.path, Path), f"info.path must be a Path, is {info.path!r}")
    _require(bool(info.format), "info.format must name the format, is empty")
    _require(
        isinstance(info.action_dim, int) and info.action_dim > 0,
        f"info.action_dim must be a number of values, is {info.action_dim!r}",
    )
    in_order = tuple(name for name in OUTCOMES if name in info.outcomes)
    _require(
        info.outcomes == in_order,
        f"info.outcomes must be some of {OUTCOMES} in this order, is {info.outcomes!r}",
    )
    _require(info.fps is None or info.fps > 0, f"info.fps must be above 0, is {info.fps!r}")
    _require(
        isinstance(info.skipped, tuple) and all(isinstance(line, str) for line in info.skipped),
        f"info.skipped must be a tuple of lines, is {info.skipped!r}",
    )
    try:
        json.dumps(info.metadata)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"info.metadata must be of JSON types: {error}") from error


def _check_fields(info: SourceInfo) -> None:
    _require(bool(info.fields), "info.fields must hold at least one observation, is empty")
    for name, field in info.fields.items():
        _require(
            name not in (ACTION, *OUTCOMES),
            f"no field may be called {name!r}: it is no observation",
        )
        where = f"field {name!r}"
        _require(isinstance(field, Field), f"{where} must be a Field, is {field!r}")
        _require(field.kind in ("image", "vector"), f"{where} must be of kind 'image' or 'vector'")
        axes = 3 if field.kind == "image" else 1
        _require(
            len(field.shape) == axes and all(size > 0 for size in field.shape),
            f"{where} is of kind {field.kind!r} and must have {axes} axes, has {field.shape}",
        )
        if field.kind == "image":
            _require(
                field.shape[-1] == 3 and field.dtype == "uint8",
                f"{where} must be (H, W, 3) of uint8, is {field.shape} of {field.dtype}",
            )


def _check_episodes(info: SourceInfo) -> None:
    names = [episode.name for episode in info.episodes]
    _require(bool(names), "info.episodes must hold an episode; raise ValueError if none is usable")
    _require(len(set(names)) == len(names), "two episodes have one name")
    images = {name for name, field in info.fields.items() if field.kind == "image"}
    for episode in info.episodes:
        where = f"episode {episode.name!r}"
        _require(isinstance(episode, EpisodeInfo), f"{where} must be an EpisodeInfo")
        _require(episode.num_actions > 0, f"{where} has {episode.num_actions} actions")
        unknown = (episode.missing - set(info.fields)) | (set(episode.image_shapes) - images)
        _require(not unknown, f"{where} names {sorted(unknown)}, which are no such fields")
    for mask, members in info.masks.items():
        unknown = frozenset(members) - set(names)
        _require(not unknown, f"mask {mask!r} names {sorted(unknown)}, which are no episodes")


def _check_rows(reader: Reader, copy: Reader, index: int, key: str) -> None:
    """Check what is read of one key of one episode."""
    episode = reader.info.episodes[index]
    is_observed = key in reader.info.fields
    num_rows = episode.num_observations if is_observed else episode.num_actions
    length = min(ROWS, num_rows)
    for start in sorted({0, num_rows - length}):
        where = f"read({index}, {key!r}, {start}, {start + length})"
        rows = reader.read(index, key, start, start + length)
        _check_array(where, rows, reader.info, episode, key, length)
        _same(f"a pickled copy's {where}", copy.read(index, key, start, start + length), rows)
        for first, last in {(0, 1), (length // 2, length // 2 + 1), (length // 3, length)}:
            part = reader.read(index, key, start + first, start + last)
            _same(
                f"read({index}, {key!r}, {start + first}, {start + last})", part, rows[first:last]
            )
    try:
        beyond = len(reader.read(index, key, num_rows - 1, num_rows + 1))
    except (LookupError, ValueError, OSError):
        return
    _require(
        beyond <= 1,
        f"{key!r} of episode {index} goes on beyond its end, at {num_rows}: raise IndexError there",
    )


def _check_array(
    where: str, rows: np.ndarray, info: SourceInfo, episode: EpisodeInfo, key: str, length: int
) -> None:
    """Check shape and dtype of what was read."""
    _require(isinstance(rows, np.ndarray), f"{where} must return an array, returns {type(rows)}")
    shape: tuple[int, ...] = (info.action_dim,) if key == ACTION else ()
    if key in info.fields:
        shape = tuple(episode.image_shapes.get(key, info.fields[key].shape))
        dtype = info.fields[key].dtype
        _require(rows.dtype.name == dtype, f"{where} must be of {dtype}, is of {rows.dtype}")
    _require(
        rows.shape == (length, *shape),
        f"{where} must have shape {(length, *shape)}, has {rows.shape}",
    )
    _require(rows.dtype.kind in "fiub", f"{where} must be real numbers, is of {rows.dtype}")


def _check_video(reader: VideoReader) -> None:
    """Check that decoding gives the images that reading gives."""
    cameras = [name for name, field in reader.info.fields.items() if field.kind == "image"]
    for camera in cameras:
        index = next(i for i, e in enumerate(reader.info.episodes) if camera not in e.missing)
        source = reader.image_source(index, camera)
        if source is None:
            continue
        what = f"image_source({index}, {camera!r})"
        _require(isinstance(source, ImageSource), f"{what} must be an ImageSource, is {source!r}")
        _require(source.path.exists(), f"{what} names {source.path}, which is not there")
        num_frames = reader.info.episodes[index].num_observations
        decoded: Iterable[np.ndarray] = islice(reader.decode(index, camera), ROWS)
        rows = reader.read(index, camera, 0, min(ROWS, num_frames))
        _same(f"decode({index}, {camera!r})", np.stack(list(decoded)), rows)


def _same(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    equal = found.shape == expected.shape and np.array_equal(
        found, expected, equal_nan=expected.dtype.kind == "f"
    )
    _require(equal, f"{what} does not give the rows that a longer read, or the original, gives")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
