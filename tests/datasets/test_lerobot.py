"""LeRobot v2.x folders, with the faults of folders found in the field."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.lerobot_reader import LeRobotReader
from tests.datasets.write_lerobot import change_info, cut

CAMERA = "observation.images.top"
WriteVideo = Callable[[Path, np.ndarray], None]


def data_file(folder: Path, episode: int) -> Path:
    return folder / f"data/chunk-000/episode_{episode:06d}.parquet"


def video_file(folder: Path, episode: int) -> Path:
    return folder / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4"


def replace_column(folder: Path, episode: int, name: str, values: pa.Array) -> None:
    """Replace or add a column of one episode's table."""
    table = parquet.read_table(data_file(folder, episode))
    if name in table.column_names:
        table = table.drop_columns([name])
    parquet.write_table(table.append_column(name, values), data_file(folder, episode))


def test_info_says_what_the_files_hold(lerobot_folder: Path) -> None:
    info = LeRobotReader(lerobot_folder).info
    assert info.format == "LeRobot v2.1"
    assert {k: (f.shape, f.kind) for k, f in info.fields.items()} == {
        CAMERA: ((32, 48, 3), "image"),
        "observation.state": ((2,), "vector"),
    }
    assert (info.action_dim, info.fps) == (2, 10)
    assert info.outcomes == ("reward", "success")
    assert info.skipped == ("next.done: not used, as it also marks the end of a recording",)
    assert info.metadata["chunks_size"] == 1000


def test_version_2_0_reads_the_same(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, codebase_version="v2.0")
    assert LeRobotReader(lerobot_folder).info.format == "LeRobot v2.0"


def test_images_can_be_read_without_the_cache(lerobot_folder: Path) -> None:
    images = LeRobotReader(lerobot_folder).read(2, CAMERA, 3, 5)
    assert images.shape == (2, 32, 48, 3)
    greens = images[..., 1].mean(axis=(1, 2))
    np.testing.assert_allclose(greens, [80, 100], atol=5)
    assert LeRobotReader(lerobot_folder).read(2, CAMERA, 3, 3).shape == (0, 32, 48, 3)


@pytest.mark.parametrize(
    "template",
    [
        "data/chunk-{episode_index:03d}/episode_{episode_index:06d}.parquet",
        "nowhere/{unknown}.parquet",
        "broken {",
        None,
    ],
)
def test_templates_that_point_nowhere_do_not_matter(
    lerobot_folder: Path, template: str | None
) -> None:
    video = template and template.replace("data/", "videos/{video_key}/").replace("parquet", "mp4")
    change_info(lerobot_folder, data_path=template, video_path=video, chunks_size=0)
    dataset = open_dataset(lerobot_folder)
    assert [e.num_actions for e in dataset.episodes] == [5, 2, 7]
    assert dataset.clip(2, 0, 2).vectors["observation.state"].tolist() == [[2, 0], [2, 1]]


def test_templates_are_followed_where_names_do_not_say_it(lerobot_folder: Path) -> None:
    folder = lerobot_folder / "videos/chunk-000"
    (folder / CAMERA).rename(folder / "elsewhere")
    template = "videos/chunk-000/elsewhere/episode_{episode_index:06d}.mp4"
    change_info(lerobot_folder, video_path=template)
    assert len(open_dataset(lerobot_folder).episodes) == 3


def test_files_count_where_the_list_of_episodes_is_absent_or_wrong(lerobot_folder: Path) -> None:
    episodes = lerobot_folder / "meta/episodes.jsonl"
    lines = [
        {"episode_index": i, "length": n} for i, n in [(0, 5), (1, 99), (2, 7), (7, 4), (9, 4)]
    ]
    episodes.write_text("\n".join(json.dumps(line) for line in lines))
    info = LeRobotReader(lerobot_folder).info
    assert [e.num_actions for e in info.episodes] == [5, 2, 7]
    assert info.skipped[:2] == (
        "2 declared episodes without a data file: 7, 9",
        "episode 1: declared length 99 not used, it has 2 rows",
    )
    episodes.unlink()
    assert len(LeRobotReader(lerobot_folder).info.episodes) == 3


