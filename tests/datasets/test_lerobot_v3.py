"""LeRobot v3.0 folders, where many episodes share a file, and what may be wrong in them."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.lerobot_reader import LeRobotReader
from scd_wm.datasets.lerobot_table import Table
from tests.datasets.write_lerobot import (
    change_info,
    change_rows,
    cut,
    image_column,
    write_lerobot_v3,
)

CAMERA = "observation.images.top"
DATA = "data/chunk-000/file-000.parquet"  # episodes 0 and 1, of 5 and 2 rows
META = "meta/episodes/chunk-000/file-000.parquet"  # the same
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"  # the same


def names(folder: Path, cameras: Sequence[str] | None = None) -> list[str]:
    """Return the episodes that can be used, by their last digit."""
    return [episode.name[-1] for episode in open_dataset(folder, cameras=cameras).episodes]


def skipped(folder: Path) -> tuple[str, ...]:
    """Return what was noted, but for what every folder of the fixture says."""
    lines = LeRobotReader(folder).info.skipped
    return tuple(line for line in lines if not line.startswith("next.done"))


def times(folder: Path, episode: int) -> list[int]:
    """Return the times that an episode's images say they have."""
    dataset = open_dataset(folder)
    images = dataset.images(episode, CAMERA, 0, dataset.episodes[episode].num_observations)
    return np.round((images[..., 1].mean(axis=(1, 2)) - 20) / 20).astype(int).tolist()


def test_info_says_what_the_files_hold(lerobot_v3_folder: Path) -> None:
    info = LeRobotReader(lerobot_v3_folder).info
    assert info.format == "LeRobot v3.0"
    assert {k: (f.shape, f.dtype, f.kind) for k, f in info.fields.items()} == {
        "observation.state": ((2,), "float32", "vector"),
        CAMERA: ((32, 48, 3), "uint8", "image"),
    }
    assert (info.action_dim, info.fps, info.outcomes) == (2, 10, ("reward", "success"))
    assert info.skipped == ("next.done: not used, as it also marks the end of a recording",)
    assert [(e.name, e.num_actions) for e in info.episodes] == [
        ("episode_000000", 5),
        ("episode_000001", 2),
        ("episode_000002", 7),
    ]


def test_a_newer_minor_version_is_read_with_a_note(lerobot_v3_folder: Path) -> None:
    change_info(lerobot_v3_folder, codebase_version="v3.1")
    assert skipped(lerobot_v3_folder) == ("version v3.1: newer than is known, read as v3.0",)
    assert times(lerobot_v3_folder, 1) == [0, 1]


def test_splits_are_masks(lerobot_v3_folder: Path) -> None:
    change_info(lerobot_v3_folder, splits={"train": "0:2", "test": "2:99", "odd": [1], "all": ":"})
    info = LeRobotReader(lerobot_v3_folder).info
    assert info.masks == {
        "train": ("episode_000000", "episode_000001"),
        "test": ("episode_000002",),
    }
    assert skipped(lerobot_v3_folder) == (
        "split odd: not used, '[1]' is not like '0:80'",
        "split all: not used, ':' is not like '0:80'",
    )
    change_info(lerobot_v3_folder, splits=["train"])
    assert LeRobotReader(lerobot_v3_folder).info.masks == {}


