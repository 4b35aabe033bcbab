"""How fast clips are loaded from each format, beside robomimic's own loader, on the same episodes.

Everything runs in one process and one thread, in turns, so that a busy machine is unfair to nobody.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scd_wm.bench.data_sources import SOURCES
from scd_wm.bench.machine import describe
from scd_wm.bench.options import check_out
from scd_wm.bench.resident import resident_mib
from scd_wm.bench.timing import Contestant, Spread, Turn, take_turns
from scd_wm.collect import collect
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.loader import ClipLoader
from scd_wm.torchvision_shim import declare_torchvision_operators
from scd_wm.training import files

FORMAT = "scd_wm bench data"
ENV, EPISODES = "scd_wm/PushT-v0", 20  # what is recorded where no data set is given
EVERYTHING = 2**40  # bytes of memory: all fits


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is timed."""

    num_frames: int = 16  # of a clip
    batch_size: int = 16  # clips
    rounds: int = 5  # in which every loader has a turn
    turn_s: float = 0.5  # seconds of a turn, at least
    seed: int = 0  # of the order of clips

    def __post_init__(self) -> None:
        for name in ("num_frames", "batch_size", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Loader:
    """Something that gives batches of clips."""

    name: str
    memory: str  # what of the data it keeps in memory
    batch: Callable[[], object]


def bench_data(
    data: str | Path | None = None,
    config: BenchConfig | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Time the loading of random clips.

    Args:
        data: A data set, all of whose episodes are written in each format; None records some.
        config: How to time; None takes the defaults.
        out: A JSON file for the result; None writes none.

    Returns:
        What is written to `out`: "rows" has clips per CPU second and per second, as medians over
        the rounds with the least and the most, and megabytes on disk.

    Raises:
        FileNotFoundError, ValueError: If there is no such data, or it cannot be read.
    """
    config = BenchConfig() if config is None else config
    check_out(out)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="scd_wm_bench_") as temporary:
        folder = Path(temporary)
        source = Path(data) if data is not None else _record(folder / "recorded.hdf5")
        dataset = open_dataset(source, cache_dir=folder / "cache")
        places = _write_all(dataset, folder)
        loaders = [*_ours(places, folder / "cache", config), *_robomimic(dataset, places, config)]
        turns = _time(loaders, config)
        sizes = {name: _size(path) for name, path in places.items()}
        result = {
            "format": FORMAT,
            "data": str(source) if data is not None else f"{EPISODES} episodes of {ENV}",
            "clip": _describe(dataset, config),
            "config": asdict(config),
            "machine": describe(),
            "rows": [
                _row(loader, turns[index], config, sizes.get(loader.name))
                for index, loader in enumerate(loaders)
            ],
            "resident_mib_in_an_epoch": _resident_in_epoch(places["store"], dataset, config),
        }
    if out is not None:
        files.write_json(Path(out), result)
    return result


def table_lines(result: dict[str, Any]) -> list[str]:
    """Return the result of `bench_data` as a table of text."""
    lines = [f"{'loader':<40}{'in memory':<12}{'clips / CPU s':>22}{'clips / s':>12}{'MB':>9}"]
    for row in result["rows"]:
        rate = f"{row['clips_per_cpu_s']:,.0f} ({row['least']:,.0f} to {row['most']:,.0f})"
        size = f"{row['megabytes']:,.1f}" if row["megabytes"] is not None else ""
        lines.append(
            f"{row['loader']:<40}{row['memory']:<12}{rate:>22}{row['clips_per_s']:>12,.0f}{size:>9}"
        )
    return lines


def _record(path: Path) -> Path:
    collect(ENV, "scripted", EPISODES, path, seed=0)
    return path


def _write_all(dataset: RobotDataset, folder: Path) -> dict[str, Path]:
    """Write the episodes in every format."""
    places = {}
    for name, write in SOURCES.items():
        print(f"writing {name}", flush=True)
        write(dataset, folder / name)
        places[name] = folder / name
    return places


def _ours(places: dict[str, Path], cache: Path, config: BenchConfig) -> Iterator[Loader]:
    """Yield our loader on every format, with all in memory and with none of the images."""
    for name, path in places.items():
        for memory in ("all", "numbers"):
            # Images get what numbers leave, here so little that all but a few are read from disk.
            numbers = 2 * open_dataset(path, cache_dir=cache).number_bytes
            limit = EVERYTHING if memory == "all" else numbers
            dataset = open_dataset(path, cache_dir=cache, memory_bytes=limit)
            loader = ClipLoader(dataset, config.num_frames, config.batch_size, config.seed)
            yield Loader(name, memory, _steps(loader))


def _steps(loader: ClipLoader) -> Callable[[], object]:
    step = iter(range(10**12))
    return lambda: loader.batch(next(step))


def _robomimic(
    dataset: RobotDataset, places: dict[str, Path], config: BenchConfig
) -> Iterator[Loader]:
    """Yield robomimic's `SequenceDataset` on the same file, if robomimic is installed."""
    try:
        declare_torchvision_operators()
        with contextlib.redirect_stdout(io.StringIO()):
            from robomimic.utils import obs_utils
            from robomimic.utils.dataset import SequenceDataset
    except ModuleNotFoundError:
        print("robomimic is not installed, its loader is left out: pip install 'scd-wm[robomimic]'")
        return
    specs = [{"obs": {"rgb": list(dataset.cameras), "low_dim": list(dataset.vectors)}}]
    modes = (("all", "all"), ("low_dim", "numbers"), (None, "nothing"))
    for name, (mode, memory) in product(("robomimic.hdf5", "raw robomimic.hdf5"), modes):
        if mode == "all" and name != "robomimic.hdf5":
            continue  # what is kept of both files is the same
        with _silence():
            obs_utils.initialize_obs_utils_with_obs_specs(specs)
            sequences = SequenceDataset(
                str(places[name]),
                obs_keys=[*dataset.cameras, *dataset.vectors],
                dataset_keys=["actions", "rewards"],
                frame_stack=1,
                seq_length=config.num_frames,
                get_pad_mask=False,
                hdf5_cache_mode=mode,
                hdf5_use_swmr=False,
                load_next_obs=False,
            )
        yield Loader(f"SequenceDataset of {name}", memory, _random_batches(sequences, config))


def _random_batches(sequences: Any, config: BenchConfig) -> Callable[[], object]:
    rng = np.random.default_rng(config.seed)

    def batch() -> object:
        indices = rng.integers(0, len(sequences), config.batch_size)
        return torch.utils.data.default_collate([sequences[int(i)] for i in indices])

    return batch


def _time(loaders: list[Loader], config: BenchConfig) -> list[list[Turn]]:
    """Return for each loader the turns of its batches; what is kept in memory is read before."""
    contestants = [Contestant(f"{each.name}, {each.memory}", each.batch) for each in loaders]
    return take_turns(
        contestants, config.rounds, config.turn_s, warm_up_s=2 * config.turn_s, what="loading"
    )


def _row(
    loader: Loader, turns: list[Turn], config: BenchConfig, size: int | None
) -> dict[str, str | float | None]:
    by_cpu = Spread.of([config.batch_size / turn.cpu_s for turn in turns])
    return {
        "loader": loader.name,
        "memory": loader.memory,
        "clips_per_cpu_s": by_cpu.median,
        "least": by_cpu.least,
        "most": by_cpu.most,
        "clips_per_s": Spread.of([config.batch_size / turn.wall_s for turn in turns]).median,
        "megabytes": None if size is None else size / 1e6,
    }


def _resident_in_epoch(store: Path, dataset: RobotDataset, config: BenchConfig) -> dict[str, Any]:
    """Return the resident memory after a tenth of an epoch from disk, and at its end."""
    opened = open_dataset(store, memory_bytes=0)
    loader = ClipLoader(opened, config.num_frames, config.batch_size, config.seed)
    num_steps = -(-loader.num_windows // config.batch_size)
    early = None
    for step in range(num_steps):
        loader.batch(step)
        if step == num_steps // 10:
            early = resident_mib()
    return {"after_a_tenth": early, "at_the_end": resident_mib(), "steps": num_steps}


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in found)


def _describe(dataset: RobotDataset, config: BenchConfig) -> str:
    cameras = ", ".join(f"{n} {h}x{w}x3 uint8" for n, (h, w) in dataset.image_sizes.items())
    return (
        f"{config.num_frames} frames of {cameras or 'no camera'} and {len(dataset.vectors)} "
        f"vectors, {config.batch_size} a batch, from {len(dataset.episodes)} episodes of "
        f"{dataset.num_steps} steps"
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep robomimic's progress and banners from the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
