"""Images that LeRobot data sets store in their tables or beside them.

Axes: H height, W width.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scd_wm.datasets.lerobot_table import Table
from scd_wm.datasets.limits import MAX_IMAGE_BYTES, check_images

FORMATS = ("PNG", "JPEG")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # what turns into colours; not depth of 16 bits
# What Pillow raises on damaged files, beside OSError.
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error)


def stored_images(
    table: Table, column: str, start: int, stop: int, root: Path
) -> Iterator[np.ndarray]:
    """Yield the images of rows of a column, (H, W, 3) uint8 each.

    Args:
        table: Rows of `column` have a file's content in "bytes", or its "path" below `root`.
        column: The camera.
        start: First row.
        stop: One past the last row.
        root: The data set's folder.

    Raises:
        ValueError: If an image is absent, damaged, too large or no picture in colours or grey.
    """
    count = 0
    for row, item in table.items(column, start, stop):
        yield _decode(item, root, f"image of {column} in {table.path}, row {row}")
        count += 1
    if count < stop - start:
        raise ValueError(f"{column} in {table.path} ends after {count} rows of {stop - start}")


def _decode(item: Any, root: Path, where: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(_source(item, root, where), formats=FORMATS) as image:
                check_images(where, (1, image.height, image.width, 3))
                if image.mode not in MODES:
                    raise ValueError(f"pixels are {image.mode!r}, not colours or grey of 8 bits")
                return np.asarray(image.convert("RGB"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{where} is too large ({error}); allowed are {MAX_IMAGE_BYTES} bytes"
        ) from error
    except (*DAMAGE, zlib.error) as error:
        raise ValueError(f"{where} is absent or damaged ({error})") from error


def _source(item: Any, root: Path, where: str) -> io.BytesIO | Path:
    """Return an image's content, or its file if that is in the data set's folder."""
    item = {"bytes": item} if isinstance(item, bytes) else item
    if not isinstance(item, dict) or not (item.get("bytes") or item.get("path")):
        raise ValueError(f"expected 'bytes' or 'path', got {str(item)[:40]!r}")
    if item.get("bytes"):
        return io.BytesIO(item["bytes"])
    file = root / str(item["path"])
    if not file.resolve().is_relative_to(root.resolve()) or not file.is_file():
        raise ValueError(f"no file {item['path']} in {root}")
    return file
