"""Conversion of sources with peculiarities, and what happens when a disk or a process fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scd_wm.convert import run as convert_module
from scd_wm.convert import workers as convert_workers
from scd_wm.convert.run import convert
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.reader import ACTION, EpisodeInfo, Field, SourceInfo
from scd_wm.datasets.store_reader import StoreReader
from scd_wm.datasets.store_writer import write_episode

from .test_convert import NUM_STEPS, check_equal, contents, write_source

ROOT = Path(__file__).parents[2]
VECTOR = "robot0/eef_pos"


@dataclass
class OddReader:
    """A source whose episodes differ in whatever they may: keys, sizes of images, dtypes."""

    info: SourceInfo
    broken: tuple[int, ...] = ()  # episodes whose images are damaged
    seed: int = 0  # of all values

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        info = self.info.episodes[episode]
        assert key not in info.missing
        rng = np.random.default_rng((self.seed, episode, len(key)))
        if key == "wrist":
            if episode in self.broken:
                raise ValueError("wrist is torn")
            shape = info.image_shapes.get(key, self.info.fields[key].shape)
            return rng.integers(0, 256, (info.num_observations, *shape), np.uint8)[start:stop]
        rows = info.num_actions if key in (ACTION, "reward") else info.num_observations
        width = {"reward": (), ACTION: (3,)}.get(key, self.info.fields[VECTOR].shape)
        dtype = np.float64 if episode == 1 else np.float32
        return rng.normal(size=(rows, *width)).astype(dtype)[start:stop]


@pytest.fixture
def odd(tmp_path: Path) -> OddReader:
    """Return a source at `tmp_path / "odd"`."""
    (tmp_path / "odd").write_text("a format of somebody's own")
    info = SourceInfo(
        path=tmp_path / "odd",
        format="odd",
        fields={
            "wrist": Field((6, 8, 3), "uint8", "image"),
            VECTOR: Field((3,), "float32", "vector"),
        },
        action_dim=3,
        outcomes=("reward",),
        fps=12.5,
        episodes=(
            EpisodeInfo("a", 5, True),
            EpisodeInfo("b", 9, False, success=True),
            EpisodeInfo("c", 4, True, missing=frozenset({"wrist"}), success=False),
            EpisodeInfo("d", 17, False, image_shapes={"wrist": (5, 4, 3)}),
        ),
        skipped=("wrist of e: a reason",),
        metadata={"tracked": {"cube": [1, 2, 3]}, "none": None},
        masks={"train": ("a", "d"), "valid": ("b",)},
    )
    return OddReader(info)


def convert_odd(
    reader: OddReader,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: DataOptions | None = None,
) -> dict[str, object]:
    monkeypatch.setattr(convert_module, "open_reader", lambda _: reader)
    return convert(reader.info.path, target, options=options)


def test_what_differs_between_episodes_is_kept(
    odd: OddReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_odd(odd, tmp_path / "store", monkeypatch)
    store = StoreReader(tmp_path / "store")
    check_equal(store, odd)
    assert store.info.skipped == odd.info.skipped
    assert list(store.info.fields) == list(odd.info.fields)
    assert (store.provenance["path"], store.provenance["format"]) == (str(odd.info.path), "odd")


def test_images_of_several_sizes_become_one_size(
    odd: OddReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = DataOptions(image_size=(4, 4), vectors=())
    convert_odd(odd, tmp_path / "store", monkeypatch, options)
    info = StoreReader(tmp_path / "store").info
    assert info.fields == {"wrist": Field((4, 4, 3), "uint8", "image")}
    assert [dict(episode.image_shapes) for episode in info.episodes] == [{}] * 4
    assert info.episodes[2].missing == {"wrist"}
    with pytest.raises(ValueError, match="with another choice of keys and size"):
        convert_odd(odd, tmp_path / "store", monkeypatch)


def test_a_robomimic_file_has_only_episodes_with_every_key(
    odd: OddReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = DataOptions(image_size=4)
    summary = convert_odd(odd, tmp_path / "file.hdf5", monkeypatch, options)
    assert (summary["episodes"], summary["damaged"]) == (3, 0)
    assert summary["left_out"] == ["1 of 4 episodes without wrist: c"]
    with pytest.raises(ValueError, match=r"images of wrist in .* are of two sizes"):
        convert_odd(odd, tmp_path / "other.hdf5", monkeypatch)
    assert not (tmp_path / "other.hdf5").exists()


def test_an_episode_damaged_later_stays_as_it_was(
    odd: OddReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_odd(odd, tmp_path / "store", monkeypatch)
    before = contents(tmp_path / "store")
    os.utime(odd.info.path, (1, 1))
    odd.broken = (1,)
    summary = convert_odd(odd, tmp_path / "store", monkeypatch)
    assert (summary["episodes"], summary["damaged"]) == (4, 1)
    file = "episodes/000001.zarr.zip"
    assert contents(tmp_path / "store")[file] == before[file]
    store = StoreReader(tmp_path / "store")
    assert store.info.skipped[-1] == "b: wrist is torn"
    odd.broken = ()
    check_equal(store, odd)


def test_a_store_that_is_brought_up_to_date_is_whole_at_any_moment(
    odd: OddReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_odd(odd, tmp_path / "store", monkeypatch)
    os.utime(odd.info.path, (1, 1))
    written: list[Path] = []

    def write_two(path: Path, *rest: Any) -> dict[str, str]:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write_episode(path, *rest)

    odd.seed = 1
    with monkeypatch.context() as patch:
        patch.setattr(convert_workers, "write_episode", write_two)
        with pytest.raises(KeyboardInterrupt):
            convert_odd(odd, tmp_path / "store", monkeypatch)
    store = StoreReader(tmp_path / "store")
    assert store.info.episodes == odd.info.episodes
    assert "the conversion is not finished" in store.info.skipped[-1]
    for index, seed in enumerate([1, 1, 0, 0]):
        odd.seed = seed
        assert (store.read(index, ACTION, 0, 4) == odd.read(index, ACTION, 0, 4)).all()
    odd.seed = 1
    assert convert_odd(odd, tmp_path / "store", monkeypatch)["changed"] == 2
    check_equal(StoreReader(tmp_path / "store"), odd)


def test_episodes_of_another_layout_are_not_mixed_with_those_of_this(
    odd: OddReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_odd(odd, tmp_path / "store", monkeypatch)
    fields = {**odd.info.fields, VECTOR: Field((7,), "float32", "vector")}
    odd.info = replace(odd.info, fields=fields)
    odd.broken = (0, 1, 3)
    summary = convert_odd(odd, tmp_path / "store", monkeypatch)
    assert (summary["episodes"], summary["damaged"]) == (1, 3)
    store = StoreReader(tmp_path / "store")
    assert [episode.name for episode in store.info.episodes] == ["c"]
    assert store.read(0, VECTOR, 0, 5).shape == (5, 7)


def test_nothing_is_left_of_a_source_that_is_damaged_throughout(
    odd: OddReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd.broken = (0, 1, 2)
    odd.info = replace(odd.info, episodes=(*odd.info.episodes[:2], odd.info.episodes[3]))
    with pytest.raises(ValueError, match=r"no episode of .*odd can be read: a: wrist is torn"):
        convert_odd(odd, tmp_path / "store", monkeypatch)
    with pytest.raises(ValueError, match=r"has no episode yet: .*0 of 3 episodes are there"):
        StoreReader(tmp_path / "store")


def test_a_source_that_has_grown_or_shrunk_is_followed(
    odd: OddReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = odd.info
    for count, written in [(2, 2), (4, 2), (3, 0)]:
        odd.info = replace(everything, episodes=everything.episodes[:count])
        summary = convert_odd(odd, tmp_path / "store", monkeypatch)
        assert (summary["episodes"], summary["written"]) == (count, written)
        check_equal(StoreReader(tmp_path / "store"), odd)
        assert len(list((tmp_path / "store/episodes").iterdir())) == count


def test_a_disk_too_small_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path / "source.hdf5")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500_000))
    with pytest.raises(ValueError, match=r"takes about 0\.0 GB, .* has 0\.0 GB free; choose fewer"):
        convert(source, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_robomimic_files_are_not_written_until_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path / "source.hdf5")
    usage = shutil.disk_usage(tmp_path)
    free = iter([10**9, 10**9, 10**7])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(free)))
    with pytest.raises(OSError, match="has 10 MB free, the next episode takes up to 17 MB"):
        convert(source, tmp_path / "file.hdf5")
    assert list(tmp_path.iterdir()) == [source]


def test_a_disk_that_fills_up_leaves_nothing_by_half(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.hdf5")
    code = (
        "import resource, sys; from scd_wm.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))\n"
        "sys.exit(main(['convert', *sys.argv[1:3], '--workers', '1']))"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "store"), "60000"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 2
    assert "file too large" in run.stderr.lower()
    assert "Traceback" not in run.stderr
    left = [f for f in tmp_path.rglob("*") if f.is_file() and f.name != "zarr.json"]
    assert left == [source]
    assert convert(source, tmp_path / "store")["episodes"] == 6


@pytest.fixture
def converting(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that converts slowly into `tmp_path / "store"` with two others."""
    source = write_source(tmp_path / "source.hdf5", num_episodes=80)
    command = [sys.executable, "-m", "scd_wm", "convert", str(source), str(tmp_path / "store")]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--level", "22"], stderr=subprocess.PIPE, cwd=ROOT
    )
    wait_for(lambda: bool(list(tmp_path.glob("store/episodes/0*"))))
    yield process
    process.kill()
    process.communicate()


