"""Find out what a LeRobot folder really holds, whatever its metadata declares.

Axes: T rows of an episode, H height, W width, D values of a vector, A values of an action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scd_wm.datasets import lerobot_v2, lerobot_v3
from scd_wm.datasets.lerobot_episodes import Episode, VideoPart
from scd_wm.datasets.lerobot_images import stored_images
from scd_wm.datasets.lerobot_meta import (
    BOOKKEEPING,
    check_totals,
    frame_rate,
    major_version,
    masks,
    read_info,
)
from scd_wm.datasets.limits import check_numbers
from scd_wm.datasets.reader import EpisodeInfo, Field, SourceInfo
from scd_wm.datasets.skipped import Skipped
from scd_wm.datasets.video import VideoFile, probe

FIND = {2: lerobot_v2.find_episodes, 3: lerobot_v3.find_episodes}  # by major version
OUTCOME_COLUMNS = {"reward": "next.reward", "success": "next.success"}
ACTION_COLUMNS = ("action", "actions")
ABSENT = "declared, but in no data file"


@dataclass(frozen=True)
class Scan:
    """What is usable of a folder, and where."""

    info: SourceInfo
    episodes: tuple[Episode, ...]
    action_column: str
    videos: Mapping[str, Mapping[int, VideoFile]]  # camera: LeRobot's index of an episode: header


def scan(path: Path) -> Scan:
    """Look at the headers of all files of a folder.

    Raises:
        ValueError: If the version is not supported, the metadata is damaged, or nothing is usable.
    """
    skipped = Skipped()
    metadata = read_info(path)
    version = major_version(path, metadata, skipped)
    features: Mapping[str, Mapping[str, Any]] = metadata["features"]
    action = next((key for key in ACTION_COLUMNS if key in features), None)
    if action is None:
        raise ValueError(f"{path} has no feature 'action', only {list(features)}")
    cameras = [key for key, feature in features.items() if feature.get("dtype") == "video"]
    found = FIND[version](path, metadata, cameras, skipped)
    episodes = _usable(path, found, action, skipped)
    fps = frame_rate(metadata, skipped)
    videos = {key: _headers(key, episodes, fps, skipped) for key in cameras}
    fields = (
        _vector_fields(features, episodes, action, skipped)
        | _stored_image_fields(path, features, episodes, skipped)
        | {key: Field(_shape(found), "uint8", "image") for key, found in videos.items() if found}
    )
    check_totals(metadata, len(episodes), sum(e.num_rows for e in episodes), skipped)
    subsets = masks(metadata, {episode.index: episode.name for episode in episodes}, skipped)
    info = SourceInfo(
        path=path,
        format=f"LeRobot {metadata['codebase_version']}",
        fields={key: fields[key] for key in features if key in fields},
        action_dim=episodes[0].table.width(action),
        outcomes=_outcomes(episodes, skipped),
        fps=fps,
        episodes=tuple(_describe(episode, fields, videos) for episode in episodes),
        skipped=skipped.lines(),
        metadata=metadata,
        masks=subsets,
    )
    return Scan(info, tuple(episodes), action, videos)


def _usable(path: Path, found: Iterable[Episode], action: str, skipped: Skipped) -> list[Episode]:
    """Return the episodes whose actions are as wide as the first one's.

    Raises:
        ValueError: If there are none.
    """
    usable: list[Episode] = []
    for episode in found:
        width = episode.table.width(action)
        expected = usable[0].table.width(action) if usable else width
        if width and width == expected:
            check_numbers(f"{action} in {episode.table.path}", (episode.num_rows, width), 8)
            usable.append(episode)
            continue
        skipped.note(
            "actions",
            f"episode {episode.index}: {episode.num_rows} rows with {width} values in {action!r}"
            + (f", other episodes have {expected}" if width else ""),
        )
    if not usable:
        reason = "; ".join(skipped.lines()[:3]) or "there are no parquet files"
        raise ValueError(f"{path} has no usable episode in {path / 'data'}: {reason}")
    return usable


def _vector_fields(
    features: Mapping[str, Mapping[str, Any]],
    episodes: Sequence[Episode],
    action: str,
    skipped: Skipped,
) -> dict[str, Field]:
    """Return the features that are vectors of floats and are no action, outcome or bookkeeping."""
    fields = {}
    for key, feature in features.items():
        dtype = str(feature.get("dtype"))
        known = key == action or key in BOOKKEEPING or key.startswith("next.")
        if known or dtype in ("video", "image"):
            continue
        columns = [e.table.columns[key] for e in episodes if key in e.table.columns]
        column = next((column for column in columns if column.width), None)
        if not columns:
            skipped.note("features", f"{key}: {ABSENT}")
        elif column is None or not dtype.startswith("float"):
            stored = "" if column else f", in the files {columns[0].dtype}"
            skipped.note("features", f"{key}: is {dtype}{stored}, not a vector of floats")
        else:
            fields[key] = Field((column.width,), column.dtype, "vector")
    return fields


def _stored_image_fields(
    path: Path,
    features: Mapping[str, Mapping[str, Any]],
    episodes: Sequence[Episode],
    skipped: Skipped,
) -> dict[str, Field]:
    """Return the cameras whose images are in the parquet files."""
    fields = {}
    for key in (key for key, feature in features.items() if feature.get("dtype") == "image"):
        episode = next((episode for episode in episodes if key in episode.table.columns), None)
        if episode is None:
            skipped.note("features", f"{key}: {ABSENT}")
            continue
        start = episode.start
        first = next(stored_images(episode.table, key, start, start + 1, path))
        fields[key] = Field(first.shape, "uint8", "image")
    return fields


def _headers(
    key: str, episodes: Sequence[Episode], fps: float | None, skipped: Skipped
) -> dict[int, VideoFile]:
    """Return the header of a camera's video for each episode that is whole in one."""
    probed: dict[Path, VideoFile | str] = {}  # or why it cannot be used
    whole: dict[int, VideoFile] = {}
    for episode in episodes:
        part = episode.videos.get(key)
        if part is None:
            continue
        header = probed.get(part.path) or probed.setdefault(part.path, _header_or_why(part.path))
        if isinstance(header, str):
            skipped.note(key, f"{key} of episode {episode.index}: {header}")
            continue
        num_frames = header.frames_from(start_time(episode, part, header), part.stop_s)
        if num_frames < episode.num_rows:
            skipped.note(
                key,
                f"{key} of episode {episode.index}: {num_frames:.0f} frames for "
                f"{episode.num_rows} rows",
            )
            continue
        whole[episode.index] = header
    if not whole:
        skipped.note(key, f"{key}: declared, but no episode has a video that can be used")
    rates = {round(header.fps, 2) for header in whole.values() if header.fps}
    if fps and any(abs(rate - fps) > 0.01 * fps for rate in rates):
        skipped.note(
            key,
            f"{key}: video of {sorted(rates)[:3]} frames a second, meta/info.json says {fps:g} "
            "steps: taken as one frame a step",
        )
    return whole


