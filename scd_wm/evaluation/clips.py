"""Which clips an evaluation looks at: seeded, without repeats, spread over the episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scd_wm.clip import Clip


class EpisodeLike(Protocol):
    """What is read of an episode: its name and how many frames of it hold an observation."""

    @property
    def name(self) -> str:
        """For messages and results."""

    @property
    def num_observations(self) -> int:
        """Frames, counted from 0."""


class ClipSource(Protocol):
    """What is read of a data set; `scd_wm.datasets.dataset.RobotDataset` is one."""

    @property
    def episodes(self) -> Sequence[EpisodeLike]:
        """All episodes."""

    def clip(self, episode: int, start: int, num_frames: int) -> Clip:
        """Return consecutive frames of an episode."""


@dataclass(frozen=True)
class ClipPlace:
    """Where a clip starts."""

    episode: int  # position in the data set
    start: int  # frame


def fitting_horizons(
    source: ClipSource, history: int, horizons: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split horizons into those that at least half of the episodes have frames for, and the rest.

    Half, so that one long episode does not become the whole evaluation. Where no horizon fits half
    of the episodes, the shortest one is kept if any episode has it.

    Args:
        source: The data set.
        history: Frames given to the model before the first imagined one.
        horizons: Numbers of imagined frames.

    Returns:
        Horizons that are used and horizons that are left out, each ascending.

    Raises:
        ValueError: If the data set is empty, `history` or a horizon is below 1, or no episode is
            long enough for the shortest horizon.
    """
    wanted = sorted(set(horizons))
    if history < 1 or not wanted or wanted[0] < 1:
        raise ValueError(
            f"history and horizons must be 1 or more, got {history} and {list(horizons)}"
        )
    lengths = np.array([e.num_observations for e in source.episodes])
    longest = int(lengths.max(initial=0))
    if longest < history + wanted[0]:
        raise ValueError(
            f"no episode has the {history + wanted[0]} frames that {history} of history and "
            f"horizon {wanted[0]} need; the longest of {len(lengths)} has {longest}; "
            "use a shorter history"
        )
    used = [h for h in wanted if 2 * int((lengths >= history + h).sum()) >= len(lengths)]
    used = used or wanted[:1]
    return tuple(used), tuple(h for h in wanted if h not in used)


def choose_clips(
    source: ClipSource, num_frames: int, num_clips: int, seed: int
) -> tuple[ClipPlace, ...]:
    """Choose clips evenly over the episodes, and evenly over the time within each.

    Episodes take turns in a seeded order until there are enough clips. The windows of an episode
    that was chosen k times are cut into k equal parts, and one is drawn from each. Neighbours in
    the result come from different episodes where there are several.

    Args:
        source: The data set.
        num_frames: Frames in a clip.
        num_clips: Clips wanted; there are fewer only if the data set has fewer windows.
        seed: Of the choice.

    Returns:
        Places, all different.

    Raises:
        ValueError: If `num_clips` is below 1 or no episode is long enough.
    """
    if num_clips < 1:
        raise ValueError(f"the number of clips must be 1 or more, got {num_clips}")
    windows = np.array([e.num_observations - num_frames + 1 for e in source.episodes])
    if not (windows > 0).any():
        raise ValueError(f"no episode has {num_frames} frames")
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.flatnonzero(windows > 0))
    share = _turns(windows[order], num_clips)
    starts = [
        _spread(int(windows[e]), int(k), generator) for e, k in zip(order, share, strict=True)
    ]
    places = [
        ClipPlace(int(episode), starts[i][turn])
        for turn in range(int(share.max()))
        for i, episode in enumerate(order)
        if turn < share[i]
    ]
    return tuple(places)


def _turns(windows: np.ndarray, num_clips: int) -> np.ndarray:
    """Return how many clips each episode gives, taking turns and giving no window twice."""
    share = np.zeros(len(windows), dtype=np.int64)
    while share.sum() < num_clips and (share < windows).any():
        open_ = np.flatnonzero(share < windows)
        share[open_[: num_clips - int(share.sum())]] += 1
    return share


def _spread(num_windows: int, count: int, generator: np.random.Generator) -> list[int]:
    """Return `count` different starts, one from each of as many equal parts, in random order."""
    if count == 0:
        return []
    edges = np.linspace(0, num_windows, count + 1).astype(np.int64)
    starts = generator.integers(edges[:-1], edges[1:])
    return [int(x) for x in generator.permutation(starts)]
