"""Damage small data sets of every format, by a seed: cut, flipped, incomplete, absurd, bombs.

`damage(folder, rng)` changes one thing, or a few, in the files below a folder. What it may do
depends on what lies there, so a new format needs nothing here unless it has a container of its own.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from pyarrow import parquet

Rng = np.random.Generator
Damage = Callable[[Path, Rng], str]
"""Changes one file and returns what was done."""

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


def edit_hdf5(file: Path, rng: Rng) -> str:
    """Delete, retype, shorten, or replace something in an HDF5 file."""
    with h5py.File(file, "r+") as opened:
        names: list[str] = []
        opened.visit(names.append)
        name = names[int(rng.integers(len(names)))]
        kind = str(rng.choice(["delete", "retype", "shorten", "group", "link", "nan", "attribute"]))
        node = opened[name]
        if kind == "attribute":
            owner = node if len(node.attrs) else opened.get("data", opened)
            for key in list(owner.attrs)[:1]:
                owner.attrs[key] = str(ABSURD[int(rng.integers(len(ABSURD)))])
            return f"attribute of {name}"
        values = node[()] if isinstance(node, h5py.Dataset) else None
        if kind == "nan" and values is not None and values.dtype.kind == "f":
            node[...] = np.nan
            return f"{name} is NaN"
        del opened[name]
        if kind == "group":
            opened.create_group(name)
        elif kind == "link":
            opened[name] = h5py.SoftLink(str(rng.choice(["/nowhere", f"/{name}", "/"])))
        elif kind == "retype" and values is not None:
            opened[name] = _retyped(values, rng)
        elif kind == "shorten" and values is not None and values.ndim:
            opened[name] = values[: int(rng.integers(0, len(values) + 1))]
        return f"{kind} {name}"


def _retyped(values: np.ndarray, rng: Rng) -> Any:
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


def hdf5_claim(file: Path, rng: Rng) -> str:
    """Let a data set of an HDF5 file claim a shape that nothing has."""
    with h5py.File(file, "r+") as opened:
        name, node = _some_array(opened, rng)
        shape = [(10**12, *node.shape[1:]), (*node.shape[:-1], 10**10), (2**40,)][rng.integers(3)]
        dtype = node.dtype
        del opened[name]
        chunks = tuple(min(side, 64) for side in shape)
        opened.create_dataset(name, shape, dtype, chunks=chunks)
        return f"{name} claims {shape}"


def hdf5_bomb(file: Path, rng: Rng) -> str:
    """Put a chunk that unpacks to gigabytes into an HDF5 file."""
    with h5py.File(file, "r+") as opened:
        name, node = _some_array(opened, rng)
        row = int(np.prod(node.shape[1:])) * node.dtype.itemsize
        rows = BOMB_BYTES // row
        shape, dtype = (rows, *node.shape[1:]), node.dtype
        del opened[name]
        made = opened.create_dataset(name, shape, dtype, chunks=shape, compression="gzip")
        made.id.write_direct_chunk((0,) * len(shape), _zeros_deflated())
        return f"{name} unpacks to {BOMB_BYTES} bytes"


def _some_array(opened: h5py.File, rng: Rng) -> tuple[str, h5py.Dataset]:
    names: list[str] = []
    opened.visititems(
        lambda name, node: names.append(name) if _is_array(node) else None  # visits all
    )
    name = names[int(rng.integers(len(names)))]
    return name, opened[name]


def _is_array(node: Any) -> bool:
    return isinstance(node, h5py.Dataset) and node.ndim >= 1 and node.dtype.kind in "fiub"


def _zeros_deflated() -> bytes:
    """Return `BOMB_BYTES` zeros, compressed once for all by repeating what a block became."""
    block = bytes(2**20)
    packer = zlib.compressobj(1)
    parts = [packer.compress(block) for _ in range(64)]
    return b"".join(parts) + packer.flush()  # as far as a reader gets before it should have stopped


def edit_parquet(file: Path, rng: Rng) -> str:
    """Drop, retype, null or shorten a column, or repeat rows, in a parquet file."""
    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError):
        return cut(file, rng)
    column = int(rng.integers(table.num_columns))
    name, rows = table.column_names[column], table.num_rows
    values: list[Callable[[], pa.Array]] = [
        lambda: pa.nulls(rows),
        lambda: pa.array(["x"] * rows),
        lambda: pa.array([[1.0] * (i % 3) for i in range(rows)]),
        lambda: pa.array([float("nan")] * rows),
        lambda: pa.array([-1] * rows),
        lambda: pa.array([10**15] * rows),
        lambda: pa.array([{"bytes": b"\x89PNG\r\n", "path": "../x"}] * rows),
    ]
    kind = int(rng.integers(len(values) + 3))
    if kind < len(values):
        table = table.set_column(column, name, values[kind]())
    elif kind == len(values):
        table = table.remove_column(column)
    else:
        table = table.slice(0, rows // 2) if kind % 2 else pa.concat_tables([table, table])
    parquet.write_table(table, file)
    return f"column {name!r}, kind {kind}"


def parquet_bomb(file: Path, rng: Rng) -> str:
    """Let a column of equal values have a great many rows, in a few bytes."""
    try:
        schema = parquet.read_schema(file)
    except (pa.ArrowException, OSError):
        return cut(file, rng)
    rows = 2**22
    kept = {
        field.name: pa.repeat(pa.scalar(0, field.type), rows)
        for field in schema
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    }
    wide = [field.name for field in schema if pa.types.is_fixed_size_list(field.type)]
    kept |= {
        name: pa.repeat(pa.scalar([0.0] * 26, pa.list_(pa.float32(), 26)), rows) for name in wide
    }
    parquet.write_table(pa.table(kept), file)
    return f"{rows} rows in {file.stat().st_size} bytes"


def edit_npz(file: Path, rng: Rng) -> str:
    """Drop, retype or shorten an array of an npz file, or pickle it."""
    try:
        with np.load(file) as opened:
            arrays: dict[str, Any] = dict(opened)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return cut(file, rng)
    name = list(arrays)[int(rng.integers(len(arrays)))]
    values = arrays.pop(name)
    kind = int(rng.integers(5))
    if kind == 1:
        arrays[name] = np.array([{"an": "object"}], object)
    elif kind == 2:
        arrays[name] = values[: len(values) // 2] if values.ndim else values
    elif kind == 3:
        arrays[name] = np.asarray(_retyped(values, rng))
    elif kind == 4:
        arrays[name] = values * np.nan if values.dtype.kind == "f" else values.T
    np.savez(file, **arrays)
    return f"{name}, kind {kind}"


def npz_claim(file: Path, rng: Rng) -> str:
    """Let an array's header claim a shape that nothing has."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 7), }"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    return _replace_member(file, rng, data)


