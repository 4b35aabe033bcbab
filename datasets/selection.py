"""Choose keys and episodes of a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from scd_wm.datasets.image_view import Box, ImageView, check_fits
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.reader import EpisodeInfo, Reader, SourceInfo
from scd_wm.datasets.skipped import some


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is used of a data set, and how: `DataOptions` worked out for one source."""

    cameras: tuple[str, ...]
    vectors: tuple[str, ...]
    views: dict[str, ImageView]  # camera: what clips see of its images
    options: DataOptions  # of which this was worked out

    @property
    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each camera's images in clips."""
        return {camera: view.size for camera, view in self.views.items()}


def select(reader: Reader, options: DataOptions) -> tuple[Selection, tuple[int, ...], list[str]]:
    """Work out what of a source is used.

    Returns:
        The selection, the indices of the episodes, and a line on each reason to leave some out.

    Raises:
        KeyError: If there is no such key or mask.
        ValueError: If nothing is left, the action mode has another length than actions, images
            differ in size without `image_size`, or a crop does not fit.
    """
    info = reader.info
    cameras = choose_keys(info, "image", options.cameras)
    for camera in options.crop if isinstance(options.crop, Mapping) else ():
        if camera not in choose_keys(info, "image", None):
            raise KeyError(
                f"no camera {camera!r} to crop in {info.path}; it has "
                f"{list(choose_keys(info, 'image', None))}"
            )
    vectors = choose_keys(info, "vector", options.vectors)
    mode = options.action_mode
    if not isinstance(mode, str) and len(mode) != info.action_dim:
        raise ValueError(
            f"action_mode has {len(mode)} entries, actions of {info.path} have {info.action_dim} "
            "values; give one for all or one for each"
        )
    indices, lines = choose_episodes(reader, (*cameras, *vectors), options)
    selection = Selection(
        cameras=cameras,
        vectors=vectors,
        views={camera: _view(info, indices, camera, options) for camera in cameras},
        options=options,
    )
    return selection, indices, lines


def choose_keys(
    info: SourceInfo, kind: Literal["image", "vector"], names: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the keys of a kind that names or patterns ask for, or all.

    Raises:
        KeyError: If there is no such key; the message lists those there are.
    """
    available = [name for name, field in info.fields.items() if field.kind == kind]
    if names is None:
        return tuple(available)
    chosen: list[str] = []
    for name in names:
        # A name goes before a pattern, since names may hold brackets.
        found = [name] if name in available else [k for k in available if fnmatchcase(k, name)]
        if not found:
            what = "camera" if kind == "image" else "vector"
            raise KeyError(f"no {what} {name!r} in {info.path}; it has {available or 'none'}")
        chosen += found
    return tuple(dict.fromkeys(chosen))


def choose_episodes(
    reader: Reader, keys: Sequence[str], options: DataOptions
) -> tuple[tuple[int, ...], list[str]]:
    """Return the indices of the episodes in use, and lines on those that are not.

    Raises:
        KeyError: If there is no mask of that name.
        ValueError: If no key is chosen, no episode is left, or the data says nothing of success.
    """
    info, lines = reader.info, list[str]()
    if not keys:
        raise ValueError(
            f"no camera and no vector chosen of {info.path}; it has {list(info.fields)}"
        )
    left = list(range(len(info.episodes)))
    if options.mask is not None:
        members = _members(info, options.mask)
        named = [i for i in left if info.episodes[i].name in members]
        left = _note(info, left, named, f"not in mask {options.mask!r}", lines)
    for key in keys:
        having = [i for i in left if key not in info.episodes[i].missing]
        left = _note(info, left, having, f"without {key}", lines)
    if options.only_success:
        successes = [i for i in left if _succeeds(reader, i)]
        left = _note(info, left, successes, "without success", lines)
    if not left:
        reasons = "; ".join(lines) or "there is none"
        raise ValueError(f"no episode of {info.path} can be used: {reasons}")
    return tuple(left), lines


def _note(
    info: SourceInfo, before: list[int], kept: list[int], what: str, lines: list[str]
) -> list[int]:
    """Return `kept`, with a line in `lines` on the episodes that were there before."""
    remaining = set(kept)
    dropped = [info.episodes[i].name for i in before if i not in remaining]
    if dropped:
        lines.append(f"{len(dropped)} of {len(info.episodes)} episodes {what}: {some(dropped)}")
    return kept


def _members(info: SourceInfo, mask: str) -> frozenset[str]:
    if mask not in info.masks:
        raise KeyError(f"no mask {mask!r} in {info.path}; it has {list(info.masks) or 'none'}")
    return frozenset(info.masks[mask])


def _succeeds(reader: Reader, index: int) -> bool:
    """Return whether an episode ever succeeds."""
    info, episode = reader.info, reader.info.episodes[index]
    if episode.success is not None:
        return episode.success
    if "success" not in info.outcomes:
        raise ValueError(
            f"{info.path} does not say which episodes succeed; it has the outcomes "
            f"{list(info.outcomes) or 'none'}; choose by a mask, or without only_success"
        )
    return bool(reader.read(index, "success", 0, episode.num_actions).any())


def _view(info: SourceInfo, indices: Sequence[int], camera: str, options: DataOptions) -> ImageView:
    """Return what is seen of a camera; checks it for the images of every episode in use."""
    crop = options.crop_of(camera)
    field = info.fields[camera].shape
    episodes = [info.episodes[i] for i in indices]
    shapes: dict[tuple[int, ...], EpisodeInfo] = {}  # size: the first episode that has it
    for episode in episodes:
        shapes.setdefault(episode.image_shapes.get(camera, field)[:2], episode)
    if isinstance(crop, Box):
        for shape, episode in shapes.items():
            check_fits(crop, shape, f"{camera} of {episode.name} in {info.path}")
    if options.image_size is not None:
        assert isinstance(options.image_size, tuple)  # of a checked DataOptions
        return ImageView(crop, options.image_size)
    if isinstance(crop, Box):
        return ImageView(crop, (crop.height, crop.width))
    if crop == "center":
        raise ValueError("crop 'center' needs image_size, which says the shape to cut out")
    _check_one_size(info, camera, shapes)
    height, width = next(iter(shapes))
    return ImageView(None, (height, width))


def _check_one_size(
    info: SourceInfo, camera: str, shapes: dict[tuple[int, ...], EpisodeInfo]
) -> None:
    if len(shapes) > 1:
        (first, _), (other, episode) = list(shapes.items())[:2]
        raise ValueError(
            f"images of {camera} in {info.path} are of two sizes: {first[0]}x{first[1]}, and "
            f"{other[0]}x{other[1]} in {episode.name}; pass image_size to resize them"
        )
