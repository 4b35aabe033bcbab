"""The store's own reading and writing of zarr, against zarr's."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from numcodecs import zstd

from scd_wm.datasets.store import array_name, chunk_rows
from scd_wm.datasets.store_check import damage_of
from scd_wm.datasets.store_file import EpisodeFile, EpisodeWriter
from scd_wm.datasets.store_shard import ABSENT

ROOT = Path(__file__).parents[2]
DTYPES = ["bool", "uint8", "int8", "int16", "int64", "uint64", "float16", "float32", "float64"]


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return random bits as values of a dtype, NaN and infinities among them."""
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(shape)


def write(path: Path, arrays: dict[str, np.ndarray], parts: int = 5, level: int = 3) -> EpisodeFile:
    """Write an episode's file, each array in parts of so many rows."""
    writer = EpisodeWriter(path, level)
    for key, rows in arrays.items():
        writer.add(key, len(rows), (rows[i : i + parts] for i in range(0, len(rows), parts)))
    writer.close({"sha256": writer.checksums})
    return EpisodeFile(path)


@pytest.mark.parametrize("level", [0, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (1000, 3), (21, 5, 7, 3), (7, 2, 3, 1), (8, 4, 4, 3)])
def test_what_is_written_zarr_reads_too(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], level: int
) -> None:
    expected = values(dtype, shape)
    file = write(tmp_path / "e.zarr.zip", {"x": expected}, level=level)
    with zarr.storage.ZipStore(file.path, mode="r") as files:
        array = zarr.open_group(files, mode="r")["x"]
        assert isinstance(array, zarr.Array)
        theirs = np.asarray(array[...])
    mine = file.read("x", 0, len(expected))
    for found in (mine, theirs):
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()
    assert damage_of(file.path) == []


@pytest.mark.parametrize("level", [0, 3])
def test_any_rows_are_those_of_the_whole(tmp_path: Path, level: int) -> None:
    images, vectors = values("uint8", (37, 4, 6, 3)), values("float64", (50_000, 3))
    file = write(
        tmp_path / "e.zarr.zip", {"image": images, "vector": vectors}, parts=1111, level=level
    )
    num_chunks = {key: len(array.places) for key, array in file.arrays.items()}
    assert num_chunks == {"image": 5 if level else 10, "vector": 5}
    for start in range(38):
        for stop in range(start, 38):
            assert (file.read("image", start, stop) == images[start:stop]).all()
    for start, stop in np.random.default_rng(0).integers(0, 50_001, (40, 2)).tolist():
        start, stop = min(start, stop), max(start, stop)
        assert file.read("vector", start, stop).tobytes() == vectors[start:stop].tobytes()


def test_the_parts_in_which_rows_come_make_no_difference(tmp_path: Path) -> None:
    images = values("uint8", (37, 4, 6, 3))
    files = [write(tmp_path / f"{n}.zip", {"x": images}, n).path for n in (1, 3, 8, 20, 37)]
    assert len({file.read_bytes() for file in files}) == 1


def test_big_endian_values_keep_their_value(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=">f4").reshape(6, 2)
    found = write(tmp_path / "e.zip", {"x": rows}).read("x", 0, 6)
    assert found.dtype == np.float32
    assert (found == rows).all()


@pytest.mark.parametrize("key", ["robot0/eef_pos", "..", ".", "zarr.json", "a b", "é", "a%2Fb"])
def test_any_key_has_an_array_of_its_own(tmp_path: Path, key: str) -> None:
    others = {"robot0", "a", "x", "a/b", "eef_pos"}
    arrays = {name: values("float32", (4, n + 1)) for n, name in enumerate([key, *others])}
    file = write(tmp_path / "e.zip", arrays)
    for name, rows in arrays.items():
        assert file.read(name, 0, 4).tobytes() == rows.tobytes()
    with zarr.storage.ZipStore(file.path, mode="r") as files:
        array = zarr.open_group(files, mode="r")[array_name(key)]
        assert isinstance(array, zarr.Array)
        assert np.asarray(array[...]).tobytes() == arrays[key].tobytes()
        assert "/" not in array_name(key)


