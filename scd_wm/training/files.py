"""Files and folders that are whole or not there, whenever the process or the machine dies.

All are written under a temporary name that begins with a dot, forced to disk, and renamed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from scd_wm.autoencoder.folder import read_tensors as read_tensors
from scd_wm.autoencoder.folder import write_tensors as write_tensors


def temporary(path: Path) -> Path:
    """Return the name under which `path` is written before it is renamed."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to write into; it takes the place of `path` when the block ends.

    If the block raises, what it wrote is removed and `path` stays as it was.
    """
    partial, old = temporary(path), path.with_name(f".{path.name}.old")
    remove(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        for entry in partial.rglob("*"):
            _sync(entry)
        _sync(partial)
        if path.exists():
            remove(old)
            path.rename(old)
        partial.rename(path)
        _sync(path.parent)
    finally:
        remove(partial)
    remove(old)


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file."""
    partial = temporary(path)
    partial.write_text(text, encoding="utf-8")
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write or replace a JSON file; NaN and infinity, which JSON has not, become null."""
    write_text(path, json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a JSON object, it holds a {type(data).__name__}")
    return data


def replace_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write or replace a safetensors file, whole or not at all."""
    partial = temporary(path)
    write_tensors(partial, tensors)
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Delete a folder with all that is in it, if it is there; at no time is it there by half."""
    if path.is_dir():
        hidden = path if path.name.startswith(".") else path.rename(temporary(path))
        shutil.rmtree(hidden)


def describe_folder(path: Path, limit: int = 8) -> str:
    """Return what is in a folder as readable text."""
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "nothing"


def _sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
