"""Small data sets in which everything says which episode and step it belongs to.

Images: red is 40 + 60 episode, green 20 + 20 t, which survives lossy video. Vector "state" and the
action are (episode, t); the reward of step t is t; success and termination come with the last step.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from tests.datasets.write_lerobot import write_lerobot_v3
from tests.datasets.write_minari import write_episode, write_metadata

IMAGE_SHAPE = (32, 48, 3)
LENGTHS = (5, 2, 7)  # steps of the episodes


def images(episode: int, num_frames: int, shape: Sequence[int] = IMAGE_SHAPE) -> np.ndarray:
    """Return (num_frames, *shape) uint8 images that say which they are."""
    pictures = np.zeros((num_frames, *shape), np.uint8)
    pictures[..., 0] = 40 + 60 * episode
    pictures[..., 1] = 20 + 20 * np.arange(num_frames).reshape(-1, 1, 1)
    return pictures


def index_rows(episode: int, num_rows: int) -> np.ndarray:
    """Return rows (episode, t), (num_rows, 2) float32."""
    return np.stack([np.full(num_rows, episode), np.arange(num_rows)], axis=1).astype(np.float32)


def write_robomimic(path: Path, lengths: Sequence[int] = LENGTHS) -> Path:
    """Write a robomimic file whose images are in "top_image"."""
    env_args = {"env_name": "Test", "type": 2, "env_kwargs": {"control_freq": 10}}
    with RobomimicWriter(path, env_args) as writer:
        for episode, length in enumerate(lengths):
            last = np.arange(length) == length - 1
            writer.add_episode(
                {
                    "top_image": images(episode, length + 1),
                    "state": index_rows(episode, length + 1),
                },
                index_rows(episode, length),
                np.arange(length),
                last,
                last,
            )
    return path


def write_minari_folder(folder: Path, lengths: Sequence[int] = LENGTHS) -> Path:
    """Write a Minari data set whose images are JPEG files in "views/top_jpeg"."""
    (folder / "data").mkdir(parents=True)
    write_metadata(folder / "data")
    with h5py.File(folder / "data/main_data.hdf5", "w") as file:
        for episode, length in enumerate(lengths):
            frames = {
                "views/top_jpeg": images(episode, length + 1),
                "state": index_rows(episode, length + 1),
            }
            success = [t == length for t in range(length + 1)]
            write_episode(file, episode, frames, index_rows(episode, length), success)
    return folder


def write_video(path: Path, pictures: np.ndarray, fps: int = 10) -> None:
    """Write images, (T, H, W, 3) uint8, as an mp4 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "g": "2"})
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def lerobot_info(version: str = "v2.1") -> dict[str, object]:
    """Return the content of `meta/info.json`."""
    vector = {"dtype": "float32", "shape": [2], "names": None}
    count = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": version,
        "fps": 10,
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
        "features": {
            "observation.images.top": {"dtype": "video", "shape": list(IMAGE_SHAPE)},
            "observation.state": vector,
            "action": vector,
            "next.reward": {"dtype": "float32", "shape": [1]},
            "next.success": {"dtype": "bool", "shape": [1]},
            "next.done": {"dtype": "bool", "shape": [1]},
            "timestamp": {"dtype": "float32", "shape": [1]},
            "frame_index": count,
            "episode_index": count,
            "index": count,
            "task_index": count,
        },
    }


def write_lerobot(folder: Path, lengths: Sequence[int] = LENGTHS) -> Path:
    """Write a LeRobot v2.1 folder."""
    (folder / "meta").mkdir(parents=True)
    (folder / "data/chunk-000").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(lerobot_info()))
    lines = [json.dumps({"episode_index": e, "length": n}) for e, n in enumerate(lengths)]
    (folder / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    for episode, length in enumerate(lengths):
        rows, steps = index_rows(episode, length), np.arange(length)
        table = {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2),
            "action": pa.array(rows.tolist(), pa.list_(pa.float32())),
            "next.reward": pa.array(steps.astype(np.float32)),
            "next.success": pa.array(steps == length - 1),
            "next.done": pa.array(steps == length - 1),
            "timestamp": pa.array((steps / 10).astype(np.float32)),
            **dict.fromkeys(("frame_index", "index"), pa.array(steps)),
            **dict.fromkeys(("episode_index", "task_index"), pa.array(np.full(length, episode))),
        }
        name = f"episode_{episode:06d}"
        parquet.write_table(pa.table(table), folder / f"data/chunk-000/{name}.parquet")
        video = folder / f"videos/chunk-000/observation.images.top/{name}.mp4"
        write_video(video, images(episode, length))
    return folder


def write_lerobot_v3_folder(folder: Path, lengths: Sequence[int] = LENGTHS) -> Path:
    """Write a LeRobot v3.0 folder in which the first two episodes share their files."""
    episodes = []
    for episode, length in enumerate(lengths):
        rows, steps = index_rows(episode, length), np.arange(length)
        columns = {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2),
            "action": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2),
            "next.reward": pa.array(steps.astype(np.float32)),
            "next.success": pa.array(steps == length - 1),
            "next.done": pa.array(steps == length - 1),
        }
        episodes.append(columns)
    videos = {"observation.images.top": [images(e, n) for e, n in enumerate(lengths)]}
    files = [(0, 1), *((e,) for e in range(2, len(lengths)))]
    return write_lerobot_v3(folder, episodes, videos, files)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep decoded video of tests out of the user's cache."""
    monkeypatch.setenv("SCD_WM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def robomimic_file(tmp_path: Path) -> Path:
    """Return a robomimic file of episodes of `LENGTHS` steps."""
    return write_robomimic(tmp_path / "robomimic.hdf5")


@pytest.fixture
def lerobot_folder(tmp_path: Path) -> Path:
    """Return a LeRobot v2.1 folder of episodes of `LENGTHS` steps."""
    return write_lerobot(tmp_path / "lerobot")


@pytest.fixture
def minari_folder(tmp_path: Path) -> Path:
    """Return a Minari folder of episodes of `LENGTHS` steps."""
    return write_minari_folder(tmp_path / "minari")


@pytest.fixture
def lerobot_v3_folder(tmp_path: Path) -> Path:
    """Return a LeRobot v3.0 folder of episodes of `LENGTHS` steps."""
    return write_lerobot_v3_folder(tmp_path / "lerobot_v3")


@pytest.fixture
def make_video() -> Callable[[Path, np.ndarray], None]:
    """Return `write_video`."""
    return write_video


@pytest.fixture
def shared_data() -> Path:
    """Return the folder of real robot data, which is no part of the project."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("SCD_WM_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real robot data at {folder}; set SCD_WM_SHARED_DATA to where it is")
    return folder
