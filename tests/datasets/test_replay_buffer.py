"""Diffusion-policy replay buffers: what is read, what is skipped and what is refused."""

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.reader import Reader
from scd_wm.datasets.replay_buffer import is_replay_buffer
from tests.datasets.write_replay_buffer import (
    buffer_arrays,
    write_replay_buffer,
)

ROWS = 14  # of the three episodes together


def arrays_with(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the usual arrays with some replaced, added or, where None, left out."""
    return {k: v for k, v in (buffer_arrays() | changes).items() if v is not None}


def write_reader(tmp_path: Path, **changes: np.ndarray | None) -> Reader:
    return open_reader(write_replay_buffer(tmp_path / "x.zarr", arrays_with(**changes)))


def notes(reader: Reader, start: str) -> list[str]:
    """Return the lines on what was skipped that begin so."""
    return [line for line in reader.info.skipped if line.startswith(start)]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["x.zarr", "x.zarr.zip", "misnamed.zip"])
def test_folders_and_zip_files_of_both_versions(
    tmp_path: Path, zarr_format: Literal[2, 3], name: str
) -> None:
    reader = open_reader(write_replay_buffer(tmp_path / name, zarr_format=zarr_format))
    expected = buffer_arrays()
    info = reader.info
    assert info.format == "diffusion-policy replay buffer"
    assert (info.skipped, info.fps, info.action_dim) == ((), None, 2)
    assert info.outcomes == ("reward", "success")
    assert [episode.name for episode in info.episodes] == ["episode_0", "episode_1", "episode_2"]
    for key in ("img", "state", "action", "reward", "success"):
        for start, stop in [(0, 7), (2, 5), (3, 3)]:
            rows = expected[key][7 + start : 7 + stop]
            np.testing.assert_array_equal(reader.read(2, key, start, stop), rows)


def test_a_zipped_folder_is_read_and_a_name_does_not_matter(tmp_path: Path) -> None:
    write_replay_buffer(tmp_path / "parent/buffer.zarr")
    archive = shutil.make_archive(str(tmp_path / "upload"), "zip", tmp_path / "parent")
    renamed = Path(archive).rename(tmp_path / "upload.data")
    np.testing.assert_array_equal(
        open_reader(renamed).read(1, "img", 0, 2), buffer_arrays()["img"][5:7]
    )


def test_a_folder_without_the_metadata_of_its_groups_is_read(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr")
    for file in path.rglob(".zgroup"):
        file.unlink()
    assert len(open_reader(path).info.episodes) == 3


def test_the_store_of_this_package_is_none(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "x", zarr_format=3, attributes={"format": "scd_wm store"})
    assert not is_replay_buffer(tmp_path / "x")
    root.attrs["format"] = "something else"
    assert is_replay_buffer(tmp_path / "x")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("top", [1, 255])
def test_float_images_give_back_the_pixels(tmp_path: Path, dtype: str, top: int) -> None:
    pixels = buffer_arrays()["img"]
    pixels[0, 0, 0] = 255
    stored = (pixels.astype("f8") / (255 / top)).astype(dtype)
    reader = write_reader(tmp_path, img=stored)
    np.testing.assert_array_equal(reader.read(0, "img", 0, 5), pixels[:5])
    assert f"taken to go from 0 to {top}" in reader.info.metadata["arrays"]["img"]


def test_dark_float_images_are_told_by_a_value_above_one(tmp_path: Path) -> None:
    dark = np.minimum(buffer_arrays()["img"], 2).astype("f4")
    reader = write_reader(tmp_path, img=dark)
    np.testing.assert_array_equal(reader.read(0, "img", 0, 5), dark[:5])


def test_float_images_outside_their_range_are_refused_where_they_are(tmp_path: Path) -> None:
    for value, found in [(300.0, "300"), (np.nan, "nan"), (np.inf, "inf"), (-3.0, "-3")]:
        stored = buffer_arrays()["img"].astype("f4")
        stored[9, 3, 3, 0] = value  # in the third chunk of four, not among those looked at
        reader = write_reader(tmp_path, img=stored)
        assert reader.read(0, "img", 0, 4).any()
        with pytest.raises(ValueError, match=rf"rows 8 to 10 of data/img has values .*{found}"):
            reader.read(2, "img", 0, 4)
        shutil.rmtree(tmp_path / "x.zarr")


def test_float_images_below_zero_are_skipped(tmp_path: Path) -> None:
    reader = write_reader(tmp_path, img=buffer_arrays()["img"].astype("f4") / 127.5 - 1)
    assert notes(reader, "data/img: float images with values from -1 to ")
    assert set(reader.info.fields) == {"state"}


def test_images_with_channels_first_are_turned(tmp_path: Path) -> None:
    pixels = buffer_arrays()["img"]
    reader = write_reader(tmp_path, img=np.moveaxis(pixels, -1, 1))
    assert reader.info.fields["img"].shape == (32, 48, 3)
    np.testing.assert_array_equal(reader.read(2, "img", 1, 4), pixels[8:11])
    assert "channels first" in reader.info.metadata["arrays"]["img"]


def test_several_cameras_and_vectors_of_every_shape(tmp_path: Path) -> None:
    pixels, numbers = buffer_arrays()["img"], np.arange(ROWS * 18).reshape(ROWS, 9, 2)
    reader = write_reader(
        tmp_path,
        camera_1=pixels[:, ::-1],
        keypoint=numbers.astype("f4"),
        n_contacts=numbers[:, 0, :1].astype("i8"),
        angle=numbers[:, 0, 0].astype(">f8"),
        depth=np.zeros((ROWS, 32, 48), "f4"),
        mask=np.zeros((ROWS, 32, 48, 1), "u1"),
        label=np.zeros((ROWS, 4, 3, 5), "i4"),
    )
    fields = reader.info.fields
    assert {k: (f.shape, f.dtype, f.kind) for k, f in fields.items()} == {
        "angle": ((1,), "float64", "vector"),
        "camera_1": ((32, 48, 3), "uint8", "image"),
        "img": ((32, 48, 3), "uint8", "image"),
        "keypoint": ((18,), "float32", "vector"),
        "label": ((60,), "int32", "vector"),
        "n_contacts": ((1,), "int64", "vector"),
        "state": ((2,), "float32", "vector"),
    }
    np.testing.assert_array_equal(reader.read(0, "keypoint", 1, 3), numbers[1:3].reshape(2, 18))
    assert reader.read(0, "angle", 0, 2).dtype == np.float64
    assert reader.info.metadata["arrays"]["keypoint"] == "(9, 2) a row, read as a vector of 18"
    assert [line.split(": ")[0] for line in reader.info.skipped] == ["data/depth", "data/mask"]


def test_an_action_of_one_value_may_have_no_axis(tmp_path: Path) -> None:
    reader = write_reader(tmp_path, action=np.arange(ROWS, dtype="f8"))
    assert reader.info.action_dim == 1
    assert reader.read(1, "action", 0, 2).tolist() == [[5], [6]]


def test_umi_recordings_without_actions_are_refused_with_what_they_have(tmp_path: Path) -> None:
    arrays = {
        "camera0_rgb": buffer_arrays()["img"],
        "robot0_eef_pos": np.zeros((ROWS, 3), "f4"),
        "robot0_gripper_width": np.zeros((ROWS, 1), "f4"),
    }
    path = write_replay_buffer(tmp_path / "umi.zarr.zip", arrays)
    with pytest.raises(
        ValueError,
        match=r"umi\.zarr\.zip has no array data/action, only .*'robot0_eef_pos': \(14, 3\)"
        r".*write them to data/action, \(N, A\)",
    ):
        open_reader(path)


ENDS: list[tuple[Any, str]] = [
    (np.array([5.0, 7, 14]), "float64 of shape"),
    (np.array([[5, 7, 14]]), r"int64 of shape \(1, 3\)"),
    (np.array([5, 14, 7]), "falls from 14 to 7 at episode 2"),
    (np.array([-5, 7, 14]), "falls from 0 to -5 at episode 0"),
    (np.array([0, 0]), "holds no episode"),
    (np.array([10**12]), "claims shape"),
    (np.array([2**63], "u8"), "falls from 0"),
    (np.array([15]), "no episode whose actions are stored: data/action"),
]


@pytest.mark.parametrize(("ends", "message"), ENDS)
def test_ends_of_episodes_that_cannot_be(tmp_path: Path, ends: np.ndarray, message: str) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr", ends=ends)
    with pytest.raises(ValueError, match=rf"x\.zarr.*{message}"):
        open_reader(path)


def test_no_ends_at_all(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr")
    (path / "meta/episode_ends/.zarray").write_text(
        json.dumps({"shape": [0], "chunks": [1], "dtype": "<i8", "order": "C", "zarr_format": 2})
    )
    with pytest.raises(ValueError, match="holds no episode"):
        open_reader(path)
    (path / "meta/episode_ends/.zarray").write_text(
        json.dumps(
            {"shape": [2**40], "chunks": [9], "dtype": "<i8", "order": "C", "zarr_format": 2}
        )
    )
    with pytest.raises(ValueError, match="claims 1099511627776 episodes"):
        open_reader(path)
    shutil.rmtree(path / "meta/episode_ends")
    with pytest.raises(ValueError, match=r"is zarr but no replay buffer: it has no array meta/ep"):
        open_reader(path)


def test_empty_episodes_and_rows_after_the_last_are_counted(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr", ends=np.array([0, 5, 5, 9]))
    reader = open_reader(path)
    assert [e.num_actions for e in reader.info.episodes] == [5, 4]
    assert reader.info.skipped[0] == "2 of 4 episodes: they have no rows"
    assert notes(reader, "rows after the end of the last episode, at 9: {'action': 5, ")
    assert reader.read(1, "action", 0, 1).tolist() == [[1, 0]]


def test_an_array_that_is_shorter_lacks_the_episodes_beyond_it(tmp_path: Path) -> None:
    usual = buffer_arrays()
    reader = write_reader(tmp_path, img=usual["img"][:10], success=usual["success"][:12])
    assert [e.missing for e in reader.info.episodes] == [frozenset(), frozenset(), {"img"}]
    assert reader.info.outcomes == ("reward",)
    assert notes(reader, "data/img: rows of 1 of 3 episodes are not stored (episode_2): the array")
    shutil.rmtree(tmp_path / "x.zarr")
    reader = write_reader(tmp_path, action=usual["action"][:10])
    assert [e.name for e in reader.info.episodes] == ["episode_0", "episode_1"]


def test_a_missing_chunk_costs_the_episodes_it_touches(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr")
    (path / "data/img/0.0.0.0").unlink()  # rows 0 to 3
    (path / "data/action/3.0").unlink()  # rows 12 and 13
    reader = open_reader(path)
    assert [e.name for e in reader.info.episodes] == ["episode_0", "episode_1"]
    assert [e.missing for e in reader.info.episodes] == [{"img"}, set()]
    assert notes(reader, "data/action: rows of 1 of 3 episodes are not stored (episode_2)")
    assert notes(reader, "data/img: rows of 1 of 3 episodes are not stored (episode_0)")


def test_constant_chunks_left_out_by_zarr_3_are_not_filled_in(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr")
    zarr.open_group(path, mode="r+").require_group("data").create_array(
        "n_contacts", shape=(ROWS, 1), dtype="i8", chunks=(4, 1)
    )[:] = np.zeros((ROWS, 1), np.int64)
    reader = open_reader(path)
    assert "n_contacts" not in reader.info.fields
    assert notes(reader, "data/n_contacts: rows of 3 of 3 ")[0].endswith("write_empty_chunks)")


def test_a_damaged_chunk_names_its_file_when_it_is_read(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr")
    chunk = path / "data/img/1.0.0.0"
    content = bytearray(chunk.read_bytes())
    content[20:] = b"\x99" * len(content[20:])
    chunk.write_bytes(content)
    dataset = open_dataset(path)
    with pytest.raises(ValueError, match=r"x\.zarr: chunk data/img/1\.0\.0\.0 is damaged \(blosc"):
        dataset.clip(0, 3, 2)


def test_arrays_that_cannot_be_read_are_skipped_and_an_action_is_refused(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr")
    for name, message in [("state", r"data/state: .*expected plain numbers"), ("action", "")]:
        file = path / f"data/{name}/.zarray"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "|O"}))
        if message:
            assert notes(open_reader(path), "data/state: ")
            assert "state" not in open_reader(path).info.fields
    with pytest.raises(ValueError, match=r"data/action has dtype '\|O'; expected plain numbers"):
        open_reader(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": np.zeros((ROWS, 2, 2))}, r"data/action has shape \(14, 2, 2\); expected"),
        ({"reward": np.zeros((ROWS, 3))}, r"data/reward has shape \(14, 3\); expected \(N,\)"),
        ({"img": None, "state": None}, "has neither images nor vectors"),
    ],
)
def test_shapes_that_cannot_be_used(
    tmp_path: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_reader(tmp_path, **changes)


def test_absurd_images_are_skipped(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr")
    file = path / "data/img/.zarray"
    change = {"shape": [14, 2**20, 2**20, 3], "chunks": [1, 16, 16, 3]}
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert "claims 7 images of 3298534883328 bytes" in notes(open_reader(path), "data/img")[0]


def test_a_cut_zip_file_says_so(tmp_path: Path) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr.zip")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"x\.zarr\.zip is a zip file cut short or damaged"):
        open_reader(path)


def test_another_zip_file_is_no_replay_buffer(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert not is_replay_buffer(tmp_path / "x.zip")


def test_the_done_of_a_buffer_is_no_outcome(tmp_path: Path) -> None:
    reader = write_reader(tmp_path, done=np.zeros(ROWS, bool))
    assert notes(reader, "data/done: not used as an outcome")
    assert "done" not in reader.info.outcomes


def test_jpeg_xl_asks_for_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_replay_buffer(tmp_path / "x.zarr")
    file = path / "data/img/.zarray"
    change = {"compressor": {"id": "imagecodecs_jpegxl"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    line = notes(open_reader(path), "data/img")[0]
    assert line.endswith("needs imagecodecs; install the extra: pip install 'scd-wm[jpegxl]'")


def test_jpeg_xl_images_give_back_the_pixels(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs the extra 'jpegxl'")
    path, pixels = write_replay_buffer(tmp_path / "x.zarr"), buffer_arrays()["img"]
    shutil.rmtree(path / "data/img")
    (path / "data/img").mkdir()
    metadata = {
        "zarr_format": 2,
        "shape": list(pixels.shape),
        "chunks": [1, *pixels.shape[1:]],
        "dtype": "|u1",
        "order": "C",
        "compressor": {"id": "imagecodecs_jpegxl", "lossless": True},
    }
    (path / "data/img/.zarray").write_text(json.dumps(metadata))
    for i, picture in enumerate(pixels):
        packed = imagecodecs.jpegxl_encode(picture, lossless=True)
        (path / f"data/img/{i}.0.0.0").write_bytes(packed)
    reader = open_reader(path)
    np.testing.assert_array_equal(reader.read(2, "img", 0, 7), pixels[7:])
    bomb = imagecodecs.jpegxl_encode(np.zeros((4000, 4000, 3), np.uint8), lossless=True)
    for damaged in (bomb, bomb[:50], b"", b"junk"):
        (path / "data/img/7.0.0.0").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"chunk data/img/7\.0\.0\.0 is damaged"):
            reader.read(2, "img", 0, 1)
