"""HDF5 files that claim what they do not hold, or point to where nobody should look.

Each is made for one trap. Memory is watched where a trap is about memory.
"""

import pickle
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.hdf5_file import open_file
from scd_wm.datasets.limits import MAX_CHUNK_BYTES, MEMORY_BYTES
from scd_wm.datasets.reader import Reader
from scd_wm.datasets.robomimic_reader import RobomimicReader

T = 4  # steps of the only episode


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of one episode with the vectors a and b."""
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"] = np.zeros((T, 2))
        demo["obs/a"], demo["obs/b"] = np.arange(T), np.arange(T) + 10
    return tmp_path / "data.hdf5"


def changed(path: Path, change: Callable[[h5py.Group], object]) -> Reader:
    """Change the only episode and open the file."""
    with h5py.File(path, "r+") as file:
        change(file["data/demo_0"])
    return open_reader(path)


def memory_bytes() -> int:
    """Return the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Links


def test_links_out_of_the_file_are_not_followed(path: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["x"] = np.arange(T)
        file["group/x"] = np.arange(T)

    def change(demo: h5py.Group) -> None:
        demo["obs/direct"] = h5py.ExternalLink("secret.hdf5", "/x")
        demo["obs/out"] = h5py.ExternalLink("secret.hdf5", "/group")
        demo["obs/behind"] = h5py.SoftLink("/data/demo_0/obs/out/x")
        demo.parent["demo_1"] = h5py.ExternalLink("secret.hdf5", "/group")
        layout = h5py.VirtualLayout((T,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.hdf5"), "x", (T,))
        demo["obs"].create_virtual_dataset("virtual", layout)
        raw = [(str(tmp_path / "secret.hdf5"), 0, T * 8)]
        demo["obs"].create_dataset("raw", (T,), "i8", external=raw)

    info = changed(path, change).info
    assert set(info.fields) == {"a", "b"}
    assert len(info.episodes) == 1
    link = "external link to secret.hdf5, which is not followed; copy its data into the file"
    assert info.skipped == (
        f"episode: {link} (1): demo_1",
        f"obs/behind: {link} (1): demo_0",
        f"obs/direct: {link} (1): demo_0",
        f"obs/out: {link} (1): demo_0",
        "obs/raw: its values are in another file; copy them into this one (1): demo_0",
        "obs/virtual: virtual array, whose values are elsewhere; copy them into the file (1): "
        "demo_0",
    )


def test_soft_links_are_followed_within_the_file(path: Path) -> None:
    def change(demo: h5py.Group) -> None:
        demo["obs/same"] = h5py.SoftLink("a")
        demo["obs/far"] = h5py.SoftLink("/data/demo_0/./obs//same")
        demo["obs/nowhere"] = h5py.SoftLink("/data/demo_9/obs/a")
        demo["obs/ring"] = h5py.SoftLink("/data/demo_0/obs/ring")
        demo["obs/self"] = demo["obs"]  # a hard link: a group in itself

    reader = changed(path, change)
    assert set(reader.info.fields) == {"a", "b", "far", "same"}
    assert reader.read(0, "far", 1, 3).tolist() == [[1], [2]]
    assert reader.info.skipped == (
        "obs/nowhere: link to 'demo_9', which is not there (1): demo_0",
        "obs/ring: links that lead in a circle (1): demo_0",
    )


# Claims


def test_shapes_that_nobody_records_are_skipped_without_taking_memory(path: Path) -> None:
    def change(demo: h5py.Group) -> None:
        demo.create_dataset("obs/huge", (10**15, 7), "f8", chunks=(1000, 7))
        demo.create_dataset("obs/wide", (T, 10**12), "f8", chunks=(1, 1000))[0, :10] = 1
        demo.create_dataset("obs/chunk", (T, 2**30), "u1", chunks=(1, 2**30), compression=1)
        demo["obs/chunk"].id.write_direct_chunk((0, 0), zlib.compress(b"\0" * 10**6))
        demo.create_dataset("obs/never", (T, 3), "f4")
        demo.create_dataset("obs/big_image", (T, 2**13, 2**13, 3), "u1", chunks=(1, 64, 64, 3))
        demo["obs/big_image"][0, :2, :2] = 1

    before = memory_bytes()
    info = changed(path, change).info
    assert memory_bytes() - before < 2**27
    assert set(info.fields) == {"a", "b"}
    said = {line.split(":")[0]: line for line in info.skipped}
    assert "no value was ever written" in said["obs/never"]
    assert "claims shape (4, 1000000000000)" in said["obs/wide"]
    assert f"allowed are {MAX_CHUNK_BYTES}" in said["obs/chunk"]
    assert "claims 4 images of 201326592 bytes" in said["obs/big_image"]
    assert "obs/huge" in said


def test_an_array_longer_than_its_file_is_skipped(path: Path) -> None:
    shape = struct.pack("<QQ", T, 2)  # of actions and of nothing else
    content = path.read_bytes()
    assert content.count(shape) >= 1
    path.write_bytes(content.replace(shape, struct.pack("<QQ", 10**6, 2)))
    with pytest.raises(ValueError, match=r"no usable episode: actions: .*corrupt.* \(1\): demo_0"):
        open_reader(path)


def zeros(num_blocks: int) -> bytes:
    """Return gzip's bytes for blocks of a megabyte of zeros, without compressing each."""
    packer = zlib.compressobj(9)
    first, block = (
        packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    return first + block * (num_blocks - 1)


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_a_chunk_that_unpacks_to_more_than_it_should_is_not_unpacked(
    path: Path, compression: str
) -> None:
    def change(demo: h5py.Group) -> None:
        size = {"gzip": 2**21, "lzf": 2**24}[compression]
        bomb = zeros(2000) if compression == "gzip" else b"\0" * size
        del demo["obs/a"]
        demo.create_dataset("obs/a", (T, size), "u1", chunks=(1, size), compression=compression)
        demo["obs/a"].id.write_direct_chunk((0, 0), bomb)
        del demo["obs/b"]
        demo.create_dataset("obs/b", (T, 3), "f4", chunks=(1, 3), compression="gzip")
        demo["obs/b"].id.write_direct_chunk((0, 0), zlib.compress(b"\0" * 10**7))

    reader = changed(path, change)
    before = memory_bytes()
    with pytest.raises(ValueError, match=r"obs/a in .* rows 0 to 0 \(chunk at \(0, 0\) .*damaged"):
        reader.read(0, "a", 0, 1)
    with pytest.raises(ValueError, match=r"obs/b in .*\(chunk at \(0, 0\) is of \d+ bytes for 12"):
        reader.read(0, "b", 0, 1)
    assert memory_bytes() - before < MEMORY_BYTES // 2


def test_big_honest_chunks_are_read(path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (T, 640, 640, 3), np.uint8)

    def change(demo: h5py.Group) -> None:
        demo.create_dataset("obs/top", data=images, chunks=images.shape, compression="gzip")

    np.testing.assert_array_equal(changed(path, change).read(0, "top", 1, 3), images[1:3])


def test_filters_that_are_not_installed_are_named(path: Path) -> None:
    def change(demo: h5py.Group) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((T,))
        plist.set_filter(32042, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((T,))
        made = h5py.h5d.create(demo["obs"].id, b"odd", h5py.h5t.IEEE_F32LE, space, plist)
        made.write_direct_chunk((0,), b"\0" * T * 4)

    info = changed(path, change).info
    assert set(info.fields) == {"a", "b"}
    assert info.skipped[0].startswith("obs/odd: compressed by filter 32042")
    assert "not installed; pip install hdf5plugin" in info.skipped[0]


# Damage


def test_damage_that_a_checksum_finds_names_where_it_is(path: Path) -> None:
    rows = np.arange(T * 100.0).reshape(T, 100)

    def change(demo: h5py.Group) -> None:
        demo.create_dataset("obs/sum", data=rows, chunks=(1, 100), fletcher32=True)

    changed(path, change)
    content = bytearray(path.read_bytes())
    content[content.index(rows[2].tobytes()) + 40] ^= 1
    path.write_bytes(content)
    reader = open_reader(path)
    assert reader.read(0, "sum", 0, 2).shape == (2, 100)
    message = r"data/demo_0/obs/sum in .*data\.hdf5 cannot be read at rows 0 to 3 \(.*leave the ep"
    with pytest.raises(ValueError, match=message):
        reader.read(0, "sum", 0, T)


def test_nan_is_named_when_the_numbers_are_read(path: Path) -> None:
    reader = changed(path, lambda demo: demo.__setitem__("obs/nan", np.array([0, np.nan, 0, 0.0])))
    assert np.isnan(reader.read(0, "nan", 1, 2)).all()
    with pytest.raises(ValueError, match=r"nan of demo_0 in .* is not finite at row 1"):
        open_dataset(path).clip(0, 0, 2)


def test_a_file_that_is_being_written_is_refused(path: Path) -> None:
    code = (
        f"import h5py; file = h5py.File({str(path)!r}, 'r+', locking=True); print('open', "
        "flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    try:
        with pytest.raises(ValueError, match=r"being written by another program .*close that"):
            open_file(path)
    finally:
        process.communicate("\n")


def test_a_file_whose_writer_was_killed_is_refused(path: Path) -> None:
    code = (
        f"import h5py, os; file = h5py.File({str(path)!r}, 'r+', libver='latest'); "
        "file['more'] = 1; file.swmr_mode = True; file.flush(); os._exit(0)"
    )
    with h5py.File(path, "w", libver="latest") as file:
        file["data/demo_0/actions"] = np.zeros((T, 1))
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ValueError, match=r"its writer was killed .*h5clear"):
        open_reader(path)


def what_reading_says(path: Path) -> str:
    """Read everything; return the file's name if an error names it, else the error."""
    try:
        reader = open_reader(path)
        for index, episode in enumerate(reader.info.episodes):
            for key in {*reader.info.fields, "action"} - episode.missing:
                reader.read(index, key, 0, episode.num_actions)
    except ValueError as error:
        return path.name if path.name in str(error) else str(error)
    return ""


def test_flipped_bytes_give_an_error_or_a_note(path: Path) -> None:
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    start = time.monotonic()
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(8, len(content), rng.integers(1, 8)):
            damaged[place] = rng.integers(256)
        path.unlink()  # HDF5 may share what it knows of a file that is the same on disk
        path.write_bytes(damaged)
        assert what_reading_says(path) in ("", path.name)
    assert time.monotonic() - start < 60


# Processes


def test_a_pickled_reader_is_closed_and_reads(path: Path) -> None:
    reader = open_reader(path)
    reader.read(0, "a", 0, 1)
    copy = pickle.loads(pickle.dumps(reader))
    assert isinstance(copy, RobomimicReader)
    assert copy._handle._file is None
    assert copy.read(0, "a", 0, T).tolist() == reader.read(0, "a", 0, T).tolist()


class Clips(torch.utils.data.Dataset[torch.Tensor]):
    """The clips of two frames of the first episode."""

    def __init__(self, dataset: RobotDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return T - 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.dataset.clip(0, index, 2).vectors["b"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_after_the_parent_has_read(path: Path, method: str) -> None:
    clips = Clips(open_dataset(path))
    here = [clips[i].tolist() for i in range(len(clips))]
    loader = torch.utils.data.DataLoader(
        clips, batch_size=None, num_workers=1, multiprocessing_context=method
    )
    assert [rows.tolist() for rows in loader] == here
