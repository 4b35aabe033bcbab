"""Damage to any file, to JSON and to values, by a seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator

ABSURD: list[Any] = [
    *(None, True, -1, 0, 3, 2**31, 10**18, -(10**18), 0.5, 1e308, float("nan")),
    *("", "x", "../../../etc/passwd", "float128", "\x00", "é" * 5000, [], [[]], {}, [10**12] * 4),
    *(
        [-1, 2],
        {"a": {"a": {"a": None}}},
        "object",
        "<f8",
        ["x"] * 50,
        "{episode_index:9999999999d}",
    ),
]
BOMB_BYTES = 2**31  # what a bomb unpacks to: twice the memory that reading may take


def cut(file: Path, rng: Rng) -> str:
    """Keep the beginning of a file."""
    data = file.read_bytes()
    length = int(rng.integers(0, max(len(data), 1)))
    file.write_bytes(data[:length])
    return f"cut to {length} of {len(data)} bytes"


def flip(file: Path, rng: Rng) -> str:
    """Change single bytes anywhere."""
    data = bytearray(file.read_bytes())
    count = int(rng.integers(1, 20)) if data else 0
    places = rng.integers(0, max(len(data), 1), count).tolist()
    for place in places:
        data[place] ^= int(rng.integers(1, 256))
    file.write_bytes(bytes(data))
    return f"bytes changed at {places}"


def empty(file: Path, rng: Rng) -> str:
    """Leave nothing in a file."""
    file.write_bytes(b"")
    return "emptied"


def remove(file: Path, rng: Rng) -> str:
    """Delete a file."""
    file.unlink()
    return "removed"


def blank(file: Path, rng: Rng) -> str:
    """Overwrite a stretch with zeros, as a disk that lost a block does."""
    data = bytearray(file.read_bytes())
    start = int(rng.integers(0, max(len(data), 1)))
    length = min(int(rng.integers(1, 4096)), len(data) - start)
    data[start : start + length] = bytes(length)
    file.write_bytes(bytes(data))
    return f"{length} zeros at {start}"


def stretch(file: Path, rng: Rng) -> str:
    """Repeat a part of a file."""
    data = file.read_bytes()
    start = int(rng.integers(0, max(len(data), 1)))
    file.write_bytes(data[:start] + data[start // 2 : start] + data[start:])
    return f"bytes {start // 2} to {start} twice"


def edit_json(file: Path, rng: Rng) -> str:
    """Delete or replace an entry somewhere in a JSON file."""
    data = _json(file.read_bytes())
    done = _edit(data, rng)
    file.write_text(json.dumps(data))
    return done


def edit_lines(file: Path, rng: Rng) -> str:
    """Delete or replace an entry in a line of a file of JSON lines."""
    lines = file.read_text(errors="replace").splitlines() or ["{}"]
    index = int(rng.integers(len(lines)))
    data = _json(lines[index].encode())
    done = _edit(data, rng)
    lines[index] = json.dumps(data)
    file.write_text("\n".join(lines))
    return f"line {index}: {done}"


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return {}


def _edit(data: Any, rng: Rng) -> str:
    """Change one entry of nested lists and dictionaries in place."""
    holders = list(_holders(data))
    if not holders:
        return "nothing to edit"
    holder, key = holders[int(rng.integers(len(holders)))]
    if rng.random() < 0.25:
        del holder[key]
        return f"entry {key!r} deleted"
    value = ABSURD[int(rng.integers(len(ABSURD)))]
    holder[key] = value
    return f"entry {key!r} is {str(value)[:40]!r}"


def _holders(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with each of its keys."""
    keys = (
        list(data) if isinstance(data, dict) else range(len(data) if isinstance(data, list) else 0)
    )
    for key in keys:
        yield data, key
        yield from _holders(data[key])


def retyped(values: np.ndarray, rng: Rng) -> Any:
    """Return values of another type or shape."""
    choices: list[Callable[[], Any]] = [
        lambda: [str(i) for i in range(len(values))] if values.ndim else "x",
        lambda: values.astype(np.complex64),
        lambda: values.astype(np.float16),
        lambda: np.zeros(values.shape, [("a", "i4"), ("b", "f8")]),
        lambda: np.int64(len(values)) if values.ndim else 1,
        lambda: values[..., None],
        lambda: values.reshape(-1),
        lambda: values.astype(bool),
        lambda: np.zeros((0, *values.shape[1:]), values.dtype),
    ]
    return choices[int(rng.integers(len(choices)))]()
