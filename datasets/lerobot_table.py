"""Parquet files of LeRobot data sets, read with pyarrow (the extra `lerobot`).

Axes: T rows, D values of a vector.

A file opens by its footer, which is not believed: what it claims is checked against the bounds of
`scd_wm.datasets.limits` before anything is read, and what was read against what it claims. Files
are opened for each read, so nothing is shared between processes.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scd_wm.datasets.limits import MAX_CHUNK_BYTES, MAX_STEPS, MAX_VECTOR_BYTES, check_numbers

BATCH_VALUES = 2**20  # numbers unpacked at a time
KEPT_BYTES = 2**25  # a row group's column is kept while it is read from if it is no larger


def check_pyarrow() -> None:
    """Raise unless pyarrow can be imported.

    Raises:
        ValueError: Saying what to install.
    """
    try:
        import pyarrow  # noqa: F401 - whether it is there is all that is asked
    except ModuleNotFoundError as error:
        raise ValueError(
            "LeRobot data sets need pyarrow; install the extra: pip install 'scd-wm[lerobot]'"
        ) from error


@dataclass(frozen=True)
class Column:
    """What a column's rows hold."""

    width: int  # numbers D in the first row; 0 for what is not numbers
    dtype: str  # Arrow's name of the type of a value


@dataclass(frozen=True)
class Table:
    """What the footer and the first row of one parquet file say."""

    path: Path
    ends: tuple[int, ...]  # rows of each row group and those before it
    columns: Mapping[str, Column]

    @property
    def num_rows(self) -> int:
        """Rows that the file claims."""
        return self.ends[-1] if self.ends else 0

    def width(self, column: str) -> int:
        """Return the numbers in a row of a column; 0 where it is absent or not numbers."""
        return self.columns[column].width if column in self.columns else 0

    @classmethod
    def open(cls, path: Path, ignore: str | None = None) -> Table:
        """Read the footer and the widths of the columns.

        Args:
            path: The parquet file.
            ignore: Columns whose names begin so are left out.

        Raises:
            ValueError: If the file is damaged or claims what cannot be.
        """
        with _parquet(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            ends = tuple(itertools.accumulate(group.num_rows for group in groups))
            if any(group.num_rows < 0 for group in groups) or (ends and ends[-1] > MAX_STEPS):
                raise ValueError(f"{path} claims {ends[-1]} rows; allowed are {MAX_STEPS}")
            columns = tuple(
                (column.name, _column(path, file, column.name, column.type))
                for column in file.schema_arrow
                if ignore is None or not column.name.startswith(ignore)
            )
        return cls(path, ends, _shared(columns))

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield each row group that has some of rows `start` to `stop - 1`, and which of its own.

        Yields:
            Its index, the first row within it, and one past the last row within it.
        """
        group = bisect.bisect_right(self.ends, start)
        while start < stop and group < len(self.ends):
            first = self.ends[group - 1] if group else 0
            last = min(stop, self.ends[group])
            yield group, start - first, last - first
            start, group = last, group + 1

    def numbers(self, column: str, group: int, start: int, stop: int) -> np.ndarray:
        """Return rows of a column of numbers in one row group, (stop - start, D).

        Absent values are NaN.

        Raises:
            ValueError: If rows differ in length, or the file is damaged.
        """
        width = self.width(column)
        check_numbers(f"{column} in {self.path}", (stop - start, width), 8)
        rows: list[np.ndarray] = []
        with _parquet(self.path) as file:
            _check_column(self.path, file, group, column)
            at = 0
            for batch in _batches(file, group, column, max(1, BATCH_VALUES // width)):
                first, last = max(start - at, 0), min(stop - at, len(batch))
                if first < last:
                    rows.append(_matrix(batch[first:last], width, f"{column} in {self.path}"))
                at += len(batch)
                if at >= stop:
                    break
        found = sum(map(len, rows))
        if found != stop - start:
            raise ValueError(
                f"{column} in {self.path} holds {found} of rows {start} to {stop - 1} of row "
                f"group {group}: the file is damaged"
            )
        return np.concatenate(rows)

    def items(self, column: str, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """Yield row numbers and rows of a column that are no numbers, one row in memory at a time.

        Raises:
            ValueError: If the file is damaged.
        """
        with _parquet(self.path) as file:
            for group, first, last in self.pieces(start, stop):
                _check_column(self.path, file, group, column)
                before = self.ends[group - 1] if group else 0
                rows = enumerate(_batches(file, group, column, 1))
                for row, item in itertools.islice(rows, first, last):
                    yield before + row, item[0].as_py()


@functools.lru_cache(maxsize=16)
def _shared(columns: tuple[tuple[str, Column], ...]) -> Mapping[str, Column]:
    """Return the same mapping for the same columns, as data sets have up to 100,000 such files."""
    return dict(columns)


class RecentRows:
    """Rows of tables; the row group last read of each column is kept, as the next episode is there.

    Some files hold hundreds of episodes in one row group, of which any part takes as long to read
    as all before it.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Path, int, np.ndarray]] = {}

    def read(self, table: Table, column: str, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop - 1` of a column of numbers, (stop - start, D).

        Raises:
            ValueError: If they are damaged or not there.
        """
        check_numbers(f"{column} in {table.path}", (stop - start, table.width(column)), 8)
        rows = [self._piece(table, column, *piece) for piece in table.pieces(start, stop)]
        return np.concatenate(rows) if rows else np.zeros((0, table.width(column)), np.float32)

    def _piece(self, table: Table, column: str, group: int, start: int, stop: int) -> np.ndarray:
        length = table.ends[group] - (table.ends[group - 1] if group else 0)
        if length * table.width(column) * 8 > KEPT_BYTES:
            return table.numbers(column, group, start, stop)
        path, kept_group, rows = self._kept.get(column, (None, 0, None))
        if rows is None or (path, kept_group) != (table.path, group):
            rows = table.numbers(column, group, 0, length)
            self._kept[column] = (table.path, group, rows)
        return rows[start:stop]

    def __getstate__(self) -> dict[str, Any]:
        return {"_kept": {}}


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """Open a parquet file; whatever goes wrong in reading it becomes a ValueError."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**16) as file:
            yield file
    except (pyarrow.ArrowException, OSError, KeyError, IndexError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged ({reason})") from error


def _check_column(path: Path, file: Any, group: int, column: str) -> None:
    """Raise ValueError if a column of a row group claims more than could be unpacked."""
    metadata = file.metadata.row_group(group)
    for index in range(metadata.num_columns):
        chunk = metadata.column(index)
        if chunk.path_in_schema != column and not chunk.path_in_schema.startswith(f"{column}."):
            continue
        unpacked, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        # Images do not pack well, so a column that is large unpacked is large packed too.
        if unpacked > MAX_CHUNK_BYTES and unpacked > 2 * packed:
            raise ValueError(
                f"{column} in {path} claims that {packed} bytes unpack to {unpacked}; allowed are "
                f"{MAX_CHUNK_BYTES}"
            )
        if chunk.num_values > MAX_VECTOR_BYTES // 4:
            raise ValueError(
                f"{column} in {path} claims {chunk.num_values} values in a row group; allowed are "
                f"{MAX_VECTOR_BYTES // 4}"
            )


def _batches(file: Any, group: int, column: str, length: int) -> Iterator[Any]:
    """Yield the Arrow arrays of a column, `length` rows each, the last one fewer."""
    # Threads of Arrow's would not survive a fork.
    options = {"columns": [column], "row_groups": [group], "use_threads": False}
    for batch in file.iter_batches(length, **options):
        yield batch.column(column)


def _column(path: Path, file: Any, name: str, kind: Any) -> Column:
    """Return what a column holds, by its type and, where that leaves it open, its first row."""
    from pyarrow import types

    width, inner, is_open = 1, kind, False
    while _is_list(inner):
        fixed = types.is_fixed_size_list(inner)
        width, is_open = width * (inner.list_size if fixed else 1), is_open or not fixed
        inner = inner.value_type
    if not (types.is_floating(inner) or types.is_integer(inner) or types.is_boolean(inner)):
        return Column(0, str(kind))
    if is_open:
        width = _first_width(path, file, name)
    return Column(width, "bool" if types.is_boolean(inner) else inner.to_pandas_dtype().__name__)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _first_width(path: Path, file: Any, name: str) -> int:
    """Return how many numbers the first row of a column holds; 0 if there is no row."""
    groups = range(file.metadata.num_row_groups)
    group = next((i for i in groups if file.metadata.row_group(i).num_rows), None)
    if group is None:
        return 0
    _check_column(path, file, group, name)
    first = next(_batches(file, group, name, 1), None)
    while first is not None and _is_list(first.type):
        first = first.flatten()
    return 0 if first is None else len(first)


def _matrix(rows: Any, width: int, where: str) -> np.ndarray:
    """Return an Arrow array of numbers or of lists of numbers, nested or not, as (T, D)."""
    import pyarrow
    from pyarrow import compute

    flat = rows
    while _is_list(flat.type):
        lengths = compute.unique(compute.list_value_length(flat)).to_pylist()
        if len(lengths) > 1 or None in lengths:
            raise ValueError(
                f"{where} has rows of several lengths or none: {lengths[:5]}, the first row has "
                f"{width} values"
            )
        flat = flat.flatten()
    if len(flat) != len(rows) * width:
        raise ValueError(f"{where} has {len(flat)} values in {len(rows)} rows of {width}")
    if flat.null_count:
        flat = flat.cast(pyarrow.float64())
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(rows), width)
