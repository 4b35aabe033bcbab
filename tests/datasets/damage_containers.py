"""Damage to what is in HDF5, parquet, npz and zip files and in chunks of zarr, by a seed."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tests.datasets.damage_bytes import ABSURD, BOMB_BYTES, Rng, cut, edit_json, flip, retyped


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
            opened[name] = retyped(values, rng)
        elif kind == "shorten" and values is not None and values.ndim:
            opened[name] = values[: int(rng.integers(0, len(values) + 1))]
        return f"{kind} {name}"


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
        arrays[name] = np.asarray(retyped(values, rng))
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
