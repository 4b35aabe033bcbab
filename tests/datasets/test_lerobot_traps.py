"""LeRobot folders that are wrong in rarer ways."""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.lerobot_reader import LeRobotReader
from scd_wm.datasets.lerobot_table import RecentRows, Table
from tests.datasets.write_lerobot import change_info, change_rows, image_column, write_table

CAMERA = "observation.images.top"
WriteVideo = Callable[[Path, np.ndarray], None]


def data_file(folder: Path, episode: int) -> Path:
    return folder / f"data/chunk-000/episode_{episode:06d}.parquet"


def video_file(folder: Path, episode: int) -> Path:
    return folder / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4"


def skipped(folder: Path) -> tuple[str, ...]:
    return LeRobotReader(folder).info.skipped


@pytest.mark.parametrize("size", [0, -3, None, "many", 1.5])
def test_chunks_size_may_be_anything(lerobot_folder: Path, size: object) -> None:
    change_info(lerobot_folder, chunks_size=size)
    assert len(open_dataset(lerobot_folder).episodes) == 3


def test_totals_that_are_wrong_are_noted(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, total_episodes=99, total_frames="many", total_videos=7)
    lines = skipped(lerobot_folder)
    assert "total_episodes: says 99, usable are 3" in lines
    assert "total_frames: says many, usable are 14" in lines


def test_rows_need_no_frame_index(lerobot_folder: Path) -> None:
    for episode in range(3):
        change_rows(data_file(lerobot_folder, episode), drop="frame_index")
    assert len(open_dataset(lerobot_folder).episodes) == 3


def test_rows_that_begin_late_keep_their_images(lerobot_folder: Path) -> None:
    change_rows(data_file(lerobot_folder, 2), keep=[3, 4, 5, 6])
    images = LeRobotReader(lerobot_folder).read(2, CAMERA, 0, 4)
    np.testing.assert_allclose(images[..., 1].mean(axis=(1, 2)), [80, 100, 120, 140], atol=5)


def test_episodes_whose_rows_have_gaps_are_left_out(lerobot_folder: Path) -> None:
    change_rows(data_file(lerobot_folder, 2), keep=[0, 1, 5, 6])
    assert len(open_dataset(lerobot_folder).episodes) == 2
    message = r"episode 2: .*frame_index does not go up by one from row 1 on: \[1 5 6\]"
    assert re.match(message, skipped(lerobot_folder)[0])


@pytest.mark.parametrize("rows", ["none", "no bytes"])
def test_an_empty_data_file_leaves_its_episode_out(lerobot_folder: Path, rows: str) -> None:
    file = data_file(lerobot_folder, 1)
    if rows == "none":
        change_rows(file, keep=pa.array([], pa.int64()))
    else:
        file.write_bytes(b"")
    assert [e.name[-1] for e in open_dataset(lerobot_folder).episodes] == ["0", "2"]
    reason = {"none": f"{file} has 0 rows", "no bytes": f"{file} is damaged ("}[rows]
    assert skipped(lerobot_folder)[0].startswith(f"episode 1: {reason}")


def test_state_and_action_may_differ_in_width(lerobot_folder: Path) -> None:
    for episode, length in enumerate((5, 2, 7)):
        values = {"observation.state": pa.array(np.ones((length, 5)).tolist())}
        change_rows(data_file(lerobot_folder, episode), values=values)
    dataset = open_dataset(lerobot_folder)
    assert dataset.clip(0, 0, 2).vectors["observation.state"].shape == (2, 5)
    assert dataset.clip(0, 0, 2).actions.shape == (1, 2)


def test_a_state_of_another_width_leaves_its_episode_out(lerobot_folder: Path) -> None:
    values = {"observation.state": pa.array(np.ones((2, 5)).tolist())}
    change_rows(data_file(lerobot_folder, 1), values=values)
    dataset = open_dataset(lerobot_folder)
    assert len(dataset.episodes) == 2
    assert "1 of 3 episodes without observation.state: episode_000001" in dataset.info.skipped


@pytest.mark.parametrize("second", [[4.0], None, []])
def test_rows_of_several_lengths_are_refused(
    lerobot_folder: Path, second: list[float] | None
) -> None:
    change_rows(data_file(lerobot_folder, 1), values={"action": pa.array([[1.0, 2.0], second])})
    message = r"action of episode_000001: action in .*000001\.parquet has rows of several lengths"
    with pytest.raises(ValueError, match=message):
        LeRobotReader(lerobot_folder).read(1, "action", 0, 2)