def _header_or_why(path: Path) -> VideoFile | str:
    try:
        return probe(path)
    except ValueError as error:
        return str(error)


def start_time(episode: Episode, part: VideoPart, header: VideoFile) -> float:
    """Return when in its video an episode's first row is, in seconds."""
    return part.start_s + (episode.first_frame / header.fps if header.fps else 0.0)


def _shape(headers: Mapping[int, VideoFile]) -> tuple[int, int, int]:
    """Return the shape of the first episode's images."""
    first = next(iter(headers.values()))
    return first.height, first.width, 3


def _outcomes(episodes: Sequence[Episode], skipped: Skipped) -> tuple[str, ...]:
    """Return the outcomes that every episode has as one number a step."""
    outcomes = []
    for outcome, column in OUTCOME_COLUMNS.items():
        widths = [episode.table.width(column) for episode in episodes]
        if all(width == 1 for width in widths):
            outcomes.append(outcome)
        elif any(column in episode.table.columns for episode in episodes):
            lacking = sum(width != 1 for width in widths)
            skipped.note(
                "outcomes",
                f"{column}: not used, {lacking} of {len(widths)} episodes lack it as one number a "
                "step",
            )
    if any("next.done" in episode.table.columns for episode in episodes):
        skipped.note("outcomes", "next.done: not used, as it also marks the end of a recording")
    return tuple(outcomes)


def _describe(
    episode: Episode,
    fields: Mapping[str, Field],
    videos: Mapping[str, Mapping[int, VideoFile]],
) -> EpisodeInfo:
    """Describe one episode: what of `fields` it lacks and which images are of another size."""
    found = {
        key: headers[episode.index] for key, headers in videos.items() if episode.index in headers
    }
    missing = {
        key
        for key, field in fields.items()
        if (key not in found if key in videos else key not in episode.table.columns)
        or (field.kind == "vector" and episode.table.width(key) != field.shape[0])
    }
    shapes = {key: (header.height, header.width, 3) for key, header in found.items()}
    return EpisodeInfo(
        name=episode.name,
        num_actions=episode.num_rows,
        has_last_observation=False,
        missing=frozenset(missing),
        image_shapes={key: shape for key, shape in shapes.items() if shape != fields[key].shape},
    )
