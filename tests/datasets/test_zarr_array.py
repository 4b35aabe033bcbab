"""Arrays read without zarr-python, against zarr-python; and what damaged ones say."""

import json
import os
import pickle
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module  # of a package without type information
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import ZipStore

from scd_wm.datasets.zarr_array import ZarrArray
from scd_wm.datasets.zarr_files import FolderFiles, ZipFiles, open_files

numcodecs = import_module("numcodecs")
SHAPE, CHUNKS = (11, 5, 3), (4, 2, 3)
V2: list[dict[str, Any]] = [
    {"compressors": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.NOSHUFFLE)},
    {"compressors": numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE)},
    {"compressors": numcodecs.Zstd(3)},
    {"compressors": numcodecs.LZ4()},
    {"compressors": numcodecs.GZip()},
    {"compressors": numcodecs.Zlib()},
    {"compressors": numcodecs.BZ2()},
    {"compressors": numcodecs.LZMA()},
    {"compressors": None},
    {"compressors": None, "order": "F"},
    {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    {"chunks": (20, 7, 3)},
]
V3: list[dict[str, Any]] = [
    {},
    {"compressors": None},
    {"compressors": BloscCodec(cname="zstd", shuffle="bitshuffle")},
    {"compressors": GzipCodec()},
    {"compressors": ZstdCodec(level=1, checksum=True)},
    {"compressors": (ZstdCodec(), Crc32cCodec())},
    {"compressors": (Crc32cCodec(), ZstdCodec())},
    {"filters": TransposeCodec(order=(2, 0, 1))},
    {"serializer": BytesCodec(endian="big")},
    {"chunk_key_encoding": {"name": "default", "separator": "."}},
    {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    {"shards": (8, 4, 3)},
    {"shards": (8, 4, 3), "compressors": None, "filters": TransposeCodec(order=(1, 2, 0))},
    {
        "chunks": (8, 4, 3),
        "compressors": None,
        "serializer": ShardingCodec(chunk_shape=(4, 2, 3), index_location="start"),
    },
]
CASES: list[tuple[Literal[2, 3], dict[str, Any]]] = [
    *((2, options) for options in V2),
    *((3, options) for options in V3),
]


def values(dtype: str = "f4", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return (1 + np.arange(np.prod(shape)).reshape(shape) % 97).astype(dtype)


def write(path: Path, zarr_format: Literal[2, 3] = 2, dtype: str = "f4", **options: Any) -> Path:
    """Write `values` as the array "a" of a folder or a zip file."""
    store = ZipStore(path, mode="w") if path.suffix == ".zip" else path
    root = zarr.create_group(store, zarr_format=zarr_format)
    with zarr.config.set({"array.write_empty_chunks": True}):
        array = root.create_array("a", shape=SHAPE, dtype=dtype, **{"chunks": CHUNKS, **options})
        array[:] = values(dtype)
    if isinstance(store, ZipStore):
        store.close()
    return path


def write_changed(path: Path, zarr_format: Literal[2, 3], change: dict[str, Any]) -> Path:
    """Write a folder whose array says something else of itself."""
    file = write(path, zarr_format) / ("a/.zarray" if zarr_format == 2 else "a/zarr.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    return path


def opened(path: Path) -> ZarrArray:
    array = ZarrArray.open(open_files(path), "a")
    assert array is not None
    return array


@pytest.mark.parametrize("suffix", [".zarr", ".zip"])
@pytest.mark.parametrize(("zarr_format", "options"), CASES)
def test_every_range_of_rows_is_what_zarr_python_wrote(
    tmp_path: Path, zarr_format: Literal[2, 3], options: dict[str, Any], suffix: str
) -> None:
    array = opened(write(tmp_path / f"x{suffix}", zarr_format, **options))
    assert array.shape == SHAPE
    expected = values()
    for start, stop in [(0, 11), (0, 1), (3, 5), (4, 8), (7, 11), (10, 11), (6, 6)]:
        found = array.read(start, stop)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected[start:stop])
    everything = array.has_rows(np.array([0, 3, 10, 10]), np.array([11, 5, 11, 12]))
    assert everything.tolist() == [True, True, True, False]


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i8", ">i2", ">f8", "f2", "?", ">u4"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_dtype_of_numbers_is_read(
    tmp_path: Path, zarr_format: Literal[2, 3], dtype: str
) -> None:
    if zarr_format == 3 and dtype.startswith(">"):
        dtype = dtype[1:]  # version 3 has the byte order in a codec
    array = opened(write(tmp_path / "x.zarr", zarr_format, dtype))
    found = array.read(2, 9)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, values(dtype)[2:9])


def test_only_the_chunks_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = opened(write(tmp_path / "x.zarr"))
    read: list[str] = []
    whole = FolderFiles.read

    def spy(self: FolderFiles, key: str, start: int, length: int) -> bytes:
        read.append(key)
        return whole(self, key, start, length)

    monkeypatch.setattr(FolderFiles, "read", spy)
    array.read(5, 8)
    assert read == ["a/1.0.0", "a/1.1.0", "a/1.2.0"]