def test_rows_whose_lengths_only_sum_to_what_they_should_are_refused(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.parquet", x=pa.array([[1.0, 2.0], [1.0], [1.0, 2.0, 3.0]]))
    nested = [[[1.0, 2.0], [3.0]], [[1.0], [2.0, 3.0]]]
    both = write_table(tmp_path / "b.parquet", x=pa.array(nested))
    for path, length in [(file, 3), (both, 2)]:
        with pytest.raises(ValueError, match=r"x in .* has rows of several lengths or none"):
            RecentRows().read(Table.open(path), "x", 0, length)


def test_values_that_are_not_finite_are_counted(lerobot_folder: Path) -> None:
    values = {"observation.state": pa.array([[0.0, 1.0], [np.nan, 1.0]])}
    change_rows(data_file(lerobot_folder, 1), values=values)
    message = r"observation\.state of episode_000001 .* not finite at row 1: .*; 1 of 2 rows are so"
    with pytest.raises(ValueError, match=message):
        open_dataset(lerobot_folder).spec()


def test_flags_that_are_absent_are_not_finite(lerobot_folder: Path) -> None:
    change_rows(data_file(lerobot_folder, 1), values={"next.success": pa.array([True, None])})
    with pytest.raises(ValueError, match=r"success of episode_000001 .* not finite at row 1"):
        open_dataset(lerobot_folder).spec()


def test_an_outcome_that_some_episodes_lack_is_not_used(lerobot_folder: Path) -> None:
    change_rows(data_file(lerobot_folder, 1), drop="next.reward")
    info = LeRobotReader(lerobot_folder).info
    assert info.outcomes == ("success",)
    line = "next.reward: not used, 1 of 3 episodes lack it as one number a step"
    assert line in info.skipped


def test_a_column_that_is_not_what_is_declared_is_no_vector(lerobot_folder: Path) -> None:
    for episode, length in enumerate((5, 2, 7)):
        values = {"observation.state": pa.array(["left"] * length)}
        change_rows(data_file(lerobot_folder, episode), values=values)
    line = "observation.state: is float32, in the files string, not a vector of floats"
    assert line in skipped(lerobot_folder)


def test_files_of_other_names_are_no_episodes(lerobot_folder: Path) -> None:
    for file in (lerobot_folder / "data").rglob("*.parquet"):  # as in v3, of many episodes each
        file.rename(file.with_name(file.name.replace("episode_000", "file-")))
    with pytest.raises(ValueError, match=r"no usable episode in .*: 3 declared episodes without"):
        open_dataset(lerobot_folder)


def test_a_template_that_is_the_same_for_all_is_not_followed(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, data_path="data/chunk-000/episode_000002.parquet")
    assert [e.num_actions for e in open_dataset(lerobot_folder).episodes] == [5, 2, 7]


def test_many_faults_of_a_kind_are_counted(lerobot_folder: Path) -> None:
    content = data_file(lerobot_folder, 0).read_bytes()
    for episode in range(3, 12):
        data_file(lerobot_folder, episode).write_bytes(content[:100])
    lines = skipped(lerobot_folder)
    assert len([line for line in lines if "is damaged" in line]) == 5
    assert "episodes: 4 more like these" in lines


def test_a_video_that_says_another_length_than_it_has_is_named(
    lerobot_folder: Path, make_video: WriteVideo
) -> None:
    file = video_file(lerobot_folder, 2)
    content = file.read_bytes()
    place = content.rindex(b"stsz")  # sizes of the frames: let the last two be empty
    count = struct.unpack(">I", content[place + 12 : place + 16])[0]
    assert count == 7
    end = place + 16 + 4 * count
    file.write_bytes(content[: end - 8] + bytes(8) + content[end:])
    reader = LeRobotReader(lerobot_folder)
    assert len(reader.info.episodes) == 3
    message = rf"{CAMERA} of episode_000002: .*000002\.mp4 (ends|is damaged) after \d frames"
    with pytest.raises(ValueError, match=message):
        list(reader.decode(2, CAMERA))


@pytest.mark.parametrize(
    "content",
    ["[" * 10**5, '{"features": {"action": [1]}}', '{"features": []}', "null", '{"fps": 1'],
)
def test_damaged_metadata_is_one_error(lerobot_folder: Path, content: str) -> None:
    (lerobot_folder / "meta/info.json").write_text(content)
    with pytest.raises(ValueError, match=r"meta/info\.json"):
        open_dataset(lerobot_folder)


@pytest.mark.parametrize("line", ['{"episode_index": 1e999, "length": 1}', "7", "[[", "\x00"])
def test_a_damaged_list_of_episodes_is_one_error(lerobot_folder: Path, line: str) -> None:
    (lerobot_folder / "meta/episodes.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"episodes\.jsonl line 1 is damaged .*; repair or remove"):
        open_dataset(lerobot_folder)


@pytest.mark.parametrize("fixture", ["lerobot_folder", "lerobot_v3_folder"])
def test_what_an_episode_lacks_is_not_read(fixture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    for video in folder.rglob("*.mp4"):
        if video.stem in ("episode_000002", "file-001"):
            video.unlink()
    reader = LeRobotReader(folder)
    with pytest.raises(ValueError, match=rf"{CAMERA} of episode_000002: {folder} lacks it there"):
        reader.read(2, CAMERA, 0, 1)


def test_stored_images_of_another_size_are_refused(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, features={"wrist": {"dtype": "image"}})
    for episode, length in enumerate((5, 2, 7)):
        pictures = np.zeros((length, 4, 6 + (episode == 1), 3), np.uint8)
        change_rows(data_file(lerobot_folder, episode), values={"wrist": image_column(pictures)})
    reader = LeRobotReader(lerobot_folder)
    message = r"wrist of episode_000001: image 0 in .* has shape \(4, 7, 3\), expected \(4, 6, 3\)"
    with pytest.raises(ValueError, match=message):
        reader.read(1, "wrist", 0, 2)
