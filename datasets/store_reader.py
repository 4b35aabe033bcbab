"""Read a store (layout in `scd_wm.datasets.store`)."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scd_wm.datasets.limits import check_episodes, check_images, check_numbers
from scd_wm.datasets.reader import EpisodeInfo, Field, SourceInfo
from scd_wm.datasets.store import (
    EPISODE_FOLDER,
    EPISODE_SUFFIX,
    FORMAT,
    GROUP_FILE,
    INDEX_FILE,
    MAX_JSON_BYTES,
    VERSION,
    digest,
    episode_file,
)
from scd_wm.datasets.store_file import REPAIR, EpisodeFile, read_attributes
from scd_wm.spec import OUTCOMES

LAYOUTS_KEPT = 4096  # of the episodes read last, about 10 kB each
NAMED = 3  # episodes named in a line on many


class StoreReader:
    """Random access to a store. Files are opened for each read, so processes share nothing.

    Args:
        path: The folder.

    Attributes:
        numbers: Of the episodes in the source, from 0 on.
        provenance: Path, format and number of episodes of the source, and who converted it.

    Raises:
        ValueError: If it is damaged, of another version, or holds no whole episode.
    """

    def __init__(self, path: Path) -> None:
        description = read_description(path)
        try:
            entries, skipped = _find_episodes(path, description)
            self.info = _source_info(path, description, [e["episode"] for e in entries], skipped)
            self.numbers = tuple(int(entry["number"]) for entry in entries)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}); {REPAIR}") from error
        if not entries:
            raise ValueError(f"{path} has no episode yet: {'; '.join(skipped[-NAMED:])}")
        self.provenance: dict[str, Any] = description["source"]
        self._file = lru_cache(LAYOUTS_KEPT)(self._open)

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`."""
        rows = self._file(episode).read(key, start, stop)
        field = self.info.fields.get(key)
        if field is not None and field.kind == "image" and rows.ndim != 4:
            raise ValueError(f"{key} in {self._file(episode).path} is no image: {rows.shape}")
        return rows

    def _open(self, episode: int) -> EpisodeFile:
        return EpisodeFile(episode_file(self.info.path, self.numbers[episode]))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"_file": lru_cache(LAYOUTS_KEPT)(self._open)}


def read_description(path: Path) -> dict[str, Any]:
    """Return what a store's zarr.json says of the data set.

    Raises:
        ValueError: If it is damaged or of another version.
    """
    file = path / GROUP_FILE
    attributes = _read_json(file).get("attributes")
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise ValueError(f"{file} is no description of a {FORMAT}; {REPAIR}")
    if attributes.get("version") != VERSION:
        raise ValueError(
            f"{path} is a store of version {attributes.get('version')}, this program reads "
            f"version {VERSION}; convert its source again"
        )
    description = attributes.get("description")
    if not isinstance(description, dict) or digest(description) != attributes.get("sha256"):
        raise ValueError(f"{file} is damaged: its checksum does not agree; {REPAIR}")
    return description


def read_index(path: Path) -> dict[str, Any] | None:
    """Return the index of a store; None where there is none, as a conversion has not ended.

    Raises:
        ValueError: If it is damaged.
    """
    file = path / INDEX_FILE
    if not file.exists():
        return None
    index = _read_json(file)
    if digest(index.get("content")) != index.get("sha256"):
        raise ValueError(f"{file} is damaged: its checksum does not agree; {REPAIR}")
    content: dict[str, Any] = index["content"]
    return content