def wait_for(done: Callable[[], bool]) -> None:
    """Wait until `done`, for a minute at most."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.01)


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(i) for i in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_processes_die_with_their_parent(
    converting: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    servers = children(converting.pid)
    family = [*servers, *(child for server in servers for child in children(server))]
    assert len(family) >= 3  # the server of forks, and two that convert
    converting.kill()
    wait_for(lambda: not any(Path(f"/proc/{process}").exists() for process in family))
    source = tmp_path / "source.hdf5"
    assert convert(source, tmp_path / "store", level=22)["episodes"] == 80
    convert(source, tmp_path / "reference", level=22)
    assert contents(tmp_path / "store") == contents(tmp_path / "reference")


def test_a_process_that_is_killed_ends_the_conversion_with_what_to_do(
    converting: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (server,) = (child for child in children(converting.pid) if children(child))
    os.kill(children(server)[0], signal.SIGKILL)
    _, errors = converting.communicate(timeout=60)
    assert converting.returncode == 2
    assert b"a process that converts was killed, perhaps for want of memory" in errors
    info = StoreReader(tmp_path / "store").info
    assert 0 < len(info.episodes) < 80
    assert info.episodes[0].num_actions == NUM_STEPS


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_killed_while_another_is_started_ends_the_conversion_too(
    moment: str, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source.hdf5", num_episodes=6)
    code = (
        "import os, signal, sys, time; from multiprocessing.context import ForkServerProcess;"
        "from scd_wm.convert import workers as convert_workers; from scd_wm.cli import main;"
        "convert_workers.LOOK_S = 0.2; start = ForkServerProcess.start; started = []\n"
        "def kill():\n"
        "    for other in started:\n"
        "        os.kill(other.pid, signal.SIGKILL); time.sleep(1)\n"
        "def slowly(self):\n"
        "    moment == 'before' and kill(); start(self); moment == 'after' and kill()\n"
        "    started.append(self)\n"
        "moment = sys.argv.pop(1); ForkServerProcess.start = slowly\n"
        "sys.exit(main(['convert', *sys.argv[1:], '--workers', '2']))"
    )
    command = [sys.executable, "-c", code, moment, str(source), str(tmp_path / "store")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert run.returncode == 2
    assert "a process that converts was killed" in run.stderr
    assert "Traceback" not in run.stderr
