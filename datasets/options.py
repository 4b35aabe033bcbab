"""What to use of a data set, and how: everything that a user may choose, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from scd_wm.datasets.frame_skip import ActionMode, check_action_mode
from scd_wm.datasets.image_view import Box, Crop, check_crop


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Choices among what a data set holds. Names are those after renaming.

    Raises:
        TypeError: If names are one string.
        ValueError: If a value is out of range.
    """

    cameras: Sequence[str] | None = None  # names or patterns such as "*_image"; None all, () none
    vectors: Sequence[str] | None = None  # names or patterns such as "robot0_*"; None all, () none
    rename: Mapping[str, str] = field(default_factory=dict)  # key in the data: its name here
    image_size: int | tuple[int, int] | None = None  # height and width; None keeps the data's
    crop: Crop | Mapping[str, Crop] | None = None  # before resizing, of all or by camera
    frame_skip: int = 1  # steps of the data in one step here
    action_mode: ActionMode | tuple[ActionMode, ...] = "stack"  # how their actions are joined
    only_success: bool = False  # leave out episodes that do not succeed
    mask: str | None = None  # use only the episodes of this subset that the data names

    def __post_init__(self) -> None:
        for what, names in (("cameras", self.cameras), ("vectors", self.vectors)):
            if isinstance(names, str):
                raise TypeError(f"{what} must be a sequence of names, got the string {names!r}")
            if names is not None:
                object.__setattr__(self, what, tuple(names))
        if self.frame_skip < 1:
            raise ValueError(f"frame_skip must be at least 1, got {self.frame_skip}")
        if not isinstance(self.action_mode, str):
            object.__setattr__(self, "action_mode", tuple(self.action_mode))
        check_action_mode(self.action_mode)
        if self.image_size is not None:
            object.__setattr__(self, "image_size", _size(self.image_size))
        for crop in self.crop.values() if isinstance(self.crop, Mapping) else (self.crop,):
            check_crop(crop)

    def crop_of(self, camera: str) -> Box | Literal["center"] | None:
        """Return what is cut out of a camera's images."""
        crop = self.crop.get(camera) if isinstance(self.crop, Mapping) else self.crop
        return crop if crop is None or crop == "center" else Box(*crop)

    def to_json(self) -> dict[str, Any]:
        """Return the options in JSON types; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataOptions:
        """Rebuild options from `to_json`.

        Raises:
            TypeError: If a field is unknown.
            ValueError: If a value is out of range.
        """
        fields: dict[str, Any] = {}
        for name, value in data.items():
            fields[name] = tuple(value) if isinstance(value, list) else value
        return cls(**fields)


def _size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"image_size must be one or two positive numbers, got {image_size}")
    return size[0], size[1]