def test_episodes_without_video_are_left_out_where_the_camera_is_used(lerobot_folder: Path) -> None:
    video_file(lerobot_folder, 1).unlink()
    dataset = open_dataset(lerobot_folder)
    assert [e.name for e in dataset.episodes] == ["episode_000000", "episode_000002"]
    assert f"1 of 3 episodes without {CAMERA}: episode_000001" in dataset.info.skipped
    assert dataset.clip(1, 0, 1).vectors["observation.state"].tolist() == [[2, 0]]
    assert len(open_dataset(lerobot_folder, cameras=()).episodes) == 3


def test_a_camera_without_any_video_is_dropped(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, features={"wrist": {"dtype": "video", "shape": [800, 1280, 3]}})
    info = LeRobotReader(lerobot_folder).info
    assert "wrist" not in info.fields
    assert "wrist: declared, but no episode has a video that can be used" in info.skipped


def test_videos_that_are_damaged_or_short_leave_their_episode_out(
    lerobot_folder: Path, make_video: WriteVideo
) -> None:
    cut(video_file(lerobot_folder, 0))
    make_video(video_file(lerobot_folder, 2), np.zeros((4, 32, 48, 3), np.uint8))
    dataset = open_dataset(lerobot_folder)
    assert [e.name for e in dataset.episodes] == ["episode_000001"]
    damaged, short = dataset.info.skipped[:2]
    assert damaged.startswith(f"{CAMERA} of episode 0: {video_file(lerobot_folder, 0)} is no video")
    assert short == f"{CAMERA} of episode 2: 4 frames for 7 rows"


def test_a_data_file_cut_short_leaves_its_episode_out(lerobot_folder: Path) -> None:
    cut(data_file(lerobot_folder, 0))
    info = LeRobotReader(lerobot_folder).info
    assert [e.name for e in info.episodes] == ["episode_000001", "episode_000002"]
    assert info.skipped[0].startswith(f"episode 0: {data_file(lerobot_folder, 0)} is damaged (")


def test_a_folder_without_usable_episodes_is_refused(lerobot_folder: Path) -> None:
    for episode in range(3):
        cut(data_file(lerobot_folder, episode))
    with pytest.raises(ValueError, match=r"no usable episode in .*data: episode 0: .* is damaged"):
        open_dataset(lerobot_folder)
    shutil.rmtree(lerobot_folder / "data")
    with pytest.raises(ValueError, match=r"no usable episode in .*data: 3 declared episodes"):
        open_dataset(lerobot_folder)


def test_images_of_two_sizes_need_a_size(lerobot_folder: Path, make_video: WriteVideo) -> None:
    make_video(video_file(lerobot_folder, 1), np.full((2, 16, 16, 3), 100, np.uint8))
    message = r"top in .* two sizes: 32x48, and 16x16 in episode_000001; pass image_size"
    with pytest.raises(ValueError, match=message):
        open_dataset(lerobot_folder)
    clip = open_dataset(lerobot_folder, image_size=8).clip(1, 0, 2)
    assert clip.images[CAMERA].shape == (2, 8, 8, 3)


def test_the_declared_image_size_does_not_matter(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, features={CAMERA: {"dtype": "video", "shape": [3, 800, 1280]}})
    assert LeRobotReader(lerobot_folder).info.fields[CAMERA].shape == (32, 48, 3)


def test_images_stored_in_the_tables_are_read(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, features={"wrist": {"dtype": "image", "shape": [4, 6, 3]}})
    for episode, length in enumerate((5, 2, 7)):
        rows = []
        for t in range(length):
            buffer = io.BytesIO()
            Image.fromarray(np.full((4, 6, 3), 10 * episode + t, np.uint8)).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        replace_column(lerobot_folder, episode, "wrist", pa.array(rows))
    dataset = open_dataset(lerobot_folder, cameras=["wrist"])
    clip = dataset.clip(2, 3, 3)
    assert clip.images["wrist"][:, 0, 0, 0].tolist() == [23, 24, 25]


