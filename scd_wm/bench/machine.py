"""The machine that a measurement was made on, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from scd_wm.bench.timing import Contestant, one_turn, seconds

Shape = tuple[int, int, int]  # rows, inner, columns

# Large ones, and layers of widths 256 to 1,024 on 64 to 2,048 tokens.
SHAPES: tuple[Shape, ...] = (
    *((1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096)),
    *((64, 512, 1536), (64, 512, 2048), (64, 1024, 4096)),
    *((512, 512, 2048), (512, 2048, 512), (2048, 256, 1024), (2048, 512, 2048)),
)
REPEATS = 3  # turns of a shape; the best counts
CALLS_ON_GPU = 20  # between two synchronisations, so that waiting for the GPU does not count


def describe(device: str = "cpu") -> dict[str, Any]:
    """Return processor, threads, versions and date."""
    is_cuda = torch.device(device).type == "cuda"
    return {
        "cpu": _cpu_name(),
        **({"gpu": torch.cuda.get_device_name(device)} if is_cuda else {}),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def gemm_peak(
    device: str, dtype: torch.dtype, turn_s: float, shapes: tuple[Shape, ...] | None = None
) -> dict[str, Any]:
    """Measure the most that matrix products reach here, with the threads that torch now has.

    Args:
        device: Where to multiply.
        dtype: Of the matrices.
        turn_s: Seconds of one of a shape's turns.
        shapes: What to try; None takes `SHAPES`.

    Returns:
        "gflop_per_s" of the best shape, "shape", and "by_shape". Seconds are CPU seconds of all
        threads on a CPU, so the figure is that of one thread; wall seconds on a GPU.
    """
    by_shape = {
        "x".join(map(str, shape)): _rate(shape, device, dtype, turn_s)
        for shape in (SHAPES if shapes is None else shapes)
        if _fits(shape, device)
    }
    best = max(by_shape, key=lambda shape: by_shape[shape])
    return {"gflop_per_s": by_shape[best], "shape": best, "by_shape": by_shape}


def _fits(shape: Shape, device: str) -> bool:
    """Leave out what takes a CPU seconds, and what does not fill a GPU."""
    limit = 2 * 2048**3
    work = 2 * shape[0] * shape[1] * shape[2]
    return work <= limit or torch.device(device).type == "cuda"


def _rate(shape: Shape, device: str, dtype: torch.dtype, turn_s: float) -> float:
    rows, inner, columns = shape
    a = torch.ones(rows, inner, dtype=dtype, device=device)
    b = torch.ones(inner, columns, dtype=dtype, device=device)
    out = torch.empty(rows, columns, dtype=dtype, device=device)
    calls = CALLS_ON_GPU if torch.device(device).type == "cuda" else 1

    def multiply() -> None:
        for _ in range(calls):
            torch.mm(a, b, out=out)

    contestant = Contestant("GEMM", multiply)
    one_turn(contestant, 0.0, device)  # warm-up
    turns = [one_turn(contestant, turn_s, device) for _ in range(REPEATS)]
    best_s = min(seconds(turn, device) for turn in turns)
    return calls * 2e-9 * rows * inner * columns / best_s


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
