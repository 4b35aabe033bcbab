"""Memory of this process, and of a fresh one that does a piece of work.

A fresh process, because a process keeps much of what it has freed. Its peak is read from /proc and
not from `getrusage`, which counts the parent's memory too: a child begins as a copy of it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scd_wm.memory_setup import keep_freed_memory

MIB = 2**20
_STATM, _STATUS = Path("/proc/self/statm"), Path("/proc/self/status")


def resident_mib() -> float | None:
    """Return the resident memory of this process, where Linux tells it."""
    if not _STATM.is_file():
        return None
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def peak_mib() -> float:
    """Return the most resident memory that this process has had."""
    if _STATUS.is_file():
        fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024 / MIB
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes there, else KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)` as a process of its own works it out.

    Args:
        function: Of a module, so that it can be named to the process.
        arguments: Plain values.

    Raises:
        RuntimeError: If it fails there; the process has then printed why.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_serve, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise RuntimeError(f"the process that measures {function.__name__} failed") from None
    finally:
        process.join()


def _serve(answer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    keep_freed_memory()  # as the command line does
    answer.send(function(*arguments))
