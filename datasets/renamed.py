"""A data set under other names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from scd_wm.datasets.reader import (
    ACTION,
    EpisodeInfo,
    ImageSource,
    Reader,
    SourceInfo,
    VideoReader,
)
from scd_wm.spec import OUTCOMES


def rename_keys(reader: Reader, names: Mapping[str, str]) -> Reader:
    """Return a reader whose observation keys have other names.

    Args:
        reader: The source.
        names: Key of the source: its new name. A key that is not there is passed over if its new
            name is: the data has been renamed already.

    Raises:
        KeyError: If there is no such key, and none of the new name.
        ValueError: If two keys would share a name, or the new name means something else.
    """
    keys = reader.info.fields
    for old, new in names.items():
        if old not in keys and new not in keys:
            raise KeyError(f"no key {old!r} to rename in {reader.info.path}; it has {list(keys)}")
        if new in (ACTION, *OUTCOMES):
            raise ValueError(f"no key may be renamed to {new!r}, which means something else")
    used = {old: new for old, new in names.items() if old in keys}
    after = [used.get(key, key) for key in keys]
    shared = sorted({name for name in after if after.count(name) > 1})
    if shared:
        raise ValueError(f"renaming gives two keys of {reader.info.path} the name {shared[0]!r}")
    if not used:
        return reader
    return (_RenamedVideo if isinstance(reader, VideoReader) else _Renamed)(reader, used)


class _Renamed:
    """A reader with other names for keys."""

    def __init__(self, reader: Reader, names: Mapping[str, str]) -> None:
        self._reader = reader
        self._old = {new: old for old, new in names.items()}
        info = reader.info
        fields = {names.get(key, key): field for key, field in info.fields.items()}
        episodes = tuple(_rename_episode(episode, names) for episode in info.episodes)
        self.info: SourceInfo = replace(info, fields=fields, episodes=episodes)

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`."""
        return self._reader.read(episode, self._old.get(key, key), start, stop)


class _RenamedVideo(_Renamed):
    """A reader of video with other names for keys."""

    _reader: VideoReader

    def image_source(self, episode: int, key: str) -> ImageSource | None:
        """See `scd_wm.datasets.reader.VideoReader.image_source`."""
        return self._reader.image_source(episode, self._old.get(key, key))

    def decode(self, episode: int, key: str) -> Iterator[np.ndarray]:
        """See `scd_wm.datasets.reader.VideoReader.decode`."""
        return self._reader.decode(episode, self._old.get(key, key))


def _rename_episode(episode: EpisodeInfo, names: Mapping[str, str]) -> EpisodeInfo:
    return replace(
        episode,
        missing=frozenset(names.get(key, key) for key in episode.missing),
        image_shapes={names.get(key, key): shape for key, shape in episode.image_shapes.items()},
    )
