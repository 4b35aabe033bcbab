"""Plots of where things are and how vectors go, really and in imagination.

Axes: B clips, T frames, S futures of one start, D values of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation.locate import TrackedColour, found, locate, typical_mass
from scd_wm.evaluation.scores import short_name
from scd_wm.imagination import Frames
from scd_wm.report import plots
from scd_wm.report.items import Drawing

Array = NDArray[np.float64]
Tracks = Mapping[str, tuple[Array, Array]]  # thing: real and imagined positions, (B, T, 2)
MAX_CLIPS = 6  # drawn in one figure
PATH_CAPTION = (
    "Where things really went and where they were imagined to go. The dot is the last frame given, "
    "the squares are the last frames."
)


def located_paths(
    clip: Clip,
    imagined: Frames,
    given: int,
    names: Sequence[str],
    colours: Mapping[str, TrackedColour],
) -> list[Drawing]:
    """Draw the paths of objects found by colour, a figure for each camera that sees any.

    Args:
        clip: Batched: history and real future.
        imagined: What was imagined to follow the history.
        given: Frames of history.
        names: Of the clips.
        colours: What to look for.
    """
    drawings = []
    for camera, images in imagined.images.items():
        things = {}
        for thing, colour in colours.items():
            real = locate(clip.images[camera], colour)
            guess, typical = locate(images, colour), typical_mass(real)
            seen = found(real, typical)[:, given - 1 :, None]
            things[thing] = (
                real.position[:, given - 1 :].where(seen, np.nan).double().numpy(),
                guess.position.where(found(guess, typical)[:, :, None], np.nan).double().numpy(),
            )
        if things:
            height, width = images.shape[2:4]
            view = plots.View((-0.5, width - 0.5), (height - 0.5, -0.5))  # rows count downwards
            svg = plots.paths(_by_clip(things), names[:MAX_CLIPS], view)
            title = f"Where things are in the image of camera {short_name(camera)}"
            caption = f"{PATH_CAPTION} The whole image, in pixels; things are found by colour."
            drawings.append(Drawing(title, caption, svg))
    return drawings


def vector_paths(
    clip: Clip,
    imagined: Frames,
    given: int,
    names: Sequence[str],
    positions: Mapping[str, int],
) -> list[Drawing]:
    """Draw the first two coordinates of vectors that begin with a position, in one figure.

    Args:
        clip: Batched: history and real future.
        imagined: What was imagined to follow the history.
        given: Frames of history.
        names: Of the clips.
        positions: Vector name to how many leading values are a position.
    """
    things = {
        name: (
            clip.vectors[name][:, given - 1 :, :2].double().numpy(),
            imagined.vectors[name][:, :, :2].double().numpy(),
        )
        for name, count in positions.items()
        if count >= 2
    }
    if not things:
        return []
    title = f"Paths of {' and '.join(things)}"
    caption = f"{PATH_CAPTION} First two coordinates, in the units of the data."
    svg = plots.paths(_by_clip(things), names[:MAX_CLIPS], _view(things))
    return [Drawing(title, caption, svg)]


def vector_tracks(
    real: Mapping[str, Tensor], futures: Mapping[str, Tensor], given: int, name: str
) -> list[Drawing]:
    """Draw every vector of one clip over time, a figure each.

    Args:
        real: Vectors of history and real future, (T, D).
        futures: The same imagined several times, (S, T - given, D).
        given: Frames of history.
        name: Of the clip.
    """
    drawings = []
    for vector, values in real.items():
        svg = plots.vector_tracks(
            vector, values.double().numpy(), futures[vector].double().numpy(), given
        )
        most = f" The {plots.MAX_VALUES} values that vary most." * (
            values.shape[1] > plots.MAX_VALUES
        )
        caption = (
            f"What really happened, and {len(futures[vector])} imagined futures with different "
            f"noise, over frames. Imagination starts at the dotted line.{most}"
        )
        drawings.append(Drawing(f"{vector} over time, {name}", caption, svg))
    return drawings


def _by_clip(things: Tracks) -> list[dict[str, tuple[Array, Array]]]:
    """Return real and imagined path of each thing for each clip, from the last frame given on."""
    count = min(MAX_CLIPS, *(len(real) for real, _ in things.values()))
    return [
        {
            thing: (real[i], np.concatenate([real[i][:1], imagined[i]]))
            for thing, (real, imagined) in things.items()
        }
        for i in range(count)
    ]


def _view(things: Tracks) -> plots.View:
    """Return bounds that hold all real paths and a margin, as wide as high."""
    points = np.concatenate([real.reshape(-1, 2) for real, _ in things.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    centre, reach = (low + high) / 2, 0.62 * max(float((high - low).max()), 1e-6)
    return plots.View(*((float(c - reach), float(c + reach)) for c in centre))
