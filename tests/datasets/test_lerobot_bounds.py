"""Images in tables of LeRobot data sets, and files that claim what would fill memory."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.lerobot_images import stored_images
from scd_wm.datasets.lerobot_table import RecentRows, Table
from tests.datasets.write_lerobot import image_column, write_table


def stored(folder: Path, item: object) -> np.ndarray:
    """Return the image that one row holds."""
    folder.mkdir(exist_ok=True)
    table = Table.open(write_table(folder / "data.parquet", wrist=pa.array([item])))
    return next(stored_images(table, "wrist", 0, 1, folder))


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file that claims a size and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + end


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((50000, 50000), r"is too large .*2500000000 pixels"),  # Pillow's error
        ((10000, 9000), r"is too large .*90000000 pixels"),  # what Pillow only warns of
        ((5000, 5000), r"claims 1 images of 75000000 bytes"),
        ((50, 50), r"is absent or damaged"),
    ],
)
def test_an_image_is_not_believed_to_be_of_any_size(
    tmp_path: Path, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"image of wrist in .*data\.parquet, row 0.*{message}"):
        stored(tmp_path, {"bytes": png_header(*size), "path": None})


@pytest.mark.parametrize("cut_at", [10, 40, 60, -200])
def test_an_image_cut_short_is_an_error(tmp_path: Path, cut_at: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    content = image_column(noise[None])[0].as_py()["bytes"]
    np.testing.assert_array_equal(stored(tmp_path, {"bytes": content}), noise)
    with pytest.raises(ValueError, match=r"data\.parquet, row 0 is absent or damaged"):
        stored(tmp_path, {"bytes": content[:cut_at]})


@pytest.mark.parametrize("item", [None, {"bytes": None, "path": None}, {"bytes": b"", "path": ""}])
def test_a_row_without_an_image_is_an_error(tmp_path: Path, item: object) -> None:
    column = pa.array([item], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = Table.open(write_table(tmp_path / "data.parquet", wrist=column))
    with pytest.raises(ValueError, match=r"row 0 is absent or damaged \(expected 'bytes' or"):
        next(stored_images(table, "wrist", 0, 1, tmp_path))


def test_a_path_is_followed_inside_the_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    picture = np.full((4, 6, 3), 7, np.uint8)
    for file in (folder / "images/0.png", tmp_path / "0.png"):
        Image.fromarray(picture).save(file)
    np.testing.assert_array_equal(stored(folder, {"bytes": None, "path": "images/0.png"}), picture)
    for path in ("../0.png", str(tmp_path / "0.png"), "images"):
        with pytest.raises(ValueError, match=rf"row 0 is absent or damaged \(no file {path}"):
            stored(folder, {"bytes": None, "path": path})


def test_depth_is_no_picture(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6), 3000, np.uint16)).save(buffer, "PNG")
    with pytest.raises(ValueError, match=r"pixels are 'I;16', not colours or grey of 8 bits"):
        stored(tmp_path, {"bytes": buffer.getvalue()})


def test_more_rows_than_anybody_records_are_refused(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.parquet", x=pa.array(np.zeros(10**7 + 1, np.int8)))
    assert file.stat().st_size < 10**5
    with pytest.raises(ValueError, match=r"a\.parquet claims 10000001 rows; allowed are 10000000"):
        Table.open(file)


def test_a_row_of_more_values_than_any_vector_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scd_wm.datasets.lerobot_table.MAX_VECTOR_BYTES", 4 * 2**20)
    values = pa.array(np.zeros(2**20 + 1, bool))
    rows = pa.ListArray.from_arrays(pa.array([0, 2**20 + 1], pa.int32()), values)
    file = write_table(tmp_path / "a.parquet", x=rows)
    with pytest.raises(ValueError, match=r"x in .*a\.parquet claims 1048577 values"):
        Table.open(file)


def test_a_column_that_unpacks_to_more_than_fits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scd_wm.datasets.lerobot_table.MAX_CHUNK_BYTES", 2**20)
    with pytest.raises(ValueError, match=r"wrist in .*data\.parquet claims that \d+ bytes unpack"):
        stored(tmp_path, {"bytes": bytes(2**21)})
    noise = np.random.default_rng(0).bytes(2**21)  # no bomb: as large packed
    with pytest.raises(ValueError, match=r"row 0 is absent or damaged"):
        stored(tmp_path, {"bytes": noise})


def test_a_wide_column_is_bounded_by_its_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scd_wm.datasets.limits.MAX_VECTOR_BYTES", 100)
    file = write_table(tmp_path / "a.parquet", x=pa.array(np.zeros((3, 5)).tolist()))
    with pytest.raises(ValueError, match=r"x in .*a\.parquet claims shape \(3, 5\), 120 bytes"):
        RecentRows().read(Table.open(file), "x", 0, 3)
    monkeypatch.setattr("scd_wm.datasets.lerobot_table.KEPT_BYTES", 0)
    assert RecentRows().read(Table.open(file), "x", 1, 3).shape == (2, 5)


@pytest.mark.parametrize("fixture", ["lerobot_folder", "lerobot_v3_folder"])
def test_more_episodes_than_anybody_records_are_refused(
    fixture: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(fixture)
    monkeypatch.setattr("scd_wm.datasets.limits.MAX_EPISODES", 2)
    with pytest.raises(ValueError, match=r"claims 3 episodes; allowed are 2"):
        open_dataset(folder)


def test_metadata_larger_than_any_is_refused(lerobot_folder: Path) -> None:
    with (lerobot_folder / "meta/info.json").open("r+b") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(ValueError, match=r"info\.json has 16777217 bytes; allowed are 16777216"):
        open_dataset(lerobot_folder)
