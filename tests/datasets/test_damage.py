"""A thousand damaged data sets: each is refused with a clear message, or read with what is left.

Every variant is read in a process of its own, with limits of time and memory, by all that reads a
data set: opening, statistics, every clip.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.limits import MEMORY_BYTES
from tests.datasets.damage import copy_of, damage
from tests.datasets.samples import SAMPLES

VARIANTS = int(os.environ.get("SCD_WM_DAMAGED_VARIANTS", "1000"))  # of all formats together
TIME_LIMIT_S = 60  # a variant takes about 0.1 s; this is for a machine that does much else
EXPECTED = (ValueError, KeyError, OSError)
PROCESSES = 2


class Report(NamedTuple):
    """How reading a variant went."""

    outcome: str  # "read", "refused" or "wrong"
    text: str  # the message, or what is wrong
    memory: int  # bytes above what the process had before


def read_damaged(
    sample: Path, folder: Path, seed: int, has_checksums: bool, pipe: Connection
) -> None:
    """Damage a copy of a sample and read all of it, in a process of its own."""
    os.environ["SCD_WM_CACHE"] = str(folder / "cache")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # of progress bars and of libraries
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = np.random.default_rng(seed)
    path = copy_of(sample, folder / "copy")
    done = damage(folder / "copy", rng)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # making a bomb takes memory too
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + 3 * MEMORY_BYTES,) * 2)
    signal.alarm(TIME_LIMIT_S)
    outcome, text = "read", ""
    try:
        read_all(path)
        if has_checksums:
            check_same(path, sample)
    except EXPECTED as error:
        outcome, text = "refused", f"{type(error).__name__}: {error}"
        if not str(error).strip() or "\n" in str(error) or folder.name not in str(error):
            outcome, text = "wrong", f"a message that does not help: {text!r}"
    except BaseException:
        outcome, text = "wrong", traceback.format_exc()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = max(0, after - max(before, peak)) * 1024
    pipe.send((done, Report(outcome, text, used)))


def check_same(damaged: Path, whole: Path) -> None:
    """Raise unless all that is read of a damaged copy is as it was."""
    mine, theirs = open_reader(damaged), open_reader(whole)
    names = [episode.name for episode in theirs.info.episodes]
    for index, episode in enumerate(mine.info.episodes):
        for key in theirs.info.fields:
            found = mine.read(index, key, 0, episode.num_observations)
            expected = theirs.read(names.index(episode.name), key, 0, episode.num_observations)
            assert np.array_equal(found, expected), f"other values of {key} in {episode.name}"


def read_all(path: Path) -> None:
    """Open a data set, measure it and read every frame."""
    dataset = open_dataset(path, image_size=16)
    dataset.spec()
    for index, episode in enumerate(dataset.episodes):
        for start in range(0, episode.num_actions, 8):
            dataset.clip(index, start, min(8, episode.num_actions + 1 - start))


def run(sample: Path, folder: Path, seed: int, has_checksums: bool) -> str | None:
    """Read one variant; return what is wrong, if anything."""
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("forkserver")  # whose processes have all imported
    context.set_forkserver_preload([__name__])
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=read_damaged, args=(sample, folder, seed, has_checksums, theirs)
    )
    process.start()
    theirs.close()
    done, report = "not known", None
    with suppress(EOFError):  # it ended without a word
        done, report = mine.recv()
    process.join()
    shutil.rmtree(folder)
    if report is None:
        return f"seed {seed}: the process ended with {process.exitcode} (-14: hung)"
    if report.outcome == "wrong":
        return f"seed {seed}, {done}: {report.text}"
    if report.memory > MEMORY_BYTES:
        return f"seed {seed}, {done}: took {report.memory / 2**20:.0f} MiB, then {report.outcome}"
    return None


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_damaged_data_is_refused_clearly_or_read_in_part(name: str, tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    sample = SAMPLES[name].write(tmp_path / "sample")
    read_all(sample)  # whole, it is read
    count = VARIANTS // len(SAMPLES) + 1
    with ThreadPoolExecutor(PROCESSES) as pool:
        jobs = [
            pool.submit(run, sample, tmp_path / f"variant{i}", i, SAMPLES[name].has_checksums)
            for i in range(count)
        ]
        wrong = [text for job in jobs if (text := job.result())]
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong[:5])
