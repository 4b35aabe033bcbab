"""Videos that LeRobot v3.0 episodes share, and what may be wrong with them."""

from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.lerobot_episodes import fill_template
from scd_wm.datasets.lerobot_reader import LeRobotReader
from tests.datasets.test_lerobot_v3 import CAMERA, META, VIDEO, names, skipped, times
from tests.datasets.write_lerobot import change_info, change_rows, cut, encode


@pytest.mark.parametrize("column", ["from_timestamp", "chunk_index", "file_index"])
def test_episodes_that_nothing_places_in_a_video_lack_its_camera(
    lerobot_v3_folder: Path, column: str
) -> None:
    name = f"videos/{CAMERA}/{column}"
    change_rows(lerobot_v3_folder / META, values={name: pa.array([0, None])})
    assert names(lerobot_v3_folder) == ["0", "2"]
    change_rows(lerobot_v3_folder / META, drop=name)
    assert names(lerobot_v3_folder) == ["2"]
    assert names(lerobot_v3_folder, cameras=()) == ["0", "1", "2"]
    message = f"{lerobot_v3_folder / META} has no column {name}: its episodes lack {CAMERA}"
    assert message in skipped(lerobot_v3_folder)


def test_the_end_in_a_video_need_not_be_said(lerobot_v3_folder: Path) -> None:
    change_rows(lerobot_v3_folder / META, drop=f"videos/{CAMERA}/to_timestamp")
    assert times(lerobot_v3_folder, 1) == [0, 1]


@pytest.mark.parametrize(
    ("start", "stop", "found"), [(0.5, 0.6, 1), (0.6, 9.0, 1), (99.0, 99.2, 0), (0.5, 0.1, 0)]
)
def test_parts_of_a_video_shorter_than_their_rows_lack_the_camera(
    lerobot_v3_folder: Path, start: float, stop: float, found: int
) -> None:
    values = {
        f"videos/{CAMERA}/from_timestamp": pa.array([0.0, start]),
        f"videos/{CAMERA}/to_timestamp": pa.array([0.5, stop]),
    }
    change_rows(lerobot_v3_folder / META, values=values)
    assert names(lerobot_v3_folder) == ["0", "2"]
    assert skipped(lerobot_v3_folder) == (f"{CAMERA} of episode 1: {found} frames for 2 rows",)


def test_a_damaged_or_absent_video_takes_the_camera_of_its_episodes(
    lerobot_v3_folder: Path,
) -> None:
    cut(lerobot_v3_folder / VIDEO)
    assert names(lerobot_v3_folder) == ["2"]
    lines = skipped(lerobot_v3_folder)
    assert [line.split(":")[0] for line in lines] == [f"{CAMERA} of episode {e}" for e in (0, 1)]
    assert all(f"{VIDEO} is no video or is damaged" in line for line in lines)
    (lerobot_v3_folder / VIDEO).unlink()
    assert names(lerobot_v3_folder) == ["2"]


@pytest.mark.parametrize("absent", ["folder", "damaged"])
def test_without_the_list_of_episodes_there_are_rows_only(
    lerobot_v3_folder: Path, absent: str
) -> None:
    for file in sorted((lerobot_v3_folder / "meta/episodes").rglob("*.parquet")):
        cut(file) if absent == "damaged" else file.unlink()
    assert names(lerobot_v3_folder, cameras=()) == ["0", "1", "2"]
    with pytest.raises(KeyError, match=f"no camera '{CAMERA}'"):
        open_dataset(lerobot_v3_folder, cameras=[CAMERA])
    wanted = {"folder": "meta/episodes: absent", "damaged": f"{META} is damaged"}[absent]
    assert wanted in skipped(lerobot_v3_folder)[0]


@pytest.mark.parametrize(
    "template", ["nowhere/{unknown}.mp4", "broken {", "{chunk_index:0999999999d}", None, 7, "../v"]
)
def test_templates_that_point_nowhere_do_not_matter(
    lerobot_v3_folder: Path, template: object
) -> None:
    change_info(lerobot_v3_folder, data_path=template, video_path=template, chunks_size=0)
    assert times(lerobot_v3_folder, 1) == [0, 1]


