"""Write Minari's layout with h5py alone, as minari 0.5 does."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

BOX = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1.0, -1.0], "high": [1.0, 1.0]}


def jpeg(image: np.ndarray) -> np.ndarray:
    """Return an image, (H, W, 3) uint8, as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def write_jpegs(group: h5py.Group, key: str, images: np.ndarray) -> None:
    """Write images, (T, H, W, 3) uint8, as minari does: one width if all files have one length."""
    files = [jpeg(image) for image in images]
    same = len({len(file) for file in files}) == 1
    dtype = None if same else h5py.vlen_dtype(np.uint8)
    data: Any = np.stack(files) if same else np.empty(len(files), object)
    if not same:
        data[:] = files
    group.create_dataset(key, data=data, dtype=dtype, chunks=True)


def write_episode(
    file: h5py.File,
    index: int,
    observations: Mapping[str, np.ndarray],
    actions: np.ndarray,
    success: Sequence[bool] | None = None,
) -> None:
    """Write one episode; the reward of step t is t and the last step terminates.

    Args:
        file: The open file.
        index: Of the episode.
        observations: Path to (T + 1, ...); images are written as JPEG if their path ends so.
        actions: (T, ...).
        success: (T + 1,), the first of the reset.
    """
    group, length = file.create_group(f"episode_{index}"), len(actions)
    group.attrs.update({"id": index, "seed": index, "total_steps": length})
    group.create_dataset("actions", data=actions, chunks=True, maxshape=(None, *actions.shape[1:]))
    group["rewards"] = np.arange(length, dtype=np.float64)
    group["terminations"] = np.arange(length) == length - 1
    group["truncations"] = np.zeros(length, bool)
    if success is not None:
        group["infos/success"] = np.array(success)
    for key, values in observations.items():
        name = "observations" if not key else f"observations/{key}"
        if key.endswith("jpeg"):
            write_jpegs(group, name, values)
        else:
            group.create_dataset(name, data=values, chunks=True, maxshape=(None, *values.shape[1:]))


def write_metadata(folder: Path, **changes: Any) -> None:
    """Write `metadata.json` into the folder `data` of a data set."""
    metadata = {
        "total_episodes": 3,
        "data_format": "hdf5",
        "jpeg_encoding": True,
        "observation_space": json.dumps({"type": "Dict", "subspaces": {}}),
        "action_space": json.dumps(BOX),
        "env_spec": json.dumps({"id": "Test-v0", "kwargs": {"control_freq": 10}}),
    }
    (folder / "metadata.json").write_text(json.dumps(metadata | changes))
