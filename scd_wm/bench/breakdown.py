"""Where the time of a piece of work goes, by kinds of operation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from scd_wm.bench.timing import synchronize, without_gc

KINDS = {
    "attention": ("scaled_dot_product", "flash", "fmha"),
    "convolutions": ("conv",),
    "matrix products": ("mm", "linear", "matmul", "gemm", "cutlass", "nvjet"),
    "copies": ("copy", "memcpy", "cat", "clone", "contiguous", "stack", "repeat", "index", "fill"),
}
"""Kind: parts of the names of its operations. The first kind that fits is taken."""
REST = "norms and elementwise"
OVERHEAD = "Python and overhead"  # what is left of the wall time when all operations are taken off


def breakdown(run: Callable[[], object], device: str = "cpu") -> dict[str, float]:
    """Return the share of each kind of operation in the time of one call, 0 to 1.

    The profiler takes time too, most of it for many small operations, so overhead is an upper
    bound. It is set against wall time, so a CPU must have one thread and be left alone.
    """
    run()
    is_cuda = torch.device(device).type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with without_gc(), profile(activities=activities) as profiler:
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        wall_us = 1e6 * (time.perf_counter() - start)
    events = profiler.key_averages()
    if is_cuda:  # the kernels; the operations that launched them have their time once more
        kernels = [event for event in events if event.device_type.name == "CUDA"]
        return shares({event.key: event.self_device_time_total for event in kernels}, wall_us)
    return shares({event.key: event.self_cpu_time_total for event in events}, wall_us)


def shares(times_us: dict[str, float], wall_us: float) -> dict[str, float]:
    """Return the share of each kind in `wall_us`, from the time of each operation by its name."""
    total = dict.fromkeys((*KINDS, REST), 0.0)
    for name, time_us in times_us.items():
        total[kind_of(name)] += time_us
    # Operations of several threads or streams may overlap: then there is no overhead to be seen.
    whole = max(wall_us, sum(total.values()))
    total[OVERHEAD] = whole - sum(total.values())
    return {kind: time_us / whole for kind, time_us in total.items()}


def kind_of(name: str) -> str:
    """Return the kind of an operation, such as "aten::addmm"."""
    short = name.removeprefix("aten::").lower()
    for kind, parts in KINDS.items():
        if any(part in short for part in parts):
            return kind
    return REST


def breakdown_line(found: dict[str, Any]) -> str:
    """Return shares as a line of text."""
    return ", ".join(f"{kind} {share:.0%}" for kind, share in found.items())
