"""What the observations in an HDF5 file are, and their values as every reader gives them.

Axes: T rows of an array (frames of an episode), H height, W width, D values of a vector.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import h5py
import numpy as np
from PIL import Image

from scd_wm.datasets.hdf5_chunks import check_stored
from scd_wm.datasets.hdf5_file import HDF5_ERRORS, Array, describe
from scd_wm.datasets.limits import check_images, check_numbers
from scd_wm.datasets.pixels import image_shape, to_rgb, to_uint8, white_level
from scd_wm.datasets.reader import Field
from scd_wm.datasets.skipped import Skipped

JPEG_START = b"\xff\xd8\xff"


class Fit(NamedTuple):
    """An observation that can be used in one episode."""

    shape: tuple[int, ...]  # of one frame
    stored: Array  # what the array's header says

    @property
    def num_rows(self) -> int:
        """Frames that the array holds."""
        return self.stored.shape[0]


class FieldTable:
    """What each observation key is, by the first episode in which it can be read.

    Args:
        group: Prefix of the keys in the file, such as "obs/", for messages.
    """

    def __init__(self, group: str) -> None:
        self.fields: dict[str, Field] = {}
        self._white_levels: dict[str, float] = {}  # camera of float images: the value of white
        self._group = group

    def fit(
        self, key: str, dataset: h5py.Dataset, num_steps: int, episode: str, skipped: Skipped
    ) -> Fit | None:
        """Return how an episode's observation is used, or None after noting why it is not.

        Args:
            key: Name of the observation.
            dataset: Its array in one episode.
            num_steps: Actions T of the episode: there may be T or T + 1 rows.
            episode: Name of the episode, for the notes.
            skipped: Where the notes go.
        """
        name = f"{self._group}{key}"
        try:
            header = describe(dataset)
            found = _field(dataset, header)
            if key not in self.fields and found.kind == "image" and found.dtype != "uint8":
                self._white_levels[key] = _white_level(dataset)
        except HDF5_ERRORS as error:
            skipped.add(f"{name}: {error}", episode)
            return None
        num_rows = header.shape[0]
        if num_rows not in (num_steps, num_steps + 1):
            place = f"{episode} has {num_rows} for {num_steps}"
            skipped.add(f"{name}: not as many rows as there are actions", place)
            return None
        usual = self.fields.setdefault(key, found)
        if _layout(found) != _layout(usual):
            place = f"{episode} has {found.kind} {found.dtype} {found.shape}"
            skipped.add(
                f"{name}: not the {usual.kind} {usual.dtype} {usual.shape} of other episodes", place
            )
            return None
        return Fit(found.shape, header)

    def values(self, key: str, rows: np.ndarray, shape: Sequence[int], where: str) -> np.ndarray:
        """Return rows as `scd_wm.datasets.reader.Reader.read` gives them.

        Args:
            key: Name of the observation.
            rows: As they are in the file.
            shape: Of one frame in this episode.
            where: File, episode and key, for messages.

        Raises:
            ValueError: If images are damaged or out of range.
        """
        if self.fields[key].kind == "vector":
            return rows.reshape(len(rows), -1)
        if rows.dtype == object or rows.ndim == 2:
            return _decode(rows, shape, where)
        layout = "HWC" if rows.shape[3] == 3 else "CHW"
        return to_uint8(where, to_rgb(rows, layout), 255 / self._white_levels.get(key, 255.0))


def _layout(field: Field) -> tuple[object, ...]:
    """Return what episodes must agree in: images may differ in size."""
    return field.kind, field.dtype, field.shape if field.kind == "vector" else None


def _field(dataset: h5py.Dataset, header: Array) -> Field:
    """Say what an observation is.

    Raises:
        ValueError: If it is neither images nor vectors, or claims too much.
    """
    shape, dtype = header.shape, header.dtype
    if picture := image_shape(shape, dtype):
        check_images("it", shape, dtype.itemsize)
        return Field(picture, dtype.name, "image")
    if encoded := _jpeg_shape(dataset, header):
        check_images("it", (shape[0], *encoded))
        return Field(encoded, "uint8", "image")
    if len(shape) > 2 or dtype.kind not in "fiub" or 0 in shape[1:]:
        raise ValueError(
            f"{_type_name(dtype)} of shape {shape[1:]} a frame is neither an image (H, W, 3) nor a "
            "vector (D,)"
        )
    check_numbers("it", shape, dtype.itemsize)
    return Field(shape[1:] or (1,), dtype.name, "vector")


def _type_name(dtype: np.dtype) -> str:
    """Return what to call a dtype, also one that is HDF5's own."""
    if h5py.check_string_dtype(dtype) is not None:
        return "text"
    return "objects" if dtype.kind == "O" else "records" if dtype.kind == "V" else dtype.name


def _white_level(dataset: h5py.Dataset) -> float:
    """Return the value of white in float images by the first, the middle and the last of them."""
    check_stored(dataset)
    rows = sorted({0, len(dataset) // 2, len(dataset) - 1})
    return white_level(np.stack([dataset[row] for row in rows]))


def _jpeg_shape(dataset: h5py.Dataset, header: Array) -> tuple[int, ...] | None:
    """Return (H, W, 3) if the rows of an array are JPEG files, by the first of them."""
    shape, dtype = header
    varying = h5py.check_vlen_dtype(dtype) == np.uint8 and len(shape) == 1
    if not varying and not (dtype == np.uint8 and len(shape) == 2 and shape[1] > len(JPEG_START)):
        return None
    check_numbers("it", shape, dtype.itemsize)
    if shape[0] == 0:
        return None
    check_stored(dataset)
    first = dataset[0].tobytes()
    if not first.startswith(JPEG_START):
        return None
    image = _open_jpeg(first)
    if image.mode != "RGB":
        raise ValueError(f"JPEG images of mode {image.mode}, not RGB")
    return image.height, image.width, 3


def _open_jpeg(content: bytes) -> Image.Image:
    """Read the header of a JPEG file.

    Raises:
        ValueError: If it is damaged or claims too many pixels.
    """
    try:
        return Image.open(io.BytesIO(content), formats=["JPEG"])
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a JPEG image is damaged ({error})") from error


def _decode(rows: np.ndarray, shape: Sequence[int], where: str) -> np.ndarray:
    """Return JPEG files, one a row, as images (T, H, W, 3) uint8.

    Raises:
        ValueError: If one is damaged, or of another size or mode than `shape`.
    """
    images = np.zeros((len(rows), *shape), np.uint8)
    for image, row in zip(images, rows, strict=True):
        try:
            picture = _open_jpeg(row.tobytes())
            if (picture.height, picture.width, len(picture.getbands())) != tuple(shape):
                raise ValueError(f"is {picture.size} {picture.mode}, the first {tuple(shape)}")
            image[:] = np.asarray(picture)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"a JPEG image of {where} is damaged ({error}); copy or download the file again, "
                "or leave the episode out"
            ) from error
    return images
