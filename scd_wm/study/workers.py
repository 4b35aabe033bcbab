"""The runs of a study one after the other, or several at a time in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from tqdm import tqdm

from scd_wm.child_process import end_with_parent
from scd_wm.progress import progress_bar
from scd_wm.study.runs import Job
from scd_wm.training.stop import StopRequest

LOGS = "logs"  # folder of what processes print
LOOK_S = 1.0  # between looks at how far they are
STATUS_STOPPED = 130  # of a run's process that was told to stop, and saved what it had


def make_all(jobs: Sequence[Job], workers: int) -> None:
    """Make the runs that are not there yet.

    Args:
        jobs: The runs, in the order in which they are begun.
        workers: Processes, each with its share of the threads; with 1 all is done in this one.

    Raises:
        ChildProcessError: If a run failed in a process of its own; the others are stopped and kept.
        KeyboardInterrupt: On SIGINT or SIGTERM; what was trained is kept.
    """
    waiting = [job for job in jobs if not job.is_made]
    if workers == 1 or len(waiting) < 2:
        for job in waiting:
            job.make()
        return
    threads = max(1, torch.get_num_threads() // workers)
    running: list[tuple[Job, BaseProcess]] = []
    with _bar(jobs) as bar, StopRequest() as stop:
        try:
            while (waiting or running) and not stop.is_set:
                while waiting and len(running) < workers:
                    job = waiting.pop(0)
                    running.append((job, _start(job, threads)))
                time.sleep(LOOK_S)
                # In this order: who ends between the two lines is checked as well.
                going_on = [(job, process) for job, process in running if process.exitcode is None]
                for job, process in running:
                    _check_end(job, process)
                running = going_on
                at_work = ", ".join(job.run.folder for job, _ in running)
                bar.set_postfix_str(at_work, refresh=False)
                bar.update(sum(job.steps_done for job in jobs) - bar.n)
        finally:
            for _, process in running:
                process.terminate()  # training notes SIGTERM, saves and ends
            for _, process in running:
                process.join()
    if stop.is_set:
        raise KeyboardInterrupt


def log_of(job: Job) -> Path:
    """Return where a run's own process prints."""
    return job.out / LOGS / f"{job.run.folder}.log"


def _bar(jobs: Sequence[Job]) -> tqdm:
    """Return a bar over the training steps of all runs."""
    print(f"training {len(jobs)} runs; each writes to {jobs[0].out / LOGS}", flush=True)
    return progress_bar(
        total=sum(job.steps for job in jobs),
        initial=sum(job.steps_done for job in jobs),
        unit="step",
    )


def _start(job: Job, threads: int) -> BaseProcess:
    # Not fork, which is unsafe beside the threads of torch and HDF5.
    process = get_context("spawn").Process(target=_make, args=(job, threads), name=job.run.folder)
    # A terminal sends Ctrl-C to all its processes. A run must hear of it once, by SIGTERM from
    # here: training takes a second signal for an order to end at once, and all since its last
    # checkpoint would be lost. Processes inherit what is blocked, whatever handlers they set.
    resource_tracker.ensure_running()  # as it starts it unblocks SIGINT, so it has to be there
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _make(job: Job, threads: int) -> None:
    """Make a run in a process of its own, which prints to a file."""
    end_with_parent()
    path = log_of(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    torch.set_num_threads(threads)
    try:
        job.make()
    except KeyboardInterrupt:  # training was told to stop, and has saved and said so
        sys.exit(STATUS_STOPPED)


def _check_end(job: Job, process: BaseProcess) -> None:
    """Raise ChildProcessError if a run's process ended, and not well."""
    if process.exitcode:
        lines = log_of(job).read_text(errors="replace").strip().splitlines() or ["nothing printed"]
        raise ChildProcessError(
            f"{job.run.folder} ended with {process.exitcode}: {lines[-1][:200]} (more in "
            f"{log_of(job)}); the same command goes on from there"
        )