def test_a_pickled_array_and_a_forked_process_read_the_same(tmp_path: Path) -> None:
    array = opened(write(tmp_path / "x.zip", 3, shards=(8, 4, 3)))
    expected = array.read(0, 11)  # opens the handle of this process
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)).read(0, 11), expected)
    child = os.fork()
    if child == 0:
        os._exit(int(not np.array_equal(array.read(0, 11), expected)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_missing_chunk_is_damage_and_its_rows_are_known(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zarr")
    (path / "a/1.2.0").unlink()
    array = opened(path)
    starts, stops = np.array([0, 3, 4, 7, 8]), np.array([4, 5, 8, 9, 11])
    assert array.has_rows(starts, stops).tolist() == [True, False, False, False, True]
    np.testing.assert_array_equal(array.read(8, 11), values()[8:])
    with pytest.raises(ValueError, match=r"x\.zarr: chunk a/1\.2\.0 is missing"):
        array.read(3, 5)


def test_a_chunk_missing_in_a_shard_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    root = zarr.create_group(path, zarr_format=3)
    array = root.create_array("a", shape=SHAPE, dtype="f4", chunks=CHUNKS, shards=(8, 4, 3))
    array[:2] = values()[:2]
    assert opened(path).read(0, 2)[1, 0, 0] == values()[1, 0, 0]
    with pytest.raises(ValueError, match=r"chunk \(1, 0, 0\) in shard a/c/0/0/0 is missing"):
        opened(path).read(0, 5)


@pytest.mark.parametrize(("zarr_format", "options"), [c for c in CASES if c[1] != {"order": "F"}])
def test_a_cut_chunk_is_refused(
    tmp_path: Path, zarr_format: Literal[2, 3], options: dict[str, Any]
) -> None:
    path = write(tmp_path / "x.zarr", zarr_format, **options)
    for file in path.rglob("*"):
        if file.is_file() and file.name not in ("zarr.json", ".zarray", ".zgroup", ".zattrs"):
            file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"x\.zarr: (chunk|shard) a/.* is damaged"):
        opened(path).read(0, 11)


def bomb(codec: str, num_bytes: int) -> bytes:
    zeros = np.zeros(num_bytes, np.uint8)
    return bytes(numcodecs.get_codec({"id": codec}).encode(zeros))


@pytest.mark.parametrize("codec", ["blosc", "zstd", "lz4", "gzip", "zlib", "bz2", "lzma"])
def test_a_chunk_that_unpacks_to_more_or_less_than_a_chunk_is_refused(
    tmp_path: Path, codec: str
) -> None:
    path = write(tmp_path / "x.zarr", 2, compressors=numcodecs.get_codec({"id": codec}))
    size = int(np.prod(CHUNKS)) * 4
    name = "zlib" if codec == "gzip" else codec
    for num_bytes in (2**16, size + 1, size - 1, 1):
        (path / "a/0.0.0").write_bytes(bomb(codec, num_bytes))
        with pytest.raises(ValueError, match=rf"a/0\.0\.0 is damaged \({name}: .*expected {size}"):
            opened(path).read(0, 1)
    for junk in (b"", b"junk", b"\0" * 200, b"\xff" * 200):
        (path / "a/0.0.0").write_bytes(junk)
        with pytest.raises(ValueError, match=rf"a/0\.0\.0 is damaged \(({name}|{codec}): "):
            opened(path).read(0, 1)


def test_a_file_far_larger_than_a_chunk_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zarr", 2)
    with open(path / "a/0.0.0", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"a/0\.0\.0 is damaged \(1099511627776 bytes at 0"):
        opened(path).read(0, 1)


def test_devices_folders_and_loops_of_links_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zarr", 2)
    chunk = path / "a/0.0.0"
    chunk.unlink()
    for target, message in [
        ("/dev/zero", "a folder or a device"),
        (".", "a folder or a device"),
        ("0.0.0", "cannot be read"),
    ]:
        chunk.symlink_to(target)
        with pytest.raises(ValueError, match=rf"a/0\.0\.0 .*{message}"):
            opened(path).read(0, 1)
        chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(ValueError, match="a folder or a device"):
        opened(path).read(0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "filters"),
        ({"dtype": "|O"}, r"dtype '\|O'; expected plain numbers"),
        ({"dtype": [["x", "<f4"]]}, "expected plain numbers"),
        ({"dtype": "<f3"}, "TypeError"),
        ({"dtype": "<M8"}, "expected plain numbers"),
        ({"dtype": None}, "expected plain numbers"),
        ({"shape": [-1, 5, 3]}, r"shape \[-1, 5, 3\]; expected whole numbers"),
        ({"shape": [11.0, 5, 3]}, "expected whole numbers"),
        ({"shape": []}, "expected as many"),
        ({"shape": "11"}, "expected whole numbers"),
        ({"chunks": [4, 2]}, "expected as many"),
        ({"chunks": [0, 2, 3]}, r"chunks \[0, 2, 3\]; expected whole numbers, at least 1"),
        ({"chunks": [2**40, 2, 3]}, r"stored in chunks of \d+ bytes .* allowed are"),
        ({"compressor": {"id": "pickle"}}, "has codec 'pickle'; what can be read is one of"),
        ({"compressor": {}}, "damaged metadata.*'id'"),
        ({"compressor": "blosc"}, "damaged metadata"),
        ({"order": "A"}, "has order 'A'"),
        ({"dimension_separator": "x"}, "dimension_separator"),
        ({"zarr_format": 7}, "zarr_format '7'"),
    ],
)
def test_what_version_2_metadata_may_not_say(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write_changed(tmp_path / "x.zarr", 2, change)
    with pytest.raises(ValueError, match=rf"x\.zarr: a .*{message}"):
        opened(path)


SHARDED = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [1, 1, 1],
        "codecs": [{"name": "bytes"}],
        "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}],
    },
}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_type": "string"}, "data_type 'string'"),
        ({"data_type": {"name": "numpy.datetime64"}}, "data_type"),
        ({"data_type": "complex64"}, "data_type"),
        ({"codecs": []}, "expected 'bytes' before compression"),
        ({"codecs": [{"name": "vlen-utf8"}]}, "expected 'bytes'"),
        ({"codecs": [{}]}, "damaged metadata"),
        ({"codecs": [BYTES, {"name": "numcodecs.pickle"}]}, "has codec 'pickle'"),
        ({"codecs": [BYTES, {"name": "zstd"}, {"name": "gzip"}]}, "compressed twice"),
        ({"codecs": [SHARDED, {"name": "gzip"}]}, "codecs after sharding_indexed"),
        ({"codecs": [{"name": "transpose", "configuration": {"order": [0, 0, 1]}}]}, "transpose"),
        (
            {"codecs": [SHARDED], "chunk_grid": {"name": "regular", "configuration": {
                "chunk_shape": [2**20, 2**20, 3]}}},
            "index of a shard is stored in chunks of",
        ),
        ({"chunk_grid": {"name": "rectilinear"}}, "chunk_grid"),
        ({"chunk_key_encoding": {"name": "odd"}}, "chunk_key_encoding"),
        ({"shape": [11, True, 3]}, "expected whole numbers"),
        ({"storage_transformers": [{"name": "x"}]}, "storage_transformers"),
        ({"node_type": "odd"}, "node_type"),
    ],
)  # fmt: skip
def test_what_version_3_metadata_may_not_say(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write_changed(tmp_path / "x.zarr", 3, change)
    with pytest.raises(ValueError, match=rf"x\.zarr: a.*{message}"):
        opened(path)


def test_metadata_that_is_no_json_object_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zarr", 2)
    for text, message in [
        (b"", "is not JSON"),
        (b"[1]", "must hold a JSON object"),
        (b"\xff\xfe{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
    ]:
        (path / "a/.zarray").write_bytes(text)
        with pytest.raises(ValueError, match=rf"x\.zarr: a/\.zarray {message}"):
            opened(path)
    with open(path / "a/.zarray", "wb") as file:
        file.truncate(2**34)
    with pytest.raises(ValueError, match="metadata has at most"):
        opened(path)


def test_a_cut_zip_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zip", 2)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"x\.zip is a zip file cut short or damaged"):
        ZipFiles(path)


def test_a_zip_entry_is_unpacked_only_as_far_as_it_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zip", 2)
    copy = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(2**26) if name == "a/0.0.0" else old.read(name))
    assert copy.stat().st_size < 2**20
    with pytest.raises(ValueError, match=r"chunk a/0\.0\.0 is damaged \(67108864 bytes at 0"):
        opened(copy).read(0, 1)


def test_a_wrong_byte_in_a_zip_file_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zip", 2, compressors=None)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("a/0.0.0").header_offset + 60
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a/0\.0\.0 is damaged \(Bad CRC-32"):
        opened(path).read(0, 1)


def test_threads_may_read_several_shards_at_once(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.int32)
    zarr.create_array(tmp_path / "a", shape=(64,), chunks=(2,), shards=(8,), dtype="int32")[:] = (
        values
    )
    array = ZarrArray.open(open_files(tmp_path), "a")
    assert array is not None
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            starts = [2 * (i * 13 % 32) for i in range(4000)]
            for start, rows in zip(
                starts, pool.map(lambda s: array.read(s, s + 2), starts), strict=True
            ):
                assert rows.tolist() == [start, start + 1]
    finally:
        sys.setswitchinterval(before)