def npz_bomb(file: Path, rng: Rng) -> str:
    """Put an array that unpacks to gigabytes into an npz file."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({BOMB_BYTES},), }}".encode()
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    return _replace_member(file, rng, start + bytes(2**28))


def edit_zip(file: Path, rng: Rng) -> str:
    """Change one member of a zip file as if it were a file."""
    members = _members(file)
    if not members:
        return cut(file, rng)
    name = list(members)[int(rng.integers(len(members)))]
    inner = file.with_name("member" + (".json" if name.endswith(("json", "y", "p", "s")) else ""))
    inner.write_bytes(members.pop(name))
    done = (edit_json if inner.suffix else flip)(inner, rng)
    if rng.random() < 0.8:
        members[name] = inner.read_bytes()
    inner.unlink()
    _write_members(file, members)
    return f"{name}: {done}"


def zip_bomb(file: Path, rng: Rng) -> str:
    """Put a member that unpacks to a quarter of a gigabyte into a zip file."""
    return _replace_member(file, rng, bytes(2**28))


def _replace_member(file: Path, rng: Rng, data: bytes) -> str:
    members = _members(file)
    if not members:
        return cut(file, rng)
    name = list(members)[int(rng.integers(len(members)))]
    members[name] = data
    _write_members(file, members)
    return f"{name} is now {len(data)} bytes"


def _members(file: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(file) as opened:
            return {name: opened.read(name) for name in opened.namelist()}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return {}


def _write_members(file: Path, members: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    file.write_bytes(buffer.getvalue())


def chunk_bomb(file: Path, rng: Rng) -> str:
    """Replace a chunk by one that unpacks to far more than its array's metadata says."""
    from numcodecs import Blosc, Zstd

    codec = [Zstd(), Blosc(), None][int(rng.integers(3))]
    zeros = bytes(2**28)
    file.write_bytes(gzip.compress(zeros, 1) if codec is None else codec.encode(zeros))
    return f"chunk of {len(zeros)} bytes by {codec}"


def copy_of(sample: Path, folder: Path) -> Path:
    """Copy a sample's folder and return the path to open in the copy."""
    shutil.copytree(sample.parent, folder, symlinks=True)
    return folder / sample.name
