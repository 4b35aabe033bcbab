"""All arrays of an episode, read part by part: what `scd-wm convert` writes elsewhere.

Axes: T steps of an episode, K = T or T + 1 stored frames, H height, W width, D values of a vector,
A values of an action.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from scd_wm.datasets.image_batches import image_batches, video_file
from scd_wm.datasets.mixture import MixedReader
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.reader import ACTION, EpisodeInfo, Field, Reader, SourceInfo
from scd_wm.datasets.selection import choose_keys

READ_BYTES = 2**24  # images in memory at a time

Arrays: TypeAlias = Iterator[tuple[str, int, Iterable[np.ndarray]]]
"""Key, number of rows, and the rows in parts, (n, ...) each."""


@dataclass(frozen=True)
class Choice:
    """What of a source is converted."""

    cameras: tuple[str, ...]
    vectors: tuple[str, ...]
    image_size: tuple[int, int] | None  # height and width; None keeps each image's

    @classmethod
    def of(cls, info: SourceInfo, options: DataOptions) -> Choice:
        """Work out names and patterns.

        Raises:
            KeyError: If there is no such key.
            ValueError: If no key is chosen.
        """
        cameras = choose_keys(info, "image", options.cameras)
        vectors = choose_keys(info, "vector", options.vectors)
        if not cameras and not vectors:
            raise ValueError(f"no camera and no vector chosen of {info.path}")
        size = options.image_size
        assert size is None or isinstance(size, tuple)  # of checked options
        return cls(cameras, vectors, size)

    def fields(self, info: SourceInfo) -> dict[str, Field]:
        """Return the fields of what is converted."""
        chosen = {key: info.fields[key] for key in info.fields if key in self.keys}
        if self.image_size is None:
            return chosen
        size = self.image_size
        return {
            key: replace(field, shape=(*size, 3)) if field.kind == "image" else field
            for key, field in chosen.items()
        }

    @property
    def keys(self) -> frozenset[str]:
        """Cameras and vectors."""
        return frozenset((*self.cameras, *self.vectors))

    def episode(self, episode: EpisodeInfo) -> EpisodeInfo:
        """Return an episode as it is after conversion."""
        shapes = {} if self.image_size else episode.image_shapes
        return replace(
            episode,
            missing=episode.missing & self.keys,
            image_shapes={key: shape for key, shape in shapes.items() if key in self.keys},
        )


def episode_arrays(reader: Reader, number: int, choice: Choice) -> Arrays:
    """Yield an episode's action, outcomes, vectors and images, in the dtype of the source.

    Args:
        reader: The source.
        number: Index of the episode.
        choice: What to give of it.
    """
    yield from number_arrays(reader, number, choice)
    episode = reader.info.episodes[number]
    for camera in choice.cameras:
        if camera not in episode.missing:
            batches = _image_batches(reader, number, camera)
            if choice.image_size is not None:
                batches = _resized(batches, choice.image_size)
            yield camera, episode.num_observations, batches


def number_arrays(reader: Reader, number: int, choice: Choice) -> Arrays:
    """Yield all but the images."""
    episode = reader.info.episodes[number]
    for key in (ACTION, *reader.info.outcomes):
        yield key, episode.num_actions, [reader.read(number, key, 0, episode.num_actions)]
    for vector in choice.vectors:
        if vector not in episode.missing:
            rows = reader.read(number, vector, 0, episode.num_observations)
            yield vector, episode.num_observations, [rows]


def image_bytes(info: SourceInfo, episode: EpisodeInfo, choice: Choice) -> int:
    """Return the size of an episode's images after conversion."""
    size = 0
    for camera in choice.cameras:
        shape = choice.image_size or episode.image_shapes.get(camera, info.fields[camera].shape)
        size += 0 if camera in episode.missing else shape[0] * shape[1] * 3
    return size * episode.num_observations


def number_bytes(info: SourceInfo, choice: Choice) -> int:
    """Return about the size of all numbers, as if each had eight bytes."""
    values = [info.fields[key].shape[0] for key in choice.vectors]
    steps = sum(episode.num_actions + 1 for episode in info.episodes)
    return 8 * steps * (sum(values) + info.action_dim + len(info.outcomes))


