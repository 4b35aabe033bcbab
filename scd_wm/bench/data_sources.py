"""The same episodes in every format that a loader is timed on.

Axes: T steps of an episode, H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import h5py
import numpy as np

from scd_wm.convert.run import convert
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.spec import DEFAULT_FPS

GROUP_OF_PICTURES = 2  # frames from one whole picture to the next, as LeRobot records
LEROBOT_DATA = "data/chunk-000/episode_{episode_index:06d}.parquet"
LEROBOT_VIDEO = "videos/chunk-000/{video_key}/episode_{episode_index:06d}.mp4"


def write_store(dataset: RobotDataset, path: Path) -> None:
    """Write the episodes of a data set as a store."""
    convert(dataset.info.path, path)


def write_raw_store(dataset: RobotDataset, path: Path) -> None:
    """Write the episodes of a data set as a store that is not compressed."""
    convert(dataset.info.path, path, level=0)


def write_robomimic(dataset: RobotDataset, path: Path) -> None:
    """Write the episodes of a data set as a robomimic file, compressed as `collect` does."""
    convert(dataset.info.path, path, target_format="robomimic")


def write_raw_robomimic(dataset: RobotDataset, path: Path) -> None:
    """Write the episodes of a data set as a robomimic file as robomimic does: not compressed."""
    packed = path.with_suffix(".packed")
    write_robomimic(dataset, packed)
    with h5py.File(packed, "r") as source, h5py.File(path, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                target.create_dataset(name, data=item[()])
            else:
                target.require_group(name)
            for key, value in item.attrs.items():
                target[name].attrs[key] = value

        source.visititems(copy)
    packed.unlink()


def write_lerobot(dataset: RobotDataset, path: Path) -> None:
    """Write the episodes of a data set as a LeRobot v2.1 folder with H.264 video."""
    import pyarrow as pa
    from pyarrow import parquet

    fps = round(dataset.fps or DEFAULT_FPS)
    (path / "meta").mkdir(parents=True)
    (path / "data/chunk-000").mkdir(parents=True)
    for index, episode in enumerate(dataset.episodes):
        arrays, length = dataset.arrays(index), episode.num_actions
        rows = {name: values[:length] for name, values in arrays.vectors.items()}
        columns = {n: pa.array(v.tolist()) for n, v in {**rows, "action": arrays.actions}.items()}
        parquet.write_table(pa.table(columns), path / LEROBOT_DATA.format(episode_index=index))
        for camera in dataset.cameras:
            file = path / LEROBOT_VIDEO.format(episode_index=index, video_key=camera)
            _write_video(file, dataset.images(index, camera, 0, length), fps)
    (path / "meta/info.json").write_text(json.dumps(_lerobot_info(dataset, fps)))


def _lerobot_info(dataset: RobotDataset, fps: int) -> dict[str, object]:
    vectors = {name: dataset.info.fields[name].shape[0] for name in dataset.vectors}
    widths = {**vectors, "action": dataset.action_dim}
    return {
        "codebase_version": "v2.1",
        "fps": fps,
        "chunks_size": 10**6,
        "data_path": LEROBOT_DATA,
        "video_path": LEROBOT_VIDEO,
        "features": {
            **{n: {"dtype": "video", "shape": [*s, 3]} for n, s in dataset.image_sizes.items()},
            **{n: {"dtype": "float32", "shape": [width]} for n, width in widths.items()},
        },
    }


def _write_video(path: Path, images: np.ndarray, fps: int) -> None:
    """Write images, (T, H, W, 3) uint8, as LeRobot's recorder does by default but in H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"g": str(GROUP_OF_PICTURES), "crf": "30"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


SOURCES: dict[str, Callable[[RobotDataset, Path], None]] = {
    "store": write_store,
    "raw store": write_raw_store,
    "robomimic.hdf5": write_robomimic,
    "raw robomimic.hdf5": write_raw_robomimic,
    "lerobot": write_lerobot,
}
"""Name of the file or folder: how it is written."""
