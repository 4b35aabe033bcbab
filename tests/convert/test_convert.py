"""Conversion: what is written equals its source, whatever was interrupted, and damage is found."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from scd_wm.cli import main
from scd_wm.convert.run import convert
from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.reader import ACTION, Reader
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.datasets.store_check import check_store

ROOT = Path(__file__).parents[2]
NUM_STEPS = 30


def write_source(path: Path, num_episodes: int = 6, seed: int = 0) -> Path:
    """Write a robomimic file of noise, which does not compress, so that nothing is quick."""
    rng = np.random.default_rng(seed)
    with RobomimicWriter(path, {"env_name": "Noise", "type": 2}) as writer:
        for _ in range(num_episodes):
            last = np.arange(NUM_STEPS) == NUM_STEPS - 1
            writer.add_episode(
                {
                    "top_image": rng.integers(0, 256, (NUM_STEPS + 1, 32, 48, 3), np.uint8),
                    "state": rng.normal(size=(NUM_STEPS + 1, 7)),
                },
                rng.normal(size=(NUM_STEPS, 4)),
                rng.normal(size=NUM_STEPS),
                last,
                last,
            )
        writer.add_mask("train", [0, 2])
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a robomimic file."""
    return write_source(tmp_path / "source.hdf5")


def check_equal(mine: Reader, theirs: Reader) -> None:
    """Raise unless two readers give the same, byte by byte."""
    assert mine.info.fields == theirs.info.fields
    assert mine.info.outcomes == theirs.info.outcomes
    assert mine.info.masks == theirs.info.masks
    assert mine.info.fps == theirs.info.fps
    assert mine.info.metadata == theirs.info.metadata
    assert mine.info.episodes == theirs.info.episodes
    for index, episode in enumerate(theirs.info.episodes):
        keys = [(key, episode.num_observations) for key in theirs.info.fields]
        keys += [(key, episode.num_actions) for key in (ACTION, *theirs.info.outcomes)]
        for key, rows in keys:
            if key not in episode.missing:
                found, expected = (r.read(index, key, 0, rows) for r in (mine, theirs))
                assert found.dtype == expected.dtype
                assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), key


def contents(store: Path) -> dict[str, bytes]:
    """Return every file of a store."""
    return {str(f.relative_to(store)): f.read_bytes() for f in store.rglob("*") if f.is_file()}


def test_a_store_equals_its_source_byte_by_byte(source: Path, tmp_path: Path) -> None:
    summary = convert(source, tmp_path / "store")
    assert (summary["episodes"], summary["written"], summary["damaged"]) == (6, 6, 0)
    check_equal(open_reader(tmp_path / "store"), open_reader(source))
    assert check_store(tmp_path / "store") == 6 * 6  # action, two observations, three outcomes


def test_a_store_is_zarr_that_zarr_itself_reads(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "store")
    assert zarr.open_group(tmp_path / "store", mode="r").attrs["format"] == "scd_wm store"
    reader = open_reader(source)
    with zarr.storage.ZipStore(tmp_path / "store/episodes/000003.zarr.zip", mode="r") as files:
        episode = zarr.open_group(files, mode="r")
        found = np.asarray(episode["top_image"])
    assert np.array_equal(found, reader.read(3, "top_image", 0, NUM_STEPS + 1))


def test_a_file_that_was_cut_is_left_out_and_said_so(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "store")
    file = tmp_path / "store/episodes/000002.zarr.zip"
    file.write_bytes(file.read_bytes()[:-100])
    info = open_reader(tmp_path / "store").info
    assert [episode.name for episode in info.episodes] == [f"demo_{i}" for i in (0, 1, 3, 4, 5)]
    assert re.search(r"000002.* has \d+ bytes, not \d+; restore it with", info.skipped[-1])


def test_a_store_without_compression_is_the_same(source: Path, tmp_path: Path) -> None:
    arguments = [str(source), str(tmp_path / "store"), "--level", "0", "--workers", "1"]
    assert main(["convert", *arguments]) == 0
    check_equal(open_reader(tmp_path / "store"), open_reader(source))
    assert check_store(tmp_path / "store") == 6 * 6


