"""Choose keys and episodes of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scd_wm.datasets.frame_skip import ActionMode
from scd_wm.datasets.reader import SourceInfo


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is used of a data set, and how."""

    cameras: tuple[str, ...]
    vectors: tuple[str, ...]
    image_sizes: dict[str, tuple[int, int]]  # camera: height and width that clips have
    frame_skip: int = 1
    action_mode: ActionMode = "stack"


def choose_keys(
    info: SourceInfo, kind: Literal["image", "vector"], names: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names asked for, or all of a kind.

    Raises:
        TypeError: If `names` is one string.
        KeyError: If there is no such key; the message lists those there are.
    """
    available = [name for name, field in info.fields.items() if field.kind == kind]
    if names is None:
        return tuple(available)
    what = "camera" if kind == "image" else "vector"
    if isinstance(names, str):
        raise TypeError(f"{what}s must be a sequence of names, got the string {names!r}")
    for name in names:
        if name not in available:
            raise KeyError(f"no {what} {name!r} in {info.path}; it has {available or 'none'}")
    return tuple(dict.fromkeys(names))


def split_usable(info: SourceInfo, keys: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the indices of the episodes that have all `keys`, and a line on those that have not.

    Raises:
        ValueError: If no key is chosen, or no episode has all of them.
    """
    if not keys:
        raise ValueError(
            f"no camera and no vector chosen of {info.path}; it has {list(info.fields)}"
        )
    usable = tuple(i for i, e in enumerate(info.episodes) if not e.missing.intersection(keys))
    lines = []
    for key in keys:
        lacking = [episode.name for episode in info.episodes if key in episode.missing]
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            lines.append(
                f"{len(lacking)} of {len(info.episodes)} episodes without {key}: "
                f"{', '.join(lacking[:3])}{more}"
            )
    if not usable:
        raise ValueError(f"no episode of {info.path} has all of {list(keys)}: {'; '.join(lines)}")
    return usable, tuple(lines)


def image_sizes(
    info: SourceInfo,
    indices: Sequence[int],
    cameras: Sequence[str],
    image_size: int | tuple[int, int] | None,
) -> dict[str, tuple[int, int]]:
    """Return the height and width of each camera's images in clips.

    Raises:
        ValueError: If `image_size` is not positive, or None with images of two sizes.
    """
    if image_size is not None:
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"image_size must be one or two positive numbers, got {image_size}")
        return {camera: (size[0], size[1]) for camera in cameras}
    for camera in cameras:
        height, width, _ = info.fields[camera].shape
        for episode in (info.episodes[i] for i in indices):
            other = episode.image_shapes.get(camera)
            if other and other[:2] != (height, width):
                raise ValueError(
                    f"images of {camera} in {info.path} are of two sizes: {height}x{width}, and "
                    f"{other[0]}x{other[1]} in {episode.name}; pass image_size to resize them"
                )
    return {
        camera: (info.fields[camera].shape[0], info.fields[camera].shape[1]) for camera in cameras
    }