def whole_episodes(path: Path, layout: str) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Look into every episode's file.

    Args:
        path: The store.
        layout: Of the episodes that belong to it: `layout_digest` of its description.

    Returns:
        The attributes of whole episodes by number, and a line on each of the others.
    """
    whole: dict[int, dict[str, Any]] = {}
    lines = []
    for number in sorted(_file_sizes(path)):
        try:
            attributes = read_attributes(episode_file(path, number))
        except ValueError as error:
            lines.append(str(error))
            continue
        if attributes.get("layout") == layout and attributes.get("number") == number:
            whole[number] = attributes
        else:
            lines.append(f"{episode_file(path, number)}: of an earlier state of the source")
    return whole, lines


def layout_digest(description: Mapping[str, Any]) -> str:
    """Return a checksum of all that episodes must agree on to be of one store."""
    return digest({key: description[key] for key in ("fields", "action_dim", "outcomes", "choice")})


def _find_episodes(
    path: Path, description: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return entries with number and description of whole episodes, and lines on the others."""
    index, total = read_index(path), int(description["source"]["num_episodes"])
    if index is None:
        whole, lines = whole_episodes(path, layout_digest(description))
        command = [description["source"]["path"], str(path), *description["source"]["arguments"]]
        lines.append(
            f"the conversion is not finished: {len(whole)} of {total} episodes are there; finish "
            f"it with: scd-wm convert {shlex.join(command)}"
        )
        return list(whole.values()), lines
    sizes = _file_sizes(path)
    entries = [e for e in index["episodes"] if sizes.get(e["number"]) == e["bytes"]]
    lines = list(map(str, index["damaged"]))
    for entry in index["episodes"]:
        size = sizes.get(entry["number"])
        if size != entry["bytes"]:
            found = "is gone" if size is None else f"has {size} bytes, not {entry['bytes']}"
            lines.append(f"{episode_file(path, entry['number'])} {found}; {REPAIR}")
    return entries, lines


def _file_sizes(path: Path) -> dict[int, int]:
    """Return the size of each episode's file by number."""
    folder = path / EPISODE_FOLDER
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {
            int(stem): entry.stat().st_size
            for entry in entries
            if (stem := entry.name.removesuffix(EPISODE_SUFFIX)).isdecimal()
        }


def _source_info(
    path: Path,
    description: Mapping[str, Any],
    episodes: Sequence[Mapping[str, Any]],
    skipped: Sequence[str],
) -> SourceInfo:
    check_episodes(str(path), len(episodes))
    fields = {
        key: Field(tuple(map(int, field["shape"])), str(field["dtype"]), field["kind"])
        for key, field in description["fields"].items()
    }
    for key, field in fields.items():
        if field.kind == "image":
            check_images(f"{key} in {path}", (0, *field.shape))
        else:
            check_numbers(f"{key} in {path}", field.shape, 8)
    fps = description["fps"]
    return SourceInfo(
        path=path,
        format=FORMAT,
        fields=fields,
        action_dim=int(description["action_dim"]),
        outcomes=tuple(name for name in OUTCOMES if name in description["outcomes"]),
        fps=None if fps is None else float(fps),
        episodes=tuple(map(episode_from_json, episodes)),
        skipped=(*map(str, description["source"]["skipped"]), *skipped),
        metadata=dict(description["metadata"]),
        masks={name: tuple(names) for name, names in description["masks"].items()},
    )


def episode_from_json(data: Mapping[str, Any]) -> EpisodeInfo:
    """Rebuild what `episode_to_json` has made of an episode's description."""
    return EpisodeInfo(
        name=str(data["name"]),
        num_actions=int(data["num_actions"]),
        has_last_observation=bool(data["has_last_observation"]),
        missing=frozenset(data["missing"]),
        image_shapes={key: tuple(shape) for key, shape in data["image_shapes"].items()},
        success=data["success"],
    )


def episode_to_json(episode: EpisodeInfo) -> dict[str, Any]:
    """Return an episode's description in JSON types."""
    return asdict(episode) | {"missing": sorted(episode.missing)}


def _read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: If it is none.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has {file.stat().st_size} bytes")
        data = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, RecursionError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}; {REPAIR}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} is damaged: it holds a {type(data).__name__}; {REPAIR}")
    return data
