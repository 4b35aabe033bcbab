"""Find out what a LeRobot v2.x folder really holds, whatever its metadata declares.

Axes: T rows of an episode, H height, W width, D values of a vector, A values of an action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scd_wm.datasets.lerobot_meta import BOOKKEEPING, Files, declared_lengths, read_info
from scd_wm.datasets.lerobot_table import Table
from scd_wm.datasets.reader import EpisodeInfo, Field, SourceInfo
from scd_wm.datasets.video import probe

OUTCOME_COLUMNS = {"reward": "next.reward", "success": "next.success"}
ACTION_COLUMNS = ("action", "actions")
ABSENT = "declared, but in no data file"


@dataclass(frozen=True)
class Scan:
    """What is usable of a folder, and where."""

    info: SourceInfo
    files: Files
    indices: tuple[int, ...]  # LeRobot's episode_index of each usable episode
    tables: tuple[Table, ...]  # of each usable episode
    action_column: str
    video_keys: frozenset[str]  # cameras whose images are in videos


def scan(path: Path) -> Scan:
    """Look at the headers of all files of a folder.

    Raises:
        ValueError: If the version is not supported, the metadata is damaged, or nothing is usable.
    """
    metadata = read_info(path)
    features: Mapping[str, Mapping[str, Any]] = metadata["features"]
    action = next((key for key in ACTION_COLUMNS if key in features), None)
    if action is None:
        raise ValueError(f"{path} has no feature 'action', only {list(features)}")
    skipped: list[str] = []
    files = Files(path, metadata)
    tables = _tables(path, files, action, skipped)
    fields = _vector_fields(features, tables, action, skipped)
    fields |= _stored_image_fields(path, features, tables, skipped)
    cameras = [key for key, feature in features.items() if feature.get("dtype") == "video"]
    sizes = {key: _video_sizes(files, key, tables, skipped) for key in cameras}
    fields |= {
        key: Field((*next(iter(found.values())), 3), "uint8", "image")
        for key, found in sizes.items()
        if found
    }
    columns = set.intersection(*(set(table.columns) for table in tables.values()))
    if "next.done" in columns:
        skipped.append("next.done: not used, as it also marks the end of a recording")
    info = SourceInfo(
        path=path,
        format=f"LeRobot {metadata['codebase_version']}",
        fields={key: fields[key] for key in features if key in fields},
        action_dim=next(iter(tables.values())).columns[action],
        outcomes=tuple(o for o, column in OUTCOME_COLUMNS.items() if column in columns),
        fps=float(metadata["fps"]) if metadata.get("fps") else None,
        episodes=tuple(_episode(i, table, fields, sizes) for i, table in tables.items()),
        skipped=tuple(skipped),
        metadata=metadata,
    )
    return Scan(info, files, tuple(tables), tuple(tables.values()), action, frozenset(sizes))


def _tables(path: Path, files: Files, action: str, skipped: list[str]) -> dict[int, Table]:
    """Return the table of each usable episode; note in `skipped` what is not usable."""
    lengths = declared_lengths(path)
    absent = sorted(set(lengths) - set(files.episodes))
    if absent:
        skipped.append(f"{len(absent)} declared episodes without a data file: {_some(absent)}")
    tables: dict[int, Table] = {}
    action_dim = 0
    for index in files.episodes:
        try:
            table = Table.open(files.data(index))
        except ValueError as error:
            skipped.append(f"episode {index}: {error}")
            continue
        width = table.columns.get(action, 0)
        if not table.num_rows or not width or width != (action_dim or width):
            skipped.append(
                f"episode {index}: {table.num_rows} rows with {width} values in {action!r}"
                + (f", other episodes have {action_dim}" if action_dim else "")
            )
            continue
        action_dim = width
        tables[index] = table
        if table.num_rows != lengths.get(index, table.num_rows):
            skipped.append(
                f"episode {index}: declared length {lengths[index]} not used, it has "
                f"{table.num_rows} rows"
            )
    if not tables:
        reason = "; ".join(skipped[:3]) or "there are no parquet files"
        raise ValueError(f"{path} has no usable episode in {path / 'data'}: {reason}")
    return tables


def _vector_fields(
    features: Mapping[str, Mapping[str, Any]],
    tables: Mapping[int, Table],
    action: str,
    skipped: list[str],
) -> dict[str, Field]:
    """Return the features that are vectors of floats and are no action, outcome or bookkeeping."""
    fields = {}
    for key, feature in features.items():
        dtype = str(feature.get("dtype"))
        known = key == action or key in BOOKKEEPING or key.startswith("next.")
        if known or dtype in ("video", "image"):
            continue
        width = next((t.columns[key] for t in tables.values() if t.columns.get(key)), 0)
        if not dtype.startswith("float") or not width:
            why = (
                f"is {dtype}, not a vector of floats" if width else "declared, but in no data file"
            )
            skipped.append(f"{key}: {why}")
        else:
            fields[key] = Field((width,), dtype, "vector")
    return fields


def _stored_image_fields(
    path: Path,
    features: Mapping[str, Mapping[str, Any]],
    tables: Mapping[int, Table],
    skipped: list[str],
) -> dict[str, Field]:
    """Return the cameras whose images are in the parquet files."""
    fields = {}
    for key in (key for key, feature in features.items() if feature.get("dtype") == "image"):
        table = next((table for table in tables.values() if key in table.columns), None)
        if table is None:
            skipped.append(f"{key}: {ABSENT}")
        else:
            first = next(table.images(key, path))
            fields[key] = Field(first.shape, "uint8", "image")
    return fields


def _video_sizes(
    files: Files, key: str, tables: Mapping[int, Table], skipped: list[str]
) -> dict[int, tuple[int, int]]:
    """Return height and width of a camera's video in each episode that has a whole one."""
    sizes: dict[int, tuple[int, int]] = {}
    for index, table in tables.items():
        file = files.video(index, key)
        if file is None:
            continue
        try:
            header = probe(file)
        except ValueError as error:
            skipped.append(f"{key} of episode {index}: {error}")
            continue
        if header.num_frames and header.num_frames < table.num_rows:
            skipped.append(
                f"{key} of episode {index}: {header.num_frames} frames for {table.num_rows} rows"
            )
            continue
        sizes[index] = (header.height, header.width)
    if not sizes:
        skipped.append(f"{key}: declared, but no episode has a video that can be used")
    return sizes


def _episode(
    index: int,
    table: Table,
    fields: Mapping[str, Field],
    sizes: Mapping[str, Mapping[int, tuple[int, int]]],
) -> EpisodeInfo:
    """Describe one episode: what of `fields` it lacks and which images are of another size."""
    missing = {
        key
        for key, field in fields.items()
        if (index not in sizes[key] if key in sizes else key not in table.columns)
        or (field.kind == "vector" and table.columns[key] != field.shape[0])
    }
    shapes = {key: (*found[index], 3) for key, found in sizes.items() if index in found}
    return EpisodeInfo(
        name=f"episode_{index:06d}",
        num_actions=table.num_rows,
        has_last_observation=False,
        missing=frozenset(missing),
        image_shapes={key: shape for key, shape in shapes.items() if shape != fields[key].shape},
    )


def _some(indices: Iterable[int]) -> str:
    """Return the first few indices as text."""
    shown = list(indices)
    return ", ".join(map(str, shown[:5])) + (", ..." if len(shown) > 5 else "")