def test_a_template_that_would_fill_memory_is_not_filled(tmp_path: Path) -> None:
    for digits in (3, 100):
        (tmp_path / f"{7:0{digits}d}.mp4").touch()
    assert fill_template(tmp_path, "{file:03d}.mp4", {"file": 7}) == tmp_path / "007.mp4"
    assert fill_template(tmp_path, "{file:0100d}.mp4", {"file": 7}) is None


def test_a_template_for_videos_is_followed(lerobot_v3_folder: Path) -> None:
    (lerobot_v3_folder / "videos").rename(lerobot_v3_folder / "films")
    template = "films/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    change_info(lerobot_v3_folder, video_path=template)
    assert times(lerobot_v3_folder, 1) == [0, 1]


def test_a_camera_without_any_video_is_dropped(lerobot_v3_folder: Path) -> None:
    features = {"wrist": {"dtype": "video"}, "hand": {"dtype": "image"}}
    change_info(lerobot_v3_folder, features=features)
    assert set(LeRobotReader(lerobot_v3_folder).info.fields) == {"observation.state", CAMERA}
    assert skipped(lerobot_v3_folder) == (
        f"{lerobot_v3_folder / META} has no column videos/wrist/chunk_index: its episodes lack "
        "wrist",
        f"{lerobot_v3_folder / META.replace('file-000', 'file-001')} has no column "
        "videos/wrist/chunk_index: its episodes lack wrist",
        "wrist: declared, but no episode has a video that can be used",
        "hand: declared, but in no data file",
    )


def test_the_declared_rate_and_codec_do_not_matter(lerobot_v3_folder: Path) -> None:
    declared = {"dtype": "video", "info": {"video.codec": "av1", "video.fps": 30}}
    change_info(lerobot_v3_folder, fps=30, features={CAMERA: declared})
    assert times(lerobot_v3_folder, 1) == [0, 1]
    assert skipped(lerobot_v3_folder) == (
        f"{CAMERA}: video of [10.0] frames a second, meta/info.json says 30 steps: taken as one "
        "frame a step",
    )


@pytest.mark.parametrize("fps", [0, -1, "fast", None, float("inf"), True])
def test_a_rate_that_is_none_is_not_used(lerobot_v3_folder: Path, fps: object) -> None:
    change_info(lerobot_v3_folder, fps=fps)
    assert LeRobotReader(lerobot_v3_folder).info.fps is None
    assert skipped(lerobot_v3_folder)[0].startswith("fps: not used, meta/info.json says")


def test_av1_as_lerobot_writes_it_is_read(lerobot_v3_folder: Path) -> None:
    reader = LeRobotReader(lerobot_v3_folder)
    pictures = np.concatenate([reader.read(e, CAMERA, 0, n) for e, n in enumerate((5, 2))])
    large = pictures.repeat(4, axis=1).repeat(4, axis=2)
    encode(lerobot_v3_folder / VIDEO, large, 10, "libsvtav1", options={"g": "2", "crf": "30"})
    with av.open(str(lerobot_v3_folder / VIDEO)) as container:
        assert container.streams.video[0].codec.name in ("av1", "libdav1d")
    images = LeRobotReader(lerobot_v3_folder).read(1, CAMERA, 0, 2)
    np.testing.assert_allclose(images[..., 1].mean(axis=(1, 2)), [20, 40], atol=6)


def test_one_episode_is_decoded_without_those_that_share_its_video(
    lerobot_v3_folder: Path,
) -> None:
    content = bytearray((lerobot_v3_folder / VIDEO).read_bytes())
    with av.open(str(lerobot_v3_folder / VIDEO)) as container:
        first = next(container.demux(video=0))
        assert first.pos is not None
        content[first.pos : first.pos + first.size] = bytes(first.size)
    (lerobot_v3_folder / VIDEO).write_bytes(content)
    reader = LeRobotReader(lerobot_v3_folder)
    assert len(list(reader.decode(1, CAMERA))) == 2
    with pytest.raises(ValueError, match=rf"{CAMERA} of episode_000000: .*{VIDEO} is damaged"):
        list(reader.decode(0, CAMERA))