def test_an_image_that_is_absent_is_named(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, features={"wrist": {"dtype": "image", "shape": [4, 6, 3]}})
    for episode, length in enumerate((5, 2, 7)):
        rows = pa.array([{"bytes": None, "path": "images/absent.png"}] * length)
        replace_column(lerobot_folder, episode, "wrist", rows)
    with pytest.raises(ValueError, match=r"image of wrist in .*000000\.parquet, row 0 is absent"):
        open_dataset(lerobot_folder)


def test_features_that_are_no_observation_are_not_vectors(lerobot_folder: Path) -> None:
    features = {
        "annotation.valid": {"dtype": "int64", "shape": [1]},
        "observation.absent": {"dtype": "float32", "shape": [3]},
    }
    change_info(lerobot_folder, features=features)
    for episode, length in enumerate((5, 2, 7)):
        replace_column(lerobot_folder, episode, "annotation.valid", pa.array([1] * length))
    info = LeRobotReader(lerobot_folder).info
    assert set(info.fields) == {CAMERA, "observation.state"}
    assert "annotation.valid: is int64, not a vector of floats" in info.skipped
    assert "observation.absent: declared, but in no data file" in info.skipped


def test_actions_of_another_width_leave_their_episode_out(lerobot_folder: Path) -> None:
    replace_column(lerobot_folder, 1, "action", pa.array([[1.0, 2.0, 3.0]] * 2))
    info = LeRobotReader(lerobot_folder).info
    assert [e.num_actions for e in info.episodes] == [5, 7]
    reason = "episode 1: 2 rows with 3 values in 'action', other episodes have 2"
    assert reason in info.skipped


def test_rows_of_several_lengths_are_refused_when_read(lerobot_folder: Path) -> None:
    replace_column(lerobot_folder, 1, "action", pa.array([[1.0, 2.0], [1.0]]))
    with pytest.raises(
        ValueError, match=r"action in .*000001\.parquet has rows of several lengths"
    ):
        open_dataset(lerobot_folder).spec()


def test_absent_numbers_are_refused_when_read(lerobot_folder: Path) -> None:
    replace_column(lerobot_folder, 1, "action", pa.array([[1.0, 2.0], [1.0, None]]))
    with pytest.raises(ValueError, match=r"action of episode_000001 .* not finite at row 1"):
        open_dataset(lerobot_folder).spec()


@pytest.mark.parametrize(
    ("version", "todo"),
    [
        ("v1.6", "; convert it with the lerobot release that has convert_"),
        ("v4.0", "$"),
        (None, "$"),
    ],
)
def test_other_versions_are_refused(lerobot_folder: Path, version: str | None, todo: str) -> None:
    change_info(lerobot_folder, codebase_version=version)
    supported = rf"version {version}; supported are v2\.0, v2\.1 and v3\.0{todo}"
    with pytest.raises(ValueError, match=supported):
        open_dataset(lerobot_folder)


def test_a_newer_minor_version_is_read_with_a_note(lerobot_folder: Path) -> None:
    change_info(lerobot_folder, codebase_version="v2.2")
    info = LeRobotReader(lerobot_folder).info
    assert info.skipped[0] == "version v2.2: newer than is known, read as v2.1"
    assert len(info.episodes) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"info\.json is not JSON .*; it has 0 bytes"),
        ('{"fps": ', r"info\.json is not JSON"),
        ("{}", r"info\.json has no 'features'"),
        ('{"codebase_version": "v2.1", "features": {"state": {}}}', r"no feature 'action', only"),
    ],
)
def test_damaged_metadata_is_refused(lerobot_folder: Path, content: str, message: str) -> None:
    (lerobot_folder / "meta/info.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        open_dataset(lerobot_folder)


def test_a_damaged_list_of_episodes_is_refused(lerobot_folder: Path) -> None:
    file = lerobot_folder / "meta/episodes.jsonl"
    file.write_text(file.read_text()[:-10])
    with pytest.raises(ValueError, match=r"episodes\.jsonl line 3 is damaged"):
        open_dataset(lerobot_folder)


def test_without_pyarrow_it_says_what_to_install(
    lerobot_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"need pyarrow; .*scd-wm\[lerobot\]"):
        open_dataset(lerobot_folder)