def test_a_key_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="a key without a name cannot be stored; rename it"):
        array_name("")


@pytest.mark.parametrize(
    ("rows", "parts", "message"),
    [
        (4, [np.zeros((3, 2))], "x ends after 3 rows, expected 4"),
        (4, [np.zeros((3, 2))] * 2, "x has more rows than the 4 of its episode"),
        (4, [np.zeros((3, 2)), np.zeros((1, 3))], r"x has rows of float64 \(3,\) from row 3 on"),
        (4, [np.zeros((3, 2)), np.zeros((1, 2), "f4")], r"x has rows of float32 \(2,\) from row 3"),
        (4, [], "x ends after 0 rows, expected 4"),
        (4, [np.zeros((4, 0))], r"x has float64 of shape \(4, 0\), expected numbers"),
        (4, [np.full((4, 1), "a")], r"x has <U1 of shape \(4, 1\), expected numbers"),
        (4, [np.full((4, 1), None)], r"x has object of shape \(4, 1\), expected numbers"),
    ],
)
def test_rows_other_than_announced_are_refused(
    tmp_path: Path, rows: int, parts: list[np.ndarray], message: str
) -> None:
    writer = EpisodeWriter(tmp_path / "e.zip", level=3)
    with pytest.raises(ValueError, match=message):
        writer.add("x", rows, parts)
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_large_images_come_in_smaller_chunks() -> None:
    assert chunk_rows((100, 64, 64, 3), 1, level=3) == 8
    assert chunk_rows((100, 1080, 1920, 3), 1, level=3) == 5
    assert chunk_rows((100, 4096, 5461, 3), 1, level=3) == 1
    for level in (0, 3):
        assert chunk_rows((10, 7), 8, level) == 10
        assert chunk_rows((10**6, 8), 8, level) == 4096


def test_images_that_are_not_compressed_come_in_smaller_chunks() -> None:
    assert chunk_rows((100, 64, 64, 3), 1, level=0) == 4
    assert chunk_rows((100, 128, 128, 3), 1, level=0) == 2
    assert chunk_rows((100, 480, 640, 3), 1, level=0) == 1


