"""Parquet files of LeRobot data sets, read with pyarrow (the extra `lerobot`).

Axes: T rows of an episode, D values of a vector, H height, W width.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError


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
class Table:
    """The header of one parquet file."""

    path: Path
    num_rows: int
    columns: Mapping[str, int]  # name: values D in its first row, 0 for what is not numbers

    @classmethod
    def open(cls, path: Path) -> Table:
        """Read the header and the first row of a parquet file.

        Raises:
            ValueError: If the file is damaged.
        """
        import pyarrow
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(path) as file:
                rows = next(file.iter_batches(1), None)
                widths = {
                    name: _width(rows.column(name)) if rows else 0
                    for name in file.schema_arrow.names
                }
                return cls(path, file.metadata.num_rows, widths)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path} is damaged ({str(error).splitlines()[0]})") from error

    def numbers(self, column: str) -> np.ndarray:
        """Return a column of numbers, (T, D); absent values are NaN.

        Raises:
            ValueError: If rows differ in length.
        """
        from pyarrow import parquet

        values = parquet.read_table(self.path, columns=[column]).column(column).combine_chunks()
        flat = values.flatten() if hasattr(values, "values") else values
        width = self.columns[column]
        if len(flat) != self.num_rows * width:
            raise ValueError(
                f"{column} in {self.path} has rows of several lengths, the first of {width}"
            )
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(self.num_rows, width)

    def images(self, column: str, root: Path) -> Iterator[np.ndarray]:
        """Yield the images of a column, (H, W, 3) uint8 each.

        Args:
            column: Its rows have the file's content in "bytes", or its "path" below `root`.
            root: The data set's folder.

        Raises:
            ValueError: If an image is absent or damaged.
        """
        from pyarrow import parquet

        with parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(64, columns=[column]):
                for row, item in enumerate(batch.column(0).to_pylist()):
                    yield _decode_image(item, root, f"{column} in {self.path}, row {row}")


def _width(first: Any) -> int:
    """Return how many numbers the only row of a column holds."""
    value = first[0].as_py()
    values = value if isinstance(value, list) else [value]
    return len(values) if all(isinstance(x, int | float) for x in values) else 0


def _decode_image(item: Mapping[str, Any], root: Path, where: str) -> np.ndarray:
    """Return an image that lies in the table or beside it."""
    source = io.BytesIO(item["bytes"]) if item.get("bytes") else root / str(item.get("path"))
    try:
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"image of {where} is absent or damaged ({error})") from error
