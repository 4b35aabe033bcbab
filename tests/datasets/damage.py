"""Damage small data sets of every format, by a seed: cut, flipped, incomplete, absurd, bombs.

`damage(folder, rng)` changes one thing, or a few, in the files below a folder. What it may do
depends on what lies there, so a new format needs nothing here unless it has a container of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.datasets.damage_bytes import (
    Rng,
    blank,
    cut,
    edit_json,
    edit_lines,
    empty,
    flip,
    remove,
    stretch,
)
from tests.datasets.damage_containers import (
    chunk_bomb,
    edit_hdf5,
    edit_npz,
    edit_parquet,
    edit_zip,
    hdf5_bomb,
    hdf5_claim,
    npz_bomb,
    npz_claim,
    parquet_bomb,
    zip_bomb,
)

Damage = Callable[[Path, Rng], str]
"""Changes one file and returns what was done."""


def damage(folder: Path, rng: Rng) -> str:
    """Damage one file below `folder`; say what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    weights = np.array([_interest(file) for file in files], float)
    file = files[int(rng.choice(len(files), p=weights / weights.sum()))]
    kinds = list(_possible(file))
    kind = kinds[int(rng.integers(len(kinds)))]
    return f"{file.relative_to(folder)}: {kind(file, rng)}"


def _interest(file: Path) -> float:
    """Return how often a file is chosen: metadata, of which there is little, as often as data."""
    return 3.0 if file.suffix in (".json", ".jsonl") or file.name.startswith(".z") else 1.0


def _possible(file: Path) -> Iterator[Damage]:
    """Yield what can be done to a file, the special things twice as often as the general."""
    yield from (cut, flip, empty, remove, blank, stretch)
    special: dict[str, tuple[Damage, ...]] = {
        ".json": (edit_json,) * 4,
        ".jsonl": (edit_lines,) * 3,
        ".parquet": (edit_parquet, edit_parquet, parquet_bomb),
        ".npz": (edit_npz, edit_npz, npz_claim, npz_bomb),
        ".zip": (edit_zip, edit_zip, zip_bomb),
    }
    yield from 2 * special.get(file.suffix, ())
    if file.suffix in (".hdf5", ".h5"):
        yield from 2 * (edit_hdf5, edit_hdf5, edit_hdf5, hdf5_claim, hdf5_bomb)
    if file.name.startswith(".z"):
        yield from (edit_json,) * 4
    if "c" in file.parts or file.name.replace(".", "").isdigit():  # a chunk of zarr
        yield chunk_bomb


def copy_of(sample: Path, folder: Path) -> Path:
    """Copy a sample's folder and return the path to open in the copy."""
    shutil.copytree(sample.parent, folder, symlinks=True)
    return folder / sample.name
