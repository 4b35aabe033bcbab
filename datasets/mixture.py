"""Several data sets as one, mixed by weight.

A mixture is a JSON file, which opens as any data set does:

    {"format": "scd_wm mixture",
     "parts": [{"path": "sim.hdf5", "weight": 1},
               {"path": "real/*.hdf5", "weight": 3, "rename": {"observation.state": "state"}}]}

Paths are relative to the file; a pattern stands for all that it matches, which share the weight. In
training a clip comes from a part with a probability in proportion to the part's weight; without
weights, in proportion to its clips. `rename` makes keys agree; keys that only some of the parts
have are not used. A part may be of any format but a mixture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scd_wm.datasets.limits import check_episodes
from scd_wm.datasets.reader import (
    EpisodeInfo,
    Field,
    ImageSource,
    Reader,
    SourceInfo,
    VideoReader,
)
from scd_wm.datasets.renamed import rename_keys

FORMAT = "scd_wm mixture"
KEYS, PART_KEYS = {"format", "parts"}, {"path", "weight", "rename"}


class Opener(Protocol):
    """Opens a part: `scd_wm.datasets.formats.open_reader`."""

    def __call__(self, path: Path, /) -> Reader:
        """Open a data set of any format."""


@dataclass(frozen=True)
class Part:
    """One data set of a mixture."""

    reader: Reader
    name: str  # prefix of its episodes' names
    first: int  # of its episodes among all


def is_mixture(path: Path) -> bool:
    """Return whether `path` is a JSON file that says it is a mixture."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4096)
    return start.lstrip().startswith(b"{") and FORMAT.encode() in start


def open_mixture(path: Path, open_part: Opener) -> MixedReader:
    """Open the data sets that a mixture names.

    Raises:
        FileNotFoundError: If a part is not there.
        KeyError: If a key to rename is not there.
        ValueError: If the file is not as described above, a part is damaged, or parts do not agree.
    """
    entries = [part for entry in _entries(path) for part in _expand(path, entry)]
    for entry in entries:
        if is_mixture(entry["path"]):
            raise ValueError(
                f"{path}: part {entry['path']} is a mixture itself; name its parts in its place"
            )
    readers = [rename_keys(open_part(entry["path"]), entry.get("rename", {})) for entry in entries]
    weights = [float(entry["weight"]) for entry in entries if "weight" in entry]
    return MixedReader(path, readers, weights or None)


