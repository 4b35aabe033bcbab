"""Memory of rollouts: a long one, and many branches from one history."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scd_wm import imagination
from scd_wm.bench import models, results
from scd_wm.bench.models import Entry
from scd_wm.bench.options import BenchOptions, check_at_least_1, check_out
from scd_wm.bench.resident import MIB, in_fresh_process, resident_mib
from scd_wm.bench.results import Result, Row
from scd_wm.imagination import Frames
from scd_wm.progress import progress_bar

SAMPLES = 20  # readings of memory in a long rollout
START = 0.1  # share of it after which memory should stand still


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """Sizes of the rollouts.

    Raises:
        ValueError: If a size is below 1.
    """

    frames: int = 10_000  # of the long rollout, which has a tiny model
    branches: int = 256
    horizon: int = 4  # frames that every branch imagines
    dim: int = 128  # of the model that branches
    tokens: int = 16
    history: int = 16  # frames of the history that is shared
    layers: tuple[int, int] = (6, 2)
    modes: tuple[str, ...] = ("prefix", "entangled")

    def __post_init__(self) -> None:
        models.check_modes(self.modes)
        check_at_least_1(self, "frames", "branches", "horizon", "tokens", "history")

    def long_entry(self, mode: str) -> Entry:
        """Return the model of the long rollout."""
        config = models.make_config(dim=32, layers=(2, 1), window=4, num_steps=1)
        return models.entry(models.camera_world(4), config, mode)

    def branching_entry(self, mode: str) -> Entry:
        """Return the model that branches."""
        config = models.make_config(
            dim=self.dim, layers=self.layers, window=self.history, num_steps=1
        )
        return models.entry(models.camera_world(self.tokens), config, mode)


QUICK = MemoryConfig(frames=20, branches=4, horizon=2, dim=32, tokens=4, history=2, layers=(1, 1))


def bench_memory(
    config: MemoryConfig | None = None,
    options: BenchOptions | None = None,
    out: str | Path | None = None,
) -> Result:
    """Measure the memory of a long rollout and of branches, each in a process of its own.

    Args:
        config: Sizes; None takes the defaults.
        options: Device, precision and threads; None takes the defaults.
        out: A JSON file for the result; None writes none.

    Returns:
        What is written to `out`: "long" and "branches" have a row a model.

    Raises:
        ValueError, OSError: If a size does not fit, or `out` cannot be written.
    """
    config = MemoryConfig() if config is None else config
    options = BenchOptions() if options is None else options
    entries = [(config.long_entry(m), config.branching_entry(m)) for m in config.modes]
    check_out(out)
    result = results.new_result("memory", options, config=asdict(config))
    del result["rows"]
    result["long"] = [in_fresh_process(long_rollout, e, config, options) for e, _ in entries]
    result["branches"] = [in_fresh_process(branches, e, config, options) for _, e in entries]
    results.write_result(result, out)
    return result


def long_rollout(entry: Entry, config: MemoryConfig, options: BenchOptions) -> Row:
    """Imagine many frames in a row and return how resident memory went."""
    torch.set_num_threads(options.threads)
    model = models.build(entry, options).eval()
    state = imagination.begin(model, models.history(entry, 1, options, entry.config.window))
    action = models.actions(entry, 1, options)
    every, is_finite, readings = max(1, config.frames // SAMPLES), True, []
    for index in progress_bar(range(1, config.frames + 1), desc=entry.name, unit="frame"):
        frames = imagination.step(model, state, action)
        if index % every == 0 or index == config.frames:
            is_finite = is_finite and _is_finite(frames) and bool(state.last.isfinite().all())
            readings.append((index, allocated_mib(options.device)))
    early = next(mib for index, mib in readings if index >= START * config.frames)
    return {
        "model": entry.name,
        "shape": entry.shape,
        "frames": config.frames,
        "is_finite": is_finite,
        "early_mib": early,
        "last_mib": readings[-1][1],
        "most_mib": max(mib for _, mib in readings),
        "state_mib": storage_bytes(state) / MIB,
    }


def branches(entry: Entry, config: MemoryConfig, options: BenchOptions) -> Row:
    """Fork a history, let every branch imagine, and return what that holds in memory.

    Private to a branch is what it alone knows: keys and values of the frames that it imagined, and
    its row of everything else.
    """
    torch.set_num_threads(options.threads)
    model = models.build(entry, options).eval()
    history = models.history(entry, 1, options, config.history)
    imagination.step(model, imagination.begin(model, history), models.actions(entry, 1, options))
    state = imagination.begin(model, history)
    action = models.actions(entry, config.branches, options)
    one, private = storage_bytes(state), private_bytes(entry, config, options)
    before = allocated_mib(options.device)
    forked = state.fork(config.branches, config.horizon)
    for _ in range(config.horizon):
        imagination.step(model, forked, action)
    gc.collect()
    after, held = allocated_mib(options.device), storage_bytes([state, forked])
    expected = one + config.branches * private
    return {
        "model": entry.name,
        "shape": entry.shape,
        "branches": config.branches,
        "horizon": config.horizon,
        "history_mib": one / MIB,
        "private_mib": private / MIB,
        "expected_mib": expected / MIB,
        "held_mib": held / MIB,
        "held_over_expected": held / expected,
        "resident_growth_mib": after - before,
        "copies_would_take_mib": config.branches * one / MIB,
    }


def private_bytes(entry: Entry, config: MemoryConfig, options: BenchOptions) -> int:
    """Return the bytes that a branch alone needs: keys and values of its frames, its last frame.

    Its frames but the last are in the window, which has room for no more than `history`.
    """
    c, item = entry.config, options.torch_dtype.itemsize
    layers = c.encoder_layers + (c.decoder_layers if entry.mode == "entangled" else 0)
    kept = min(config.horizon, config.history)
    keys_and_values = 2 * layers * kept * entry.num_tokens * c.dim * item
    last = sum(s.height * s.width * s.channels for s in entry.spec.cameras.values()) * item
    return keys_and_values + last


def storage_bytes(value: Any) -> int:
    """Return the bytes of all tensors in a value, each storage once however many views it has."""
    storages = {}
    for tensor in tensors_in(value):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def tensors_in(value: Any) -> Iterable[Tensor]:
    """Yield the tensors in dataclasses, mappings, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from tensors_in(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from tensors_in(entry)


def allocated_mib(device: str) -> float:
    """Return the memory of this process: resident, or that of tensors on a GPU."""
    if device == "cuda":
        return torch.cuda.memory_allocated() / MIB
    found = resident_mib()
    return math.nan if found is None else found


def _is_finite(frames: Frames) -> bool:
    groups = (frames.images, frames.vectors, frames.outcome)
    return all(bool(x.isfinite().all()) for group in groups for x in group.values())


def _mib(name: str, digits: int = 1) -> Any:
    return lambda row: f"{row[name]:,.{digits}f}"


LONG: tuple[results.Column, ...] = (
    ("long rollout", lambda row: row["model"]),
    ("shape", lambda row: row["shape"]),
    ("frames", lambda row: f"{row['frames']:,}"),
    ("finite", lambda row: "yes" if row["is_finite"] else "NO"),
    ("MiB after a tenth", _mib("early_mib")),
    ("at the end", _mib("last_mib")),
    ("at most", _mib("most_mib")),
    ("of the state", _mib("state_mib", 2)),
)
BRANCHES: tuple[results.Column, ...] = (
    ("fork", lambda row: row["model"]),
    ("shape", lambda row: row["shape"]),
    ("branches x frames", lambda row: f"{row['branches']} x {row['horizon']}"),
    ("history MiB", _mib("history_mib")),
    ("private, all", lambda row: f"{row['expected_mib'] - row['history_mib']:,.1f}"),
    ("held", _mib("held_mib")),
    ("over their sum", lambda row: f"{row['held_over_expected']:.2f}"),
    ("resident growth", _mib("resident_growth_mib")),
    ("copies of the history", _mib("copies_would_take_mib")),
)


def lines(result: Result) -> list[str]:
    """Return the result as text."""
    return [
        *results.heading_lines(result)[:1],
        "",
        *results.table(result["long"], LONG),
        "",
        *results.table(result["branches"], BRANCHES),
    ]