@pytest.mark.parametrize("level", [0, 3])
def test_long_reads_are_done_in_parts(
    tmp_path: Path, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = values("uint8", (2100, 2, 2, 3))
    file = write(tmp_path / "e.zip", {"x": images}, parts=500, level=level)
    assert (file.read("x", 1, 2099) == images[1:2099]).all()  # more buffers than a call takes
    monkeypatch.setattr("scd_wm.datasets.store_shard.RUN_BYTES", 200)
    assert (file.read("x", 1, 2099) == images[1:2099]).all()


@pytest.mark.parametrize("level", [0, 3])
def test_chunks_that_are_not_stored_or_lie_elsewhere_are_read_right(
    tmp_path: Path, level: int
) -> None:
    images = values("uint8", (21, 2, 2, 3))
    stored = write(tmp_path / "e.zip", {"x": images}, level=level)
    array = stored.arrays["x"]
    places, expected = array.places.copy(), images.copy()
    rows = array.layout.rows
    places[1] = ABSENT
    expected[rows : 2 * rows] = 0
    with stored.path.open("rb") as file:
        moved = replace(array, places=places)
        for start, stop in ((0, 21), (rows, 2 * rows), (rows - 1, 21), (0, rows + 1)):
            found = moved.read(file.fileno(), start, stop)
            assert (found == expected[start:stop]).all()
        swapped = replace(array, places=array.places[[1, 0, *range(2, len(array.places))]])
        order = [*range(rows, 2 * rows), *range(rows), *range(2 * rows, 21)]
        assert (swapped.read(file.fileno(), 0, 21) == images[order]).all()


@pytest.mark.parametrize("level", [0, 3])
def test_a_chunk_that_is_cut_short_is_damaged(tmp_path: Path, level: int) -> None:
    file = write(tmp_path / "e.zip", {"x": values("uint8", (21, 8, 8, 3))}, level=level)
    array = file.arrays["x"]
    end = array.offset + int(array.places[-1].sum())
    os.truncate(file.path, end - 1)
    first = (len(array.places) - 1) * array.layout.rows
    with pytest.raises(ValueError, match=f"checksum of rows {first} to 20 does not agree"):
        file.read("x", 0, 21)
    assert file.read("x", 0, first).shape == (first, 8, 8, 3)


def replace_chunk(path: Path, chunk: bytes) -> None:
    """Put another chunk, with right checksums, into a file with one array "x" of one chunk."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in members if "/c/" in name)
    data = chunk + google_crc32c.value(chunk).to_bytes(4, "little")
    index = np.array([0, len(data)], "<u8").tobytes()
    members[name] = data + index + google_crc32c.value(index).to_bytes(4, "little")
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def test_a_chunk_of_another_size_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path / "e.zip", {"x": values("uint8", (8, 2, 2, 3))}).path
    bomb = bytes(zstd.compress(np.zeros(2**28, np.uint8), 3))
    for chunk, size in [(bomb, 2**28), (bytes(zstd.compress(b"short", 3)), 5), (b"no zstd", -1)]:
        replace_chunk(path, chunk)
        with pytest.raises(ValueError, match=f"x in .*e.zip rows 0 to 7 unpack to {size} bytes"):
            EpisodeFile(path).read("x", 0, 8)
    right = bytes(zstd.compress(np.arange(96, dtype=np.uint8), 3))
    replace_chunk(path, right[:-3])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        EpisodeFile(path).read("x", 0, 8)
    replace_chunk(path, right)
    assert EpisodeFile(path).read("x", 0, 8).ravel().tolist() == list(range(96))
    assert damage_of(path) == [f"x in {path} differs from its source"]


def test_a_chunk_that_is_not_compressed_has_a_checksum_too(tmp_path: Path) -> None:
    path = write(tmp_path / "e.zip", {"x": values("uint8", (4, 4, 2, 3))}, level=0).path
    replace_chunk(path, bytes(95))
    with pytest.raises(ValueError, match=r"x in .*e\.zip rows 0 to 3 unpack to 95 bytes, not 96"):
        EpisodeFile(path).read("x", 0, 4)
    replace_chunk(path, bytes([1, 2, 3, 4]) * 24)
    data = path.read_bytes()
    path.write_bytes(data.replace(bytes([1, 2, 3, 4]) * 3, bytes([1, 2, 3, 5]) * 3, 1))
    with pytest.raises(ValueError, match="the checksum of rows 0 to 3 does not agree"):
        EpisodeFile(path).read("x", 2, 3)


@pytest.mark.parametrize(
    "change",
    [{"shape": [8, 2, 2, 2**40]}, {"data_type": "object"}, {"codecs": []}, {"chunk_grid": None}],
)
def test_other_metadata_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write(tmp_path / "e.zip", {"x": values("uint8", (8, 2, 2, 3))}).path
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    metadata = json.loads(members["x/zarr.json"]) | change
    members["x/zarr.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    with pytest.raises(ValueError, match="is damaged, or written by another program"):
        EpisodeFile(path)


class Sink:
    """Counts what is written."""

    size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)


def test_writing_takes_memory_for_a_chunk_alone() -> None:
    code = (
        "import resource, numpy as np\n"
        "from tests.datasets.test_store import Sink\n"
        "from scd_wm.datasets.store import Layout\n"
        "from scd_wm.datasets.store_shard import ShardWriter\n"
        "layout = Layout((2000, 480, 640, 3), np.dtype('uint8'), 8, 1)\n"
        "writer = ShardWriter(Sink(), layout)\n"
        "part, before = np.zeros((4, 480, 640, 3), 'u1'), None\n"
        "for start in range(0, 2000, 4):\n"
        "    writer.add(part)\n"
        "    before = before or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "writer.finish()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert int(run.stdout) < 50_000, run.stderr  # KiB; the images take 1.8 GB