def source_paths(reader: Reader) -> list[Path]:
    """Return the files and folders in which a source is."""
    parts = reader.paths if isinstance(reader, MixedReader) else ()
    return [reader.info.path, *parts]


def files_stamp(paths: Iterable[Path]) -> str:
    """Return a checksum of names, sizes and times of change of files and of all in folders."""
    stamp = hashlib.sha256()
    for file in _files(paths):
        stamp.update(f"{file}|{_state(file)}\n".encode())
    return stamp.hexdigest()


def bytes_of(paths: Iterable[Path]) -> int:
    """Return the size of files and of all in folders."""
    return sum(file.stat().st_size for file in _files(paths))


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def episode_stamp(reader: Reader, number: int, choice: Choice, files: str) -> str:
    """Return a checksum of what an episode is made of, without reading its images.

    Args:
        reader: The source.
        number: Index of the episode.
        choice: What is converted.
        files: Stands for images that are in no file of their own: `files_stamp` of the source.

    Raises:
        ValueError: If its numbers are damaged.
    """
    episode = choice.episode(reader.info.episodes[number])
    text = json.dumps(asdict(episode) | {"missing": sorted(episode.missing)}, sort_keys=True)
    stamp = hashlib.sha256(text.encode())
    for key, _, (rows,) in number_arrays(reader, number, choice):
        stamp.update(f"{key}{rows.dtype}{rows.shape}".encode())
        stamp.update(np.ascontiguousarray(rows).tobytes())
    for camera in choice.cameras:
        if camera not in episode.missing:
            video = video_file(reader, number, camera)
            stamp.update(f"{camera}{files if video is None else _state(video)}".encode())
    return stamp.hexdigest()


def describe(reader: Reader, choice: Choice, options: DataOptions, version: str) -> dict[str, Any]:
    """Return the description of a store of this source, in JSON types.

    Args:
        reader: The source.
        choice: What is converted.
        options: By which it was chosen.
        version: Of the program.
    """
    info = reader.info
    return {
        "source": {
            "path": str(info.path.resolve()),
            "format": info.format,
            "num_episodes": len(info.episodes),
            "skipped": list(info.skipped),
            "scd_wm": version,
            "arguments": _arguments(options),
        },
        "choice": {
            "cameras": list(choice.cameras),
            "vectors": list(choice.vectors),
            "image_size": None if choice.image_size is None else list(choice.image_size),
        },
        "fields": {
            key: {"shape": list(field.shape), "dtype": field.dtype, "kind": field.kind}
            for key, field in choice.fields(info).items()
        },
        "action_dim": info.action_dim,
        "outcomes": list(info.outcomes),
        "fps": info.fps,
        "metadata": dict(info.metadata),
        "masks": {name: list(names) for name, names in info.masks.items()},
    }


def _arguments(options: DataOptions) -> list[str]:
    """Return the options as on the command line."""
    arguments = []
    for name, keys in (("--cameras", options.cameras), ("--vectors", options.vectors)):
        arguments += [] if keys is None else [name, ",".join(keys) or "none"]
    if isinstance(options.image_size, tuple):
        arguments += ["--image-size", "x".join(map(str, options.image_size))]
    return arguments


def _state(file: Path) -> str:
    stat = file.stat()
    return f"{stat.st_size}|{stat.st_mtime_ns}"


def _image_batches(reader: Reader, number: int, camera: str) -> Iterator[np.ndarray]:
    """Return an episode's images in parts of about `READ_BYTES`, (n, H, W, 3) uint8."""
    episode = reader.info.episodes[number]
    shape = episode.image_shapes.get(camera, reader.info.fields[camera].shape)
    length = max(1, READ_BYTES // max(1, int(np.prod(shape))))
    return image_batches(reader, number, camera, (0, episode.num_observations), length)


def _resized(batches: Iterable[np.ndarray], size: tuple[int, int]) -> Iterator[np.ndarray]:
    from scd_wm.datasets.resize import resize_images  # needs torch, which copying does without

    return (resize_images(batch, size) for batch in batches)
