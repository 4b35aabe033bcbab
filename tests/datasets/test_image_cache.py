"""The cache of decoded video: decoded once, whole or absent, renewed when the video changes."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.lerobot_reader import LeRobotReader

CAMERA = "observation.images.top"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of episodes decoded so far."""
    episodes: list[int] = []
    decode = LeRobotReader.decode

    def counting(self: LeRobotReader, episode: int, key: str) -> Iterator[np.ndarray]:
        episodes.append(episode)
        return decode(self, episode, key)

    monkeypatch.setattr(LeRobotReader, "decode", counting)
    return episodes


def test_video_is_decoded_once_for_each_size(lerobot_folder: Path, decoded: list[int]) -> None:
    for _ in range(2):
        open_dataset(lerobot_folder, image_size=8).prepare()
    assert decoded == [0, 1, 2]
    open_dataset(lerobot_folder, image_size=8).spec()
    assert decoded == [0, 1, 2]
    open_dataset(lerobot_folder, image_size=16).clip(1, 0, 2)
    assert decoded == [0, 1, 2, 1]


def test_a_video_that_changed_is_decoded_again(
    lerobot_folder: Path, decoded: list[int], make_video: Callable[[Path, np.ndarray], None]
) -> None:
    open_dataset(lerobot_folder).prepare()
    video = lerobot_folder / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    make_video(video, np.full((2, 32, 48, 3), 200, np.uint8))
    os.utime(video, ns=(1, 1))
    image = open_dataset(lerobot_folder).clip(1, 0, 1).images[CAMERA].float()
    assert decoded == [0, 1, 2, 1]
    assert abs(image.mean() - 200) < 5


def test_the_folder_is_the_argument_or_else_the_variable(
    lerobot_folder: Path, cache_folder: Path, tmp_path: Path
) -> None:
    open_dataset(lerobot_folder).prepare()
    assert len(list((cache_folder / "images").iterdir())) == 3
    open_dataset(lerobot_folder, cache_dir=tmp_path / "mine").prepare()
    assert len(list((tmp_path / "mine/images").iterdir())) == 3


def test_an_interrupted_decoding_leaves_nothing(
    lerobot_folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = LeRobotReader.decode

    def interrupted(self: LeRobotReader, episode: int, key: str) -> Iterator[np.ndarray]:
        yield next(decode(self, episode, key))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LeRobotReader, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_dataset(lerobot_folder).prepare()
    assert list((cache_folder / "images").iterdir()) == []
    assert open_dataset(lerobot_folder).clip(0, 4, 1).images[CAMERA].any()


def test_two_processes_may_decode_the_same_video(
    lerobot_folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = LeRobotReader.decode

    def overtaken(self: LeRobotReader, episode: int, key: str) -> Iterator[np.ndarray]:
        yield from decode(self, episode, key)
        with monkeypatch.context() as patch:  # the other is done before this one renames
            patch.setattr(LeRobotReader, "decode", decode)
            patch.setattr("os.getpid", lambda: -1)
            open_dataset(lerobot_folder).clip(episode, 0, 1)

    monkeypatch.setattr(LeRobotReader, "decode", overtaken)
    dataset = open_dataset(lerobot_folder)
    dataset.prepare()
    assert len(list((cache_folder / "images").iterdir())) == 3
    assert dataset.clip(2, 6, 1).images[CAMERA].any()


def test_leftovers_of_a_killed_process_are_not_read(
    lerobot_folder: Path, cache_folder: Path, decoded: list[int]
) -> None:
    open_dataset(lerobot_folder).prepare()
    for entry in (cache_folder / "images").iterdir():  # as if killed before the renaming
        entry.rename(entry.with_name(f".{entry.stem}.1.1.tmp"))
    open_dataset(lerobot_folder).prepare()
    assert decoded == [0, 1, 2, 0, 1, 2]


def test_a_video_that_breaks_off_is_named(lerobot_folder: Path, cache_folder: Path) -> None:
    dataset = open_dataset(lerobot_folder)
    video = lerobot_folder / f"videos/chunk-000/{CAMERA}/episode_000002.mp4"
    video.write_bytes(video.read_bytes()[:400])  # after its header was read
    with pytest.raises(ValueError, match=r"episode_000002\.mp4 is damaged after 0 frames"):
        dataset.prepare()
    assert len(list((cache_folder / "images").iterdir())) == 2


def test_a_renamed_camera_in_a_mixture_is_not_decoded_again(
    lerobot_folder: Path, decoded: list[int], tmp_path: Path
) -> None:
    open_dataset(lerobot_folder).prepare()
    open_dataset(lerobot_folder, rename={CAMERA: "top"}).prepare()
    mixture = tmp_path / "mix.json"
    parts = [{"path": lerobot_folder.name, "rename": {CAMERA: "front"}}]
    mixture.write_text(json.dumps({"format": "scd_wm mixture", "parts": parts}))
    image = open_dataset(mixture).clip(2, 0, 1).images["front"].float()
    assert decoded == [0, 1, 2]
    assert abs(image[..., 0].mean() - 160) < 5


def test_an_episode_that_begins_elsewhere_in_its_video_is_decoded_again(
    lerobot_v3_folder: Path,
) -> None:
    image = open_dataset(lerobot_v3_folder).clip(1, 0, 1).images[CAMERA].float()
    assert abs(image[..., 0].mean() - 100) < 5
    name = f"videos/{CAMERA}/from_timestamp"
    for file in (lerobot_v3_folder / "meta/episodes").rglob("*.parquet"):
        table = parquet.read_table(file)
        begins = pa.array([0.0] * len(table), table[name].type)
        parquet.write_table(table.set_column(table.column_names.index(name), name, begins), file)
    image = open_dataset(lerobot_v3_folder).clip(1, 0, 1).images[CAMERA].float()
    assert abs(image[..., 0].mean() - 40) < 5


def test_an_episode_whose_rows_were_completed_is_decoded_again(
    lerobot_folder: Path, decoded: list[int]
) -> None:
    file = lerobot_folder / "data/chunk-000/episode_000002.parquet"
    whole = parquet.read_table(file)
    parquet.write_table(whole.slice(0, 4), file)
    open_dataset(lerobot_folder).prepare()
    parquet.write_table(whole, file)
    image = open_dataset(lerobot_folder).clip(2, 6, 1).images[CAMERA].float()
    assert decoded == [0, 1, 2, 2]
    assert abs(image[..., 1].mean() - 140) < 5