def _expand(path: Path, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a part for each data set that an entry's path, which may be a pattern, stands for."""
    place = path.parent / Path(entry["path"]).expanduser()
    if place.exists() or not any(mark in place.name for mark in "*?["):
        return [entry | {"path": place}]
    found = sorted(place.parent.glob(place.name))
    if not found:
        raise FileNotFoundError(f"{path}: nothing matches {place}")
    share = {"weight": entry["weight"] / len(found)} if "weight" in entry else {}
    return [entry | {"path": match} | share for match in found]


def _entries(path: Path) -> list[dict[str, Any]]:
    """Read and check the parts that a mixture's file lists."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    data = data if isinstance(data, dict) else {}
    parts, unknown = data.get("parts"), sorted(set(data) - KEYS)
    if not isinstance(parts, list) or not parts:
        raise ValueError(f"{path} needs 'parts', a list of data sets with 'path' and 'weight'")
    if unknown:
        raise ValueError(f"{path} has {unknown}; allowed are {sorted(KEYS)}")
    for number, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("path"), str):
            raise ValueError(f"{path}: part {number} needs a 'path', got {part!r}")
        unknown = sorted(set(part) - PART_KEYS)
        if unknown:
            raise ValueError(
                f"{path}: part {number} has {unknown}; allowed are {sorted(PART_KEYS)}"
            )
        names = part.get("rename", {})
        if not isinstance(names, dict) or not all(isinstance(n, str) and n for n in names.values()):
            raise ValueError(
                f"{path}: 'rename' of part {number} must be old: new, texts both, got {names!r}"
            )
    weights = [part.get("weight") for part in parts]
    numbers = [isinstance(w, int | float) and 0 < w < float("inf") for w in weights]
    if not all(numbers) and any(weight is not None for weight in weights):
        raise ValueError(f"{path}: give every part a 'weight' above 0 or none, got {weights}")
    return parts


class MixedReader:
    """The episodes of several readers in one list.

    Args:
        path: Where the mixture is described.
        readers: The parts, whose keys of the same name must be alike.
        weights: Of the parts in training; None counts their clips.

    Raises:
        ValueError: If the parts differ in the size of action or a vector, in rate, or share no key.
    """

    def __init__(
        self, path: Path, readers: Sequence[Reader], weights: Sequence[float] | None = None
    ) -> None:
        infos = [reader.info for reader in readers]
        _check_alike(infos)
        shared = {
            key: replace(field, dtype=_common_dtype([info.fields[key] for info in infos]))
            for key, field in infos[0].fields.items()
            if all(key in info.fields for info in infos)
        }
        if not shared:
            keys = "; ".join(f"{info.path} has {list(info.fields)}" for info in infos)
            raise ValueError(f"the parts of {path} share no key: {keys}; use 'rename'")
        firsts = np.cumsum([0, *(len(info.episodes) for info in infos)]).tolist()
        check_episodes(str(path), firsts[-1])
        names = _part_names(infos)
        self.weights = None if weights is None else tuple(weights)
        self._parts = [Part(*part) for part in zip(readers, names, firsts[:-1], strict=True)]
        self.part_of = [i for i, info in enumerate(infos) for _ in info.episodes]
        self.info = SourceInfo(
            path=path,
            format=f"mixture of {' and '.join(dict.fromkeys(i.format for i in infos))}",
            fields=shared,
            action_dim=infos[0].action_dim,
            outcomes=tuple(o for o in infos[0].outcomes if all(o in i.outcomes for i in infos)),
            fps=next((info.fps for info in infos if info.fps), None),
            episodes=tuple(
                _episode(episode, name, info, shared)
                for name, info in zip(names, infos, strict=True)
                for episode in info.episodes
            ),
            skipped=_skipped(names, infos, shared),
            metadata=infos[0].metadata,
            masks=_masks(names, infos),
        )

    @property
    def paths(self) -> list[Path]:
        """Where the parts are."""
        return [part.reader.info.path for part in self._parts]

    @property
    def parts(self) -> dict[str, range]:
        """The episodes of each part, by what their names begin with."""
        return {
            f"{part.name}/": range(part.first, part.first + len(part.reader.info.episodes))
            for part in self._parts
        }

    def weighted_groups(self, episodes: Sequence[int]) -> list[tuple[float, list[int]]]:
        """Return the weight of each part, and which of these episodes are of it.

        For a mixture with weights only.
        """
        assert self.weights is not None, "clips are drawn evenly from all parts together"
        members: dict[int, list[int]] = {}
        for index, episode in enumerate(episodes):
            members.setdefault(self.part_of[episode], []).append(index)
        return [(self.weights[part], group) for part, group in sorted(members.items())]

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`."""
        part, field = self._parts[self.part_of[episode]], self.info.fields.get(key)
        rows = part.reader.read(episode - part.first, key, start, stop)
        return rows if field is None else rows.astype(field.dtype, copy=False)

    def image_source(self, episode: int, key: str) -> ImageSource | None:
        """See `scd_wm.datasets.reader.VideoReader.image_source`."""
        part = self._parts[self.part_of[episode]]
        if not isinstance(part.reader, VideoReader):
            return None
        return part.reader.image_source(episode - part.first, key)

    def decode(self, episode: int, key: str) -> Iterator[np.ndarray]:
        """See `scd_wm.datasets.reader.VideoReader.decode`."""
        part = self._parts[self.part_of[episode]]
        assert isinstance(part.reader, VideoReader)  # else it has no image_source
        return part.reader.decode(episode - part.first, key)


def _check_alike(infos: Sequence[SourceInfo]) -> None:
    """Raise ValueError at the first size in which a part differs from the first."""
    first, timed = infos[0], next((info for info in infos if info.fps), infos[0])
    for info in infos[1:]:
        if info.fps and info.fps != timed.fps:
            raise ValueError(
                f"cannot mix {timed.path} with {info.path}: steps a second: {timed.fps:g} and "
                f"{info.fps:g}; bring one to the rate of the other"
            )
        pairs: list[tuple[str, object, object]] = [
            ("actions of length", first.action_dim, info.action_dim),
        ]
        pairs += [
            (f"{key}:", _kind(first.fields[key]), _kind(field))
            for key, field in info.fields.items()
            if key in first.fields
        ]
        for what, mine, theirs in pairs:
            if mine != theirs:
                raise ValueError(
                    f"cannot mix {first.path} with {info.path}: {what} {mine} and {theirs}"
                    + ("" if what.startswith("actions") else "; 'rename' it in one of them")
                )


def _common_dtype(fields: Sequence[Field]) -> str:
    """Return the dtype that holds the values of all parts."""
    return np.result_type(*(field.dtype for field in fields)).name


def _kind(field: Field) -> str:
    """Return what must agree of a key; images may differ in size, since they can be resized."""
    return f"images of {field.shape[2]} channels" if field.kind == "image" else f"{field.shape}"


def _part_names(infos: Sequence[SourceInfo]) -> list[str]:
    """Return a short name for each part, all different."""
    names = [info.path.name for info in infos]
    return [
        name if names.count(name) == 1 else f"{number}:{name}" for number, name in enumerate(names)
    ]


def _episode(
    episode: EpisodeInfo, part: str, info: SourceInfo, shared: Mapping[str, Field]
) -> EpisodeInfo:
    """Return an episode as the mixture names and measures it."""
    own = {k: f.shape for k, f in info.fields.items() if f.kind == "image"}
    shapes = {k: shape for k, shape in (own | dict(episode.image_shapes)).items() if k in shared}
    return replace(
        episode,
        name=f"{part}/{episode.name}",
        missing=episode.missing & frozenset(shared),
        image_shapes={k: shape for k, shape in shapes.items() if shape != shared[k].shape},
    )


def _skipped(
    names: Sequence[str], infos: Sequence[SourceInfo], shared: Mapping[str, Field]
) -> tuple[str, ...]:
    lines = [f"{name}: {line}" for name, i in zip(names, infos, strict=True) for line in i.skipped]
    for name, info in zip(names, infos, strict=True):
        alone = [key for key in (*info.fields, *info.outcomes) if key not in shared]
        alone = [key for key in alone if not all(key in i.outcomes for i in infos)]
        if alone:
            lines.append(f"{name}: {', '.join(alone)} not in all parts of the mixture")
    return tuple(lines)


def _masks(names: Sequence[str], infos: Sequence[SourceInfo]) -> dict[str, tuple[str, ...]]:
    """Join the subsets of the same name."""
    masks: dict[str, tuple[str, ...]] = {}
    for name, info in zip(names, infos, strict=True):
        for mask, episodes in info.masks.items():
            masks[mask] = (*masks.get(mask, ()), *(f"{name}/{episode}" for episode in episodes))
    return masks
