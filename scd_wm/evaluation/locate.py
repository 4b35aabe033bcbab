"""Where coloured objects are in images, to a fraction of a pixel.

This is what a user sees first and PSNR hardly notices.

Axes: B clips, T frames, H height, W width. Positions are (x, y) in pixels; the centre of the top
left pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from torch import Tensor

FOUND_SHARE = 0.3  # of the object's typical mass that must be seen for it to count as found
DEFAULT_TOLERANCE = 80.0


@dataclass(frozen=True)
class TrackedColour:
    """The colour by which an object is found.

    Raises:
        ValueError: If a colour is outside 0 to 255 or the tolerance is not above 0.
    """

    rgb: tuple[float, float, float]  # 0 to 255
    tolerance: float = DEFAULT_TOLERANCE  # distance in RGB at which a pixel no longer counts

    def __post_init__(self) -> None:
        if len(self.rgb) != 3 or not all(0 <= x <= 255 for x in self.rgb):
            raise ValueError(f"a colour is three numbers from 0 to 255, got {list(self.rgb)}")
        if not self.tolerance > 0:
            raise ValueError(f"the tolerance of a colour must be above 0, got {self.tolerance}")


@dataclass(frozen=True)
class Sighting:
    """Where an object is in each frame and how much of it is seen."""

    position: Tensor  # (B, T, 2) float32, x and y in pixels; NaN where the mass is 0
    mass: Tensor  # (B, T) float32, in pixels: the sum of weights


def locate(images: Tensor, colour: TrackedColour) -> Sighting:
    """Find an object as the centroid of pixels weighted by how close their colour is.

    A pixel weighs 1 at the exact colour, falling linearly to 0 at the tolerance; so the blended
    pixels of an edge count in part, which places the centroid to a fraction of a pixel.

    Args:
        images: (B, T, H, W, 3) uint8.
        colour: What to look for.

    Returns:
        Positions and masses.
    """
    target = torch.tensor(colour.rgb, device=images.device)
    weight = (1 - (images.float() - target).norm(dim=-1) / colour.tolerance).clamp(min=0)
    mass = weight.sum(dim=(-2, -1))  # (B, T)
    columns = torch.arange(images.shape[3], device=images.device, dtype=torch.float32)
    rows = torch.arange(images.shape[2], device=images.device, dtype=torch.float32)
    x = einsum(weight, columns, "b t h w, w -> b t") / mass
    y = einsum(weight, rows, "b t h w, h -> b t") / mass
    return Sighting(torch.stack([x, y], dim=-1), mass)


def typical_mass(real: Sighting) -> Tensor:
    """Median mass of the object in the real frames of each clip, (B,)."""
    return real.mass.median(dim=1).values


def found(sighting: Sighting, typical: Tensor) -> Tensor:
    """Say in which frames an object is seen.

    Args:
        sighting: In real or imagined frames.
        typical: Its typical mass in the real frames of the same clip, (B,).

    Returns:
        (B, T) bool: at least `FOUND_SHARE` of the typical mass is there. False where the object is
        never in the real frames.
    """
    return (sighting.mass >= FOUND_SHARE * typical[:, None]) & (typical[:, None] > 0)


def last_known(position: Tensor, seen: Tensor) -> Tensor:
    """Return for each frame where an object was when it was last seen.

    Args:
        position: (B, T, 2).
        seen: (B, T) bool, whether it is found in a frame.

    Returns:
        (B, T, 2); NaN before it is first seen.
    """
    times = torch.arange(seen.shape[1], device=seen.device)
    latest = torch.where(seen, times, -1).cummax(dim=1).values  # (B, T)
    kept = position.gather(1, latest.clamp(min=0)[..., None].expand_as(position))
    return kept.where(latest[..., None] >= 0, torch.nan)


def parse_colours(texts: Sequence[str]) -> dict[str, TrackedColour]:
    """Read colours as they are written on a command line.

    Args:
        texts: Such as "pusher=40,60,230", or with a tolerance as a fourth number,
            "pusher=40,60,230,60".

    Raises:
        ValueError: If a text is not of that form.
    """
    colours = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        try:
            values = [float(x) for x in numbers.split(",")]
        except ValueError:
            values = []
        if not name or len(values) not in (3, 4):
            raise ValueError(
                f"a tracked colour is NAME=R,G,B or NAME=R,G,B,TOLERANCE, got {text!r}"
            )
        colours[name] = TrackedColour((values[0], values[1], values[2]), *values[3:])
    return colours


def colours_from_metadata(metadata: Mapping[str, Any]) -> dict[str, TrackedColour]:
    """Return the colours that a data set's metadata names, or none.

    `collect` writes them as {"scd_wm": {"tracked_colours": {name: {"rgb": [...], "tolerance":
    x}}}}.
    """
    entries = (metadata.get("scd_wm") or {}).get("tracked_colours") or {}
    return {
        name: TrackedColour(tuple(entry["rgb"]), float(entry.get("tolerance", DEFAULT_TOLERANCE)))
        for name, entry in entries.items()
    }
