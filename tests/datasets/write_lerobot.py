"""Write small LeRobot v3.0 folders, laid out as lerobot 0.4.4 does, and videos with faults."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def write_lerobot_v3(
    folder: Path,
    episodes: Sequence[Mapping[str, Any]],
    videos: Mapping[str, Sequence[np.ndarray]],
    files: Sequence[Sequence[int]],
    fps: int = 10,
) -> Path:
    """Write a LeRobot v3.0 folder.

    Args:
        folder: Where.
        episodes: Columns of each: Arrow arrays of T rows. The bookkeeping is added.
        videos: Camera: the images of each episode, (T, H, W, 3) uint8.
        files: The episodes that share a data file and a video, such as [(0, 1), (2,)].
        fps: Frames a second.
    """
    lengths = [len(next(iter(columns.values()))) for columns in episodes]
    places = {e: (file // 2, file % 2) for file, group in enumerate(files) for e in group}
    rows = [_described(e, lengths, places[e]) for e in range(len(episodes))]
    for group in files:
        chunk, file = places[group[0]]
        names = {"chunk_index": chunk, "file_index": file}
        _write_rows(folder / DATA_PATH.format(**names), group, episodes, lengths, fps)
        for camera, pictures in videos.items():
            path = folder / VIDEO_PATH.format(video_key=camera, **names)
            encode(path, np.concatenate([pictures[e] for e in group]), fps)
            _describe_video(rows, camera, group, [lengths[e] / fps for e in group])
    for file, group in enumerate(files):  # lerobot too begins another file when one is large
        path = folder / f"meta/episodes/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist([rows[e] for e in group]), path)
    features = _features(episodes[0]) | {
        key: {"dtype": "video", "shape": list(pictures[0].shape[1:])}
        for key, pictures in videos.items()
    }
    info = {
        "codebase_version": "v3.0",
        "total_episodes": len(episodes),
        "total_frames": sum(lengths),
        "chunks_size": 2,
        "fps": fps,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features,
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def _described(episode: int, lengths: Sequence[int], place: tuple[int, int]) -> dict[str, Any]:
    """Return an episode's row of `meta/episodes`."""
    start = sum(lengths[:episode])
    return {
        "episode_index": episode,
        "tasks": ["push"],
        "length": lengths[episode],
        "data/chunk_index": place[0],
        "data/file_index": place[1],
        "dataset_from_index": start,
        "dataset_to_index": start + lengths[episode],
    }


def _describe_video(
    rows: Sequence[dict[str, Any]], camera: str, group: Sequence[int], seconds: Sequence[float]
) -> None:
    for place, episode in enumerate(group):
        row = rows[episode]
        row[f"videos/{camera}/chunk_index"] = row["data/chunk_index"]
        row[f"videos/{camera}/file_index"] = row["data/file_index"]
        row[f"videos/{camera}/from_timestamp"] = sum(seconds[:place])
        row[f"videos/{camera}/to_timestamp"] = sum(seconds[: place + 1])


def _write_rows(
    path: Path,
    group: Sequence[int],
    episodes: Sequence[Mapping[str, Any]],
    lengths: Sequence[int],
    fps: int,
) -> None:
    """Write the rows of some episodes, a row group each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = []
    for episode in group:
        steps = np.arange(lengths[episode])
        bookkeeping = {
            "timestamp": pa.array((steps / fps).astype(np.float32)),
            "frame_index": pa.array(steps),
            "episode_index": pa.array(np.full(len(steps), episode)),
            "index": pa.array(steps + sum(lengths[:episode])),
            "task_index": pa.array(np.zeros(len(steps), np.int64)),
        }
        tables.append(pa.table({**episodes[episode], **bookkeeping}))
    with parquet.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


def _features(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Declare columns as lerobot does."""
    features = {}
    for key, column in columns.items():
        kind = column.type
        is_image = pa.types.is_struct(kind)
        is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
        dtype = {"float": "float32", "double": "float64"}.get(
            str(kind.value_type if is_list else kind), str(kind)
        )
        features[key] = {"dtype": "image" if is_image else dtype, "shape": [len(column)]}
    return features


def encode(
    path: Path,
    pictures: np.ndarray,
    fps: int = 10,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
) -> None:
    """Write images, (T, H, W, 3) uint8, as a video; by default with frames out of order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = options or {"crf": "10", "g": "4", "bf": "2"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options=dict(options))
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], pix_fmt
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def image_column(pictures: np.ndarray, format: str = "PNG") -> pa.Array:
    """Return images as lerobot stores them in tables: structs of "bytes" and "path"."""
    rows = []
    for number, picture in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format)
        rows.append({"bytes": buffer.getvalue(), "path": f"frame-{number:06d}.png"})
    return pa.array(rows)


def change_info(folder: Path, **changes: Any) -> None:
    """Change entries of `meta/info.json`; `features` are added to those there are."""
    file = folder / "meta/info.json"
    info = json.loads(file.read_text())
    info["features"] |= changes.pop("features", {})
    file.write_text(json.dumps(info | changes))


def cut(file: Path, share: float = 0.5) -> None:
    """Leave only the first part of a file."""
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def change_rows(file: Path, **options: Any) -> None:
    """Rewrite a parquet file: `keep` these rows, `drop` a column, set columns by `values`."""
    table = parquet.read_table(file)
    if "keep" in options:
        table = table.take(options["keep"])
    for name in (options.get("drop"), *options.get("values", {})):
        if name in table.column_names:
            table = table.drop_columns([name])
    for name, values in options.get("values", {}).items():
        table = table.append_column(name, values)
    parquet.write_table(table, file, row_group_size=options.get("row_group_size"))


def write_table(path: Path, **columns: pa.Array) -> Path:
    """Write a parquet file."""
    parquet.write_table(pa.table(columns), path, compression="zstd")
    return path
