"""Look at one npz episode: whether its arrays are what the mapping says.

Axes: N rows of an array, H height, W width, C channels, D values of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scd_wm.datasets.limits import check_images, check_numbers
from scd_wm.datasets.npz_file import NpzArray, npz_arrays
from scd_wm.datasets.npz_mapping import LAYOUTS, CameraMap, NpzMapping
from scd_wm.datasets.reader import ACTION, EpisodeInfo, Field
from scd_wm.spec import OUTCOMES


@dataclass(frozen=True)
class Episode:
    """The arrays of one file by their name for `read`, and what they come to."""

    info: EpisodeInfo
    arrays: dict[str, NpzArray]
    fields: dict[str, Field]
    action_dim: int


def look_at(name: str, file: Path, mapping: NpzMapping) -> Episode:
    """Look at the headers of one file.

    Raises:
        ValueError: If it cannot be used; says why.
    """
    there = npz_arrays(file)
    keys = {camera: entry.key for camera, entry in mapping.cameras.items()}
    keys |= {**mapping.vectors, ACTION: mapping.action, **mapping.outcomes}
    for key in keys.values():
        if key not in there:
            raise ValueError(f"{file} has no array {key!r}; it has {sorted(there)}")
        if there[key].dtype.kind not in "fiub" or not there[key].shape:
            raise ValueError(
                f"{there[key].where} is {there[key].dtype} of shape {there[key].shape}; expected "
                "numbers, one row for each step"
            )
    arrays = {name: there[key] for name, key in keys.items()}
    num_actions = len(arrays[ACTION]) - mapping.action_leads_to_frame
    observed = [*mapping.cameras, *mapping.vectors]
    has_last = all(len(arrays[key]) == num_actions + 1 for key in observed)
    _check_lengths(arrays, observed, num_actions, mapping)
    fields = {name: _image_field(arrays[name], entry) for name, entry in mapping.cameras.items()}
    for key in (*mapping.vectors, ACTION, *mapping.outcomes):
        dim = _width(arrays[key], key in OUTCOMES)
        if key in mapping.vectors:
            fields[key] = Field((dim,), arrays[key].dtype.newbyteorder("=").name, "vector")
    info = EpisodeInfo(name=name, num_actions=num_actions, has_last_observation=has_last)
    return Episode(info, arrays, fields, math.prod(arrays[ACTION].shape[1:]))


def _check_lengths(
    arrays: dict[str, NpzArray], observed: Sequence[str], num_actions: int, mapping: NpzMapping
) -> None:
    """Raise unless the arrays of an episode have as many rows as belong together."""
    leads = mapping.action_leads_to_frame
    steps = num_actions + leads
    for key, array in arrays.items():
        allowed = {num_actions, num_actions + 1} if key in observed and not leads else {steps}
        if len(array) not in allowed or num_actions < 1:
            raise ValueError(
                f"{array.where} has {len(array)} rows for {steps} of {mapping.action}; "
                f"expected {' or '.join(map(str, sorted(allowed)))}, and at least one step"
            )


def _image_field(array: NpzArray, camera: CameraMap) -> Field:
    """Return the field of a camera, (H, W, 3)."""
    shape, layout = array.shape, camera.layout
    if len(shape) != LAYOUTS[layout]:
        raise ValueError(f"{array.where} has shape {shape}; layout {layout!r} needs (N, {layout})")
    channels = {"HW": 1, "HWC": shape[-1], "CHW": shape[1]}[layout]
    first, stop = camera.channels or (0, channels)
    if stop > channels or stop - first not in (1, 3):
        raise ValueError(
            f"{array.where} has {channels} channels of shape {shape}, {first} to {stop - 1} chosen;"
            " expected 1 or 3: choose them by 'channels', or name another layout"
        )
    if array.dtype != np.uint8 and (array.dtype.kind != "f" or camera.scale is None):
        raise ValueError(
            f"{array.where} is {array.dtype}; images must be uint8, or float with 'scale' in the "
            "mapping: 255 if they go from 0 to 1, 1 if to 255"
        )
    check_images(array.where, shape, array.dtype.itemsize)
    return Field((*(shape[2:4] if layout == "CHW" else shape[1:3]), 3), "uint8", "image")


def _width(array: NpzArray, is_outcome: bool) -> int:
    """Return the values of a row of numbers."""
    values = math.prod(array.shape[1:])
    if len(array.shape) > 2 or values < 1 or (is_outcome and values != 1):
        expected = "(N,) or (N, 1)" if is_outcome else "(N, D) or (N,)"
        raise ValueError(f"{array.where} has shape {array.shape}; expected {expected}")
    check_numbers(array.where, array.shape, array.dtype.itemsize)
    return values


def like_first(episode: Episode, first: Episode) -> Episode:
    """Return an episode with the images that are of another size than the first one's noted.

    Raises:
        ValueError: If its numbers are others.
    """
    if episode.action_dim != first.action_dim:
        raise ValueError(
            f"{episode.arrays[ACTION].where} has {episode.action_dim} values, the first episode's "
            f"{first.action_dim}"
        )
    shapes = {}
    for key, field in episode.fields.items():
        if field.kind == "vector" and field.shape != first.fields[key].shape:
            raise ValueError(
                f"{episode.arrays[key].where} has {field.shape[0]} values, the first episode's "
                f"{first.fields[key].shape[0]}"
            )
        if field.kind == "image" and field.shape != first.fields[key].shape:
            shapes[key] = field.shape
    return replace(episode, info=replace(episode.info, image_shapes=shapes))