@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_rows_are_found_however_they_are_grouped(
    lerobot_v3_folder: Path, row_group_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_rows(lerobot_v3_folder / DATA, row_group_size=row_group_size)
    for kept in (2**25, 0):  # row groups kept in memory, and streamed
        monkeypatch.setattr("scd_wm.datasets.lerobot_table.KEPT_BYTES", kept)
        monkeypatch.setattr("scd_wm.datasets.lerobot_table.BATCH_VALUES", 4)
        reader = LeRobotReader(lerobot_v3_folder)
        for episode, length in enumerate((5, 2, 7)):
            for start in range(length):
                rows = reader.read(episode, "action", start, length)
                assert rows.tolist() == [[episode, t] for t in range(start, length)]
        assert reader.read(1, "reward", 0, 2).tolist() == [0, 1]
        assert reader.read(1, "action", 1, 1).shape == (0, 2)


def test_a_row_group_of_many_episodes_is_read_once(
    lerobot_v3_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_rows(lerobot_v3_folder / DATA)
    reader = LeRobotReader(lerobot_v3_folder)
    read: list[str] = []
    numbers = Table.numbers

    def counting(self: Table, column: str, group: int, start: int, stop: int) -> np.ndarray:
        read.append(column)
        return numbers(self, column, group, start, stop)

    monkeypatch.setattr(Table, "numbers", counting)
    for episode in (0, 1, 0):
        reader.read(episode, "action", 0, 2)
        reader.read(episode, "observation.state", 0, 2)
    assert sorted(read) == ["action", "observation.state"]
    assert len(pickle.dumps(reader)) < 20_000  # bytes: what was read is not in the copy


def test_wrong_offsets_do_not_matter(lerobot_v3_folder: Path) -> None:
    wrong = {"dataset_from_index": [9, 9], "dataset_to_index": [0, 0], "data/file_index": [7, 7]}
    values = {name: pa.array(column) for name, column in wrong.items()}
    change_rows(lerobot_v3_folder / META, values=values)
    assert names(lerobot_v3_folder) == ["0", "1", "2"]
    clip = open_dataset(lerobot_v3_folder).clip(1, 0, 2)
    assert clip.vectors["observation.state"].tolist() == [[1, 0], [1, 1]]


def test_lost_rows_at_the_end_shorten_the_episode(lerobot_v3_folder: Path) -> None:
    change_rows(lerobot_v3_folder / DATA, keep=[0, 1, 2, 5, 6])
    assert times(lerobot_v3_folder, 0) == [0, 1, 2]
    assert skipped(lerobot_v3_folder) == (
        "episode 0: declared length 5 not used, it has 3 rows",
        "total_frames: says 14, usable are 12",
    )


def test_rows_that_begin_late_keep_their_images(lerobot_v3_folder: Path) -> None:
    change_rows(lerobot_v3_folder / DATA, keep=[2, 3, 4, 6])
    assert times(lerobot_v3_folder, 0) == [2, 3, 4]
    assert times(lerobot_v3_folder, 1) == [1]


def test_episodes_whose_rows_have_gaps_are_left_out(lerobot_v3_folder: Path) -> None:
    change_rows(lerobot_v3_folder / DATA, keep=[0, 1, 3, 4, 5, 6])
    assert names(lerobot_v3_folder) == ["1", "2"]
    (line, _, _) = skipped(lerobot_v3_folder)
    assert line.startswith(f"episode 0 in {lerobot_v3_folder / DATA}: frame_index does not go up")


def test_episodes_without_rows_or_with_rows_in_two_places_are_left_out(
    lerobot_v3_folder: Path,
) -> None:
    change_rows(lerobot_v3_folder / DATA, keep=[0, 1, 5, 6, 2, 3, 4])
    assert names(lerobot_v3_folder) == ["1", "2"]
    assert "rows in 2 places" in skipped(lerobot_v3_folder)[0]
    change_rows(lerobot_v3_folder / DATA, keep=[2, 3])  # both of episode 1
    assert names(lerobot_v3_folder) == ["1", "2"]
    assert skipped(lerobot_v3_folder)[0] == "1 declared episodes without rows: 0"


def test_rows_need_no_frame_index_but_the_number_of_their_episode(lerobot_v3_folder: Path) -> None:
    change_rows(lerobot_v3_folder / DATA, drop="frame_index")
    assert times(lerobot_v3_folder, 1) == [0, 1]
    change_rows(lerobot_v3_folder / DATA, drop="episode_index")
    assert names(lerobot_v3_folder) == ["2"]
    message = f"{lerobot_v3_folder / DATA} has no column episode_index to tell episodes apart"
    assert message in skipped(lerobot_v3_folder)


@pytest.mark.parametrize("bad", [None, float("nan"), 1e300])
def test_an_episode_number_that_is_none_leaves_the_file_out(
    lerobot_v3_folder: Path, bad: float | None
) -> None:
    values = {"episode_index": pa.array([0.0] * 5 + [1.0, bad], pa.float64())}
    change_rows(lerobot_v3_folder / DATA, values=values)
    assert names(lerobot_v3_folder) == ["2"]
    assert any("at row 6, no whole number" in line for line in skipped(lerobot_v3_folder))


def test_damaged_data_files_are_left_out(lerobot_v3_folder: Path) -> None:
    cut(lerobot_v3_folder / DATA)
    assert names(lerobot_v3_folder) == ["2"]
    assert f"{lerobot_v3_folder / DATA} is damaged (" in skipped(lerobot_v3_folder)[0]
    cut(lerobot_v3_folder / "data/chunk-000/file-001.parquet", 0)
    with pytest.raises(ValueError, match=r"no usable episode in .*file-000\.parquet is damaged"):
        open_dataset(lerobot_v3_folder)


def test_vectors_of_all_kinds_are_read(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=float).reshape(4, 3)
    columns = {
        "action": pa.array(rows.tolist(), pa.list_(pa.float64())),
        "observation.scalar": pa.array(rows[:, 0].astype(np.float32)),
        "observation.large": pa.array(rows.tolist(), pa.large_list(pa.float32())),
        "observation.fixed": pa.array(rows.tolist(), pa.list_(pa.float64(), 3)),
        "observation.nested": pa.array([[row, row] for row in rows.tolist()]),
    }
    folder = write_lerobot_v3(tmp_path / "data", [columns, columns], {}, [(0, 1)])
    declared = {key: {"dtype": "float32"} for key in columns}
    change_info(folder, features=declared)
    reader = LeRobotReader(folder)
    assert {k: (f.shape, f.dtype) for k, f in reader.info.fields.items()} == {
        "observation.scalar": ((1,), "float32"),
        "observation.large": ((3,), "float32"),
        "observation.fixed": ((3,), "float64"),
        "observation.nested": ((6,), "float64"),
    }
    assert reader.info.action_dim == 3
    for key in ("action", "observation.large", "observation.fixed"):
        np.testing.assert_array_equal(reader.read(1, key, 1, 4), rows[1:])
    np.testing.assert_array_equal(reader.read(1, "observation.scalar", 1, 4), rows[1:, :1])
    nested = np.concatenate([rows, rows], axis=1)
    np.testing.assert_array_equal(reader.read(1, "observation.nested", 0, 4), nested)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_stored_in_shared_tables_are_read(tmp_path: Path, kind: str) -> None:
    pictures = [np.full((n, 8, 6, 3), 50 * e + 10, np.uint8) for e, n in enumerate((3, 4))]
    for images in pictures:
        images += np.arange(len(images), dtype=np.uint8).reshape(-1, 1, 1, 1)
    episodes = [
        {"wrist": image_column(images, kind), "action": pa.array(np.zeros(len(images)))}
        for images in pictures
    ]
    folder = write_lerobot_v3(tmp_path / "data", episodes, {}, [(0, 1)])
    reader = LeRobotReader(folder)
    assert reader.info.fields["wrist"].shape == (8, 6, 3)
    np.testing.assert_allclose(reader.read(1, "wrist", 1, 4), pictures[1][1:4], atol=1)
    change_rows(folder / DATA, row_group_size=5)
    np.testing.assert_allclose(reader.read(0, "wrist", 0, 3), pictures[0], atol=1)


def test_a_file_changed_after_opening_is_named_with_episode_and_key(
    lerobot_v3_folder: Path,
) -> None:
    reader = LeRobotReader(lerobot_v3_folder)
    file = lerobot_v3_folder / DATA
    change_rows(file, keep=[0, 1, 2])
    with pytest.raises(ValueError, match=rf"action of episode_000001: .*{DATA} (is damaged|holds)"):
        reader.read(1, "action", 0, 2)
    file.unlink()
    with pytest.raises(ValueError, match=rf"reward of episode_000000: .*{DATA} is damaged"):
        reader.read(0, "reward", 0, 2)


def test_the_layout_is_what_lerobot_writes(lerobot_v3_folder: Path) -> None:
    columns = parquet.read_schema(lerobot_v3_folder / META).names
    assert [name for name in columns if not name.startswith("stats/")] == [
        "episode_index",
        "tasks",
        "length",
        "data/chunk_index",
        "data/file_index",
        "dataset_from_index",
        "dataset_to_index",
        f"videos/{CAMERA}/chunk_index",
        f"videos/{CAMERA}/file_index",
        f"videos/{CAMERA}/from_timestamp",
        f"videos/{CAMERA}/to_timestamp",
    ]
    info = json.loads((lerobot_v3_folder / "meta/info.json").read_text())
    assert info["video_path"].startswith("videos/{video_key}/chunk-{chunk_index:03d}")
    assert parquet.ParquetFile(lerobot_v3_folder / DATA).num_row_groups == 2
