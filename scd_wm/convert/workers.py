"""Processes that convert episodes, an episode each at a time."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as futures_wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from scd_wm.child_process import end_with_parent
from scd_wm.datasets.episode_arrays import Arrays, Choice, episode_arrays, episode_stamp
from scd_wm.datasets.reader import Reader
from scd_wm.datasets.store import episode_file
from scd_wm.datasets.store_check import damage_of
from scd_wm.datasets.store_reader import episode_to_json
from scd_wm.datasets.store_writer import write_episode

LOOK_S = 5.0  # without a result, after which it is asked whether the processes are still there
Work = tuple[int, Mapping[str, Any] | None]  # an episode, and the attributes of its file if whole


class Outcome(NamedTuple):
    """What became of an episode."""

    number: int
    status: Literal["kept", "written", "changed", "damaged"]  # changed: written, as the source was
    line: str = ""  # what is damaged


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The conversion is to end at once."""


@dataclass(frozen=True)
class Task:
    """All that a process needs to convert episodes into a store."""

    reader: Reader
    choice: Choice
    store: Path
    level: int  # of zstd
    layout: str  # `layout_digest` of the store
    files: str  # `files_stamp` of the source
    verify: bool  # read back what is kept and what is written

    def run(self, number: int, known: Mapping[str, Any] | None, stop: Event | None) -> Outcome:
        """Convert an episode unless it is there already.

        Args:
            number: Its index in the source.
            known: Attributes of its file, if there is a whole one.
            stop: Set when the conversion is to end at once.

        Raises:
            OSError: If it cannot be written.
            Stopped: If `stop` was set.
        """
        file = episode_file(self.store, number)
        try:
            stamp = episode_stamp(self.reader, number, self.choice, self.files)
            same = known is not None and known["source"]["stamp"] == stamp
            if same and not (self.verify and damage_of(file)):
                return Outcome(number, "kept")
            arrays = _until(stop, episode_arrays(self.reader, number, self.choice))
            sums = write_episode(file, self.level, arrays, self._attributes(number, stamp))
        except ValueError as error:
            return Outcome(number, "damaged", str(error))
        if self.verify and (lines := damage_of(file)):
            raise OSError(f"what was written reads back otherwise: {lines[0]}; check the disk")
        changed = known is not None and known["sha256"] != sums
        return Outcome(number, "changed" if changed else "written")

    def _attributes(self, number: int, stamp: str) -> dict[str, Any]:
        episode = self.choice.episode(self.reader.info.episodes[number])
        return {
            "layout": self.layout,
            "number": number,
            "episode": episode_to_json(episode),
            "source": {"files": self.files, "stamp": stamp},
        }


def run_tasks(task: Task, work: Sequence[Work], workers: int) -> Generator[Outcome, None, None]:
    """Convert episodes and yield what became of each, in any order.

    Closing the iterator ends all processes within a part of an episode.

    Args:
        task: What to do.
        work: Episodes.
        workers: Processes; with 1 all is done in this one.
    """
    if workers == 1 or len(work) == 1:
        yield from (task.run(number, known, None) for number, known in work)
        return
    # Neither fork, which is unsafe beside the threads of torch and HDF5, nor importing all again
    # for each process.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    stop = context.Event()
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(
        min(workers, len(work)), context, initializer=_begin, initargs=(task, stop)
    ) as pool:
        try:
            yield from _outcomes(pool, _submit(pool, work))
        except BrokenProcessPool as error:
            # Python 3.11's pool waits for ever for a process that it was starting when it broke.
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise OSError(
                "a process that converts was killed, perhaps for want of memory; go on with the "
                "same command and fewer --workers"
            ) from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, work: Sequence[Work]) -> list[Future[Outcome]]:
    """Hand over all episodes.

    Raises:
        BrokenProcessPool: If a process was killed, or one could not be started.
    """
    try:
        return [pool.submit(_run, *episode) for episode in work]
    except OSError as error:  # a pool that broke has closed what it gives to a new process
        raise BrokenProcessPool(str(error)) from error


def _outcomes(pool: ProcessPoolExecutor, futures: list[Future[Outcome]]) -> Iterator[Outcome]:
    """Yield results as they come.

    Raises:
        BrokenProcessPool: If a process was killed.
    """
    pending = set(futures)
    while pending:
        done, pending = futures_wait(pending, LOOK_S, FIRST_COMPLETED)
        for future in done:
            yield future.result()
        if not done:  # what was submitted while the pool broke is never done; this raises then
            pool.submit(_nothing)


def _nothing() -> None:
    """Do nothing, in a process of the pool."""


_task: Task | None = None  # of a process of the pool
_stop: Event | None = None


def _begin(task: Task, stop: Event) -> None:
    """Prepare a process of the pool."""
    global _task, _stop
    _task, _stop = task, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent says when to stop
    end_with_parent()


def _run(number: int, known: Mapping[str, Any] | None) -> Outcome:
    assert _task is not None
    return _task.run(number, known, _stop)


def _until(stop: Event | None, arrays: Arrays) -> Arrays:
    """Pass arrays on, until `stop` is set."""

    def parts(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            if stop is not None and stop.is_set():
                raise Stopped
            yield batch

    return ((key, num_rows, parts(batches)) for key, num_rows, batches in arrays)
