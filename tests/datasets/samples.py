"""A small data set of every format, in each of which everything says what it is; see `conftest`.

A new format joins all tests of what is common to formats by a line in `SAMPLES`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scd_wm.convert.run import convert
from tests.datasets.conftest import (
    write_lerobot,
    write_lerobot_v3_folder,
    write_minari_folder,
    write_robomimic,
)
from tests.datasets.write_npz import write_npz
from tests.datasets.write_replay_buffer import write_replay_buffer


class Sample(NamedTuple):
    """How a format's data set is written, with episodes of `LENGTHS` steps, and what it has."""

    write: Callable[[Path], Path]  # into an empty folder; returns what to open
    camera: str
    vector: str
    stores_last: bool  # the observation after the last action
    fps: float | None = 10
    has_checksums: bool = False  # no damage to data goes unnoticed


def write_store(folder: Path) -> Path:
    """Write a store."""
    source = write_robomimic(folder / "source.hdf5")
    convert(source, folder / "store")
    source.unlink()
    return folder / "store"


SAMPLES = {
    "robomimic": Sample(lambda f: write_robomimic(f / "data.hdf5"), "top_image", "state", True),
    "lerobot_v2": Sample(
        lambda f: write_lerobot(f / "data"), "observation.images.top", "observation.state", False
    ),
    "lerobot_v3": Sample(
        lambda f: write_lerobot_v3_folder(f / "data"),
        "observation.images.top",
        "observation.state",
        False,
    ),
    "minari": Sample(lambda f: write_minari_folder(f / "data"), "views/top_jpeg", "state", True),
    "replay_buffer_v2": Sample(
        lambda f: write_replay_buffer(f / "data.zarr"), "img", "state", False, fps=None
    ),
    "replay_buffer_v3": Sample(
        lambda f: write_replay_buffer(f / "data.zarr", zarr_format=3),
        "img",
        "state",
        False,
        fps=None,
    ),
    "replay_buffer_zip": Sample(
        lambda f: write_replay_buffer(f / "data.zarr.zip"), "img", "state", False, fps=None
    ),
    "npz": Sample(lambda f: write_npz(f / "data"), "top", "state", False),
    "npz_leads": Sample(lambda f: write_npz(f / "data", leads=True), "top", "state", True),
    "store": Sample(write_store, "top_image", "state", True, has_checksums=True),
}