def test_several_processes_write_what_one_does(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "one")
    convert(source, tmp_path / "three", workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_images_are_resized_and_keys_chosen_on_request(source: Path, tmp_path: Path) -> None:
    arguments = ["--cameras", "*_image", "--vectors", "none", "--image-size", "16x24"]
    assert main(["convert", str(source), str(tmp_path / "store"), *arguments]) == 0
    dataset = open_dataset(tmp_path / "store")
    assert (dataset.cameras, dataset.vectors) == (("top_image",), ())
    expected = open_dataset(source, image_size=(16, 24)).clip(1, 0, 4).images["top_image"]
    assert (dataset.clip(1, 0, 4).images["top_image"] == expected).all()


def test_what_is_there_is_kept_and_what_is_gone_comes_back(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    convert(source, store)
    before = contents(store)
    assert convert(source, store)["kept"] == 6
    (store / "episodes/000002.zarr.zip").unlink()
    with pytest.raises(ValueError, match=r"000002.*is gone"):
        check_store(store)
    summary = convert(source, store)
    assert (summary["kept"], summary["written"]) == (5, 1)
    assert contents(store) == before


def test_episodes_whose_source_has_changed_are_written_again(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    convert(source, store)
    with h5py.File(source, "r+") as file:
        file["data/demo_4/actions"][3, 1] += 1
        file["data/demo_1/obs/top_image"][5] = 7
    summary = convert(source, store)
    assert (summary["changed"], summary["episodes"]) == (2, 6)
    check_equal(open_reader(store), open_reader(source))


def test_a_conversion_killed_at_any_moment_opens_whole_and_is_completed(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.hdf5", num_episodes=12)
    convert(source, tmp_path / "reference")
    code = (
        "import sys, time; from scd_wm.convert import workers; "
        "from scd_wm.convert.run import convert; write = workers.write_episode;"
        "workers.write_episode = lambda *a: (time.sleep(0.02), write(*a))[1];"
        "print('ready', flush=True); from pathlib import Path;"
        "convert(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    rng = np.random.default_rng(0)
    reader, store, partial = open_reader(source), tmp_path / "store", 0
    for _ in range(8):
        command = [sys.executable, "-c", code, str(source), str(store)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.35)))
        process.kill()
        process.wait()
        process.stdout.close()
        if not (store / "zarr.json").exists():
            continue
        try:
            found = open_reader(store)
        except ValueError as error:  # it came to no episode
            if "no episode" not in str(error):
                raise
            continue
        partial += len(found.info.episodes) < 12
        if len(found.info.episodes) < 12:
            assert "finish it with: scd-wm convert" in found.info.skipped[-1]
        names = [episode.name for episode in reader.info.episodes]
        for index, episode in enumerate(found.info.episodes):
            same = names.index(episode.name)
            for key, rows in (("top_image", NUM_STEPS + 1), (ACTION, NUM_STEPS)):
                theirs = reader.read(same, key, 0, rows)
                assert np.array_equal(found.read(index, key, 0, rows), theirs)
    assert partial, "no kill came in the middle"
    convert(source, store)
    assert contents(store) == contents(tmp_path / "reference")


def test_ctrl_c_ends_all_processes_and_says_how_to_go_on(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.hdf5", num_episodes=60)
    command = [sys.executable, "-m", "scd_wm", "convert", str(source), str(tmp_path / "store")]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--level", "22"],
        stderr=subprocess.PIPE,
        cwd=ROOT,
        # A shell starts what runs in the background, such as these tests, deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("store/episodes/0*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted; go on with: scd-wm convert" in errors
    assert 0 < len(open_reader(tmp_path / "store").info.episodes) < 60
    assert convert(source, tmp_path / "store", workers=2)["episodes"] == 60


def test_a_flipped_bit_anywhere_in_pixels_is_found(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "store")
    file = tmp_path / "store/episodes/000001.zarr.zip"
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as members:
        (shard,) = [m for m in members.infolist() if m.filename.startswith("top_image/c")]
    rng = np.random.default_rng(0)
    first = whole.index(b"top_image/c", shard.header_offset) + len(shard.filename)
    for offset in rng.integers(first, first + shard.file_size, 20).tolist():
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << int(rng.integers(8))
        file.unlink()
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"000001\.zarr\.zip"):
            open_reader(tmp_path / "store").read(1, "top_image", 0, NUM_STEPS + 1)
        with pytest.raises(ValueError, match=r"000001\.zarr\.zip"):
            check_store(tmp_path / "store")
    assert convert(source, tmp_path / "store", verify=True)["kept"] == 5
    assert file.read_bytes() == whole


def test_another_level_is_for_what_is_written_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, store = write_source(tmp_path / "source.hdf5", 2), tmp_path / "store"
    command = ["convert", str(source), str(store), "--workers", "1"]
    assert main([*command, "--level", "0"]) == 0
    assert "stay as they were" not in capsys.readouterr().out
    before = contents(store)
    assert main(command) == 0
    assert "  2 episodes stay as they were written, at level 0 and not 3" in capsys.readouterr().out
    assert contents(store) == before
    (store / "episodes" / "000001.zarr.zip").unlink()
    summary = convert(source, store)
    assert (summary["written"], summary["kept_at_other_levels"]) == (1, {0: 1})
    assert main([*command, "--overwrite"]) == 0
    assert "stay as they were" not in capsys.readouterr().out


def test_damaged_episodes_are_counted_and_the_others_converted(
    source: Path, tmp_path: Path
) -> None:
    with h5py.File(source, "r") as file:
        chunk = file["data/demo_3/obs/top_image"].id.get_chunk_info(0)
    data = bytearray(source.read_bytes())
    data[chunk.byte_offset + 10 : chunk.byte_offset + 40] = bytes(30)
    damaged = tmp_path / "damaged.hdf5"
    damaged.write_bytes(data)
    summary = convert(damaged, tmp_path / "store", workers=2)
    assert (summary["written"], summary["damaged"]) == (5, 1)
    assert summary["damaged_episodes"][0].startswith("demo_3: ")
    reader = open_reader(tmp_path / "store")
    assert "demo_3" not in [episode.name for episode in reader.info.episodes]
    assert any(line.startswith("demo_3: ") for line in reader.info.skipped)


def test_a_robomimic_file_from_a_store_reads_as_its_source(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "store")
    assert main(["convert", str(tmp_path / "store"), str(tmp_path / "again.hdf5")]) == 0
    mine, theirs = open_dataset(tmp_path / "again.hdf5"), open_dataset(source)
    for index in range(6):
        found, expected = (d.clip(index, 0, NUM_STEPS + 1) for d in (mine, theirs))
        assert (found.images["top_image"] == expected.images["top_image"]).all()
        assert (found.actions == expected.actions).all()
        assert (found.outcome["success"] == expected.outcome["success"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.hdf5", "store"], "no data set at absent.hdf5"),
        (["source.hdf5", "source.hdf5"], "source and target must be apart"),
        (["source.hdf5", "full"], "full exists and is no scd_wm store: it has .'mine.txt'"),
        (["source.hdf5", "store", "--workers", "0"], "workers must be at least 1"),
        (["source.hdf5", "store", "--level", "40"], "level 0 to 22, got 1, 40"),
        (["source.hdf5", "store", "--cameras", "wrist"], "no camera 'wrist' in source.hdf5"),
        (["source.hdf5", "old.hdf5"], "old.hdf5 exists; choose another path or overwrite it"),
        (["source.hdf5", "new.hdf5", "--verify"], "only a store has checksums to verify"),
    ],
)
def test_wrong_conversions_are_refused_and_leave_nothing(
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(source.parent)
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    Path("old.hdf5").write_text("old")
    before = sorted(Path().rglob("*"))
    workers = [] if "--workers" in arguments else ["--workers", "1"]
    assert main(["convert", *arguments, *workers]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in errors if line.startswith("scd-wm: ")]) == 1
    assert message.split(".'")[0] in errors[-1]
    assert sorted(Path().rglob("*")) == before


def test_a_store_of_another_source_is_not_written_over(source: Path, tmp_path: Path) -> None:
    other = write_source(tmp_path / "other.hdf5", seed=1)
    convert(source, tmp_path / "store")
    before = contents(tmp_path / "store")
    with pytest.raises(ValueError, match=r"is a store with another source: .*source\.hdf5"):
        convert(other, tmp_path / "store")
    assert contents(tmp_path / "store") == before
    assert convert(other, tmp_path / "store", overwrite=True)["written"] == 6
    check_equal(open_reader(tmp_path / "store"), open_reader(other))


def test_two_processes_may_not_write_one_store(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "store")
    (tmp_path / "store/episodes/000002.zarr.zip").unlink()
    descriptor = os.open(tmp_path / "store", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match=r"another process is converting into .*; wait for it"):
        convert(source, tmp_path / "store")
    os.close(descriptor)
    assert convert(source, tmp_path / "store")["written"] == 1
