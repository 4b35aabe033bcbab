"""The mapping file that says what the arrays of a folder of npz episodes are.

Axes: N rows of an episode's arrays, H height, W width, C channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scd_wm.datasets.npz_file import NpzArray, npz_arrays
from scd_wm.datasets.zarr_files import json_object
from scd_wm.spec import OUTCOMES

FORMAT = "npz episodes"
MAX_BYTES = 2**20  # of a mapping file
LAYOUTS = {"HWC": 4, "CHW": 4, "HW": 3}  # axes of an episode's images, with that of time
IMAGE_AXES = 4
NO_VECTORS = ("discount", "timestamp")  # say nothing of the robot
ALLOWED = (
    "format", "episodes", "action", "action_leads_to_frame", "cameras", "vectors", *OUTCOMES, "fps"
)  # fmt: skip


@dataclass(frozen=True)
class CameraMap:
    """Which array holds a camera's images, and how."""

    key: str
    layout: str  # one of LAYOUTS
    channels: tuple[int, int] | None  # the first used and the one after the last; None: all
    scale: float | None  # what float values are multiplied by to reach 0 to 255


@dataclass(frozen=True)
class NpzMapping:
    """A mapping file; see `scd_wm.datasets.npz_episodes` for what each entry means."""

    file: Path
    episodes: str
    action: str
    action_leads_to_frame: bool
    cameras: Mapping[str, CameraMap]
    vectors: Mapping[str, str]
    outcomes: Mapping[str, str]
    fps: float | None
    content: Mapping[str, Any]  # as it is written


def is_mapping(path: Path) -> bool:
    """Return whether a file says that it is a mapping, even if it is damaged."""
    if path.suffix != ".json" or not path.is_file() or path.stat().st_size > MAX_BYTES:
        return False
    return f'"{FORMAT}"'.encode() in path.read_bytes()


def read_mapping(file: Path) -> NpzMapping:
    """Read a mapping file.

    Raises:
        ValueError: If it is damaged; names the entry, what it is and what it may be.
    """
    content = json_object(str(file), file.read_bytes())
    unknown = sorted(set(content) - set(ALLOWED))
    if unknown or content.get("format") != FORMAT:
        raise ValueError(
            f"{file} has unknown entries {unknown} or no format {FORMAT!r}; allowed are "
            f"{list(ALLOWED)}"
        )
    leads, fps = content.get("action_leads_to_frame", False), content.get("fps")
    if not isinstance(leads, bool):
        raise ValueError(f"{file}: action_leads_to_frame must be true or false, is {leads!r}")
    if fps is not None and (not isinstance(fps, int | float) or not 0 < fps < float("inf")):
        raise ValueError(f"{file}: fps must be a number above 0, is {fps!r}")
    cameras = _object(file, "cameras", content.get("cameras", {}))
    vectors = _object(file, "vectors", content.get("vectors", {}))
    if not cameras and not vectors:
        raise ValueError(f"{file} names no cameras and no vectors; name at least one")
    reserved = {"action", *OUTCOMES} & {*cameras, *vectors} | set(cameras) & set(vectors)
    if reserved:
        raise ValueError(f"{file}: {sorted(reserved)} can name no camera or vector, or not both")
    return NpzMapping(
        file=file,
        episodes=_text(file, "episodes", content.get("episodes", "*.npz")),
        action=_text(file, "action", content.get("action")),
        action_leads_to_frame=leads,
        cameras={name: _camera(file, name, found) for name, found in cameras.items()},
        vectors={name: _text(file, f"vectors.{name}", found) for name, found in vectors.items()},
        outcomes={name: _text(file, name, content[name]) for name in OUTCOMES if name in content},
        fps=None if fps is None else float(fps),
        content=content,
    )


def _camera(file: Path, name: str, found: Any) -> CameraMap:
    where = f"cameras.{name}"
    entry = _object(file, where, found)
    unknown = sorted(set(entry) - {"key", "layout", "channels", "scale"})
    layout, channels = entry.get("layout", "HWC"), entry.get("channels")
    scale = entry.get("scale")
    if unknown or not isinstance(layout, str) or layout not in LAYOUTS:
        raise ValueError(
            f"{file}: {where} has unknown entries {unknown} or a layout other than {list(LAYOUTS)}"
            f": {layout!r}"
        )
    if channels is not None:
        is_range = isinstance(channels, list) and [type(c) for c in channels] == [int, int]
        if layout == "HW" or not is_range or not 0 <= channels[0] < channels[1]:
            raise ValueError(
                f"{file}: {where}.channels must be [first, after the last], such as [6, 9], of "
                f"images that have channels; is {channels!r}"
            )
    if scale is not None and (not isinstance(scale, int | float) or not 0 < scale <= 255):
        raise ValueError(f"{file}: {where}.scale must be above 0 and at most 255, is {scale!r}")
    return CameraMap(
        key=_text(file, f"{where}.key", entry.get("key", name)),
        layout=layout,
        channels=None if channels is None else (channels[0], channels[1]),
        scale=None if scale is None else float(scale),
    )


def _object(file: Path, where: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{file}: {where} must be an object of names, is {found!r}")
    return found


def _text(file: Path, where: str, found: Any) -> str:
    if not isinstance(found, str) or not found:
        raise ValueError(f"{file}: {where} must be the name of an array or files, is {found!r}")
    return found


def suggest(path: Path, pattern: str) -> str:
    """Return a mapping to start from, as JSON, guessed from one episode.

    Args:
        path: The npz file.
        pattern: Of the names of all episodes.

    Raises:
        ValueError: If the file is damaged.
    """
    found: dict[str, Any] = {"format": FORMAT, "episodes": pattern, "action": "?"}
    cameras: dict[str, Any] = {}
    vectors: dict[str, str] = {}
    for name, array in npz_arrays(path).items():
        singular = name.removesuffix("s")
        if singular == "action":
            found["action"] = name
            if _begins_with_zeros(array):
                found["action_leads_to_frame"] = True
        elif name in OUTCOMES or singular in OUTCOMES:
            found[name if name in OUTCOMES else singular] = name
        elif len(array.shape) == IMAGE_AXES:
            cameras[name] = _guess_camera(name, array)
        elif len(array.shape) in (1, 2) and array.dtype.kind == "f" and name not in NO_VECTORS:
            vectors[name] = name
    return json.dumps(found | {"cameras": cameras, "vectors": vectors})


def _begins_with_zeros(array: NpzArray) -> bool:
    """Return whether the first action is a dummy before the first frame, as some recorders have."""
    if array.dtype.kind != "f" or len(array.shape) != 2 or array.shape[0] < 2:
        return False
    first, second = array.read(0, 2)
    return not first.any() and bool(second.any())


def _guess_camera(name: str, array: NpzArray) -> dict[str, Any]:
    guess: dict[str, Any] = {"key": name}
    is_last = array.shape[-1] in (1, 3)
    channels = array.shape[-1] if is_last else array.shape[1]
    guess["layout"] = "HWC" if is_last else "CHW"
    if channels > 3 and channels % 3 == 0:
        guess["channels"] = [channels - 3, channels]  # the newest of frames stacked
    if array.dtype.kind == "f":
        guess["scale"] = 255
    return guess
