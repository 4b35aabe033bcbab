"""What can be read from frames: the action between two of them, and where the picture has things.

Both are fitted on real frames and then read imagined ones. An inverse dynamics model tells whether
what was imagined is what the commanded action does (as WorldSimBench, Qin et al. 2024,
arXiv:2410.18072, and EVA, arXiv:2603.17808, do with large ones); a position read from the pixels
tells whether the picture agrees with the vector imagined beside it. Small linear maps suffice for
a comparison, since how well they read real frames stands beside.

Axes: B clips, T frames, A values of an action, D values of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from scd_wm.clip import Clip, collate
from scd_wm.evaluation.clips import ClipPlace, ClipSource, choose_clips
from scd_wm.evaluation.colour_cells import CELLS, ColourCells, fit_colour_cells
from scd_wm.evaluation.ridge import Ridge, fit_ridge
from scd_wm.imagination import Frames

FIT_FRAMES = 9  # of a clip that is fitted on
FIT_CLIPS = 256  # at most
COLOUR_CLIPS = 32  # of those, from which the colours are chosen
COARSE_CELLS = 4  # where frames come in pairs or from several cameras: a thousand inputs are plenty
AT_ONCE = 32  # clips; bounds memory
BLUR = 3  # pixels: real images are fitted on a second time so blurred, as imagined ones often are
LEAST_SCALE = 0.3  # of the inputs' deviation: see `fit_ridge`
VECTORS, IMAGES = "vectors", "images"  # what actions are read from


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads actions and positions from frames."""

    cells: ColourCells | None  # None without cameras
    actions: Mapping[str, Ridge]  # of `VECTORS` and `IMAGES`, those that the world has
    positions: Mapping[str, Ridge]  # vector: its leading values by the pixels

    def read(self, before: Frames, frames: Frames) -> dict[str, Tensor]:
        """Read frames, NaN where nothing can be read.

        Args:
            before: The frame before, one.
            frames: T frames that follow.

        Returns:
            "action/vectors" and "action/images": the action that led to each frame, (B, T, A);
            "seen/NAME": where the pixels have a vector's leading values, (B, T, D).
        """
        read: dict[str, Tensor] = {}
        if VECTORS in self.actions and frames.vectors:
            pairs = _pairs(_together(_join(before.vectors, frames.vectors)))
            read[f"action/{VECTORS}"] = self.actions[VECTORS](pairs)
        if self.cells is not None and frames.images.keys() >= self.cells.tables.keys():
            pairs = _pairs(self.cells(_join(before.images, frames.images), COARSE_CELLS))
            read[f"action/{IMAGES}"] = self.actions[IMAGES](pairs)
            if self.positions:
                seen = self.cells(frames.images, _position_cells(self.cells))
                read |= {f"seen/{name}": ridge(seen) for name, ridge in self.positions.items()}
        return read


@dataclass(frozen=True)
class Readers:
    """Readers that have not seen the episodes they read.

    Where there are none but the evaluated episodes, these are cut into two halves, and each half is
    read by what was fitted on the other.
    """

    readers: tuple[Reader, ...]
    reader_of: tuple[int, ...]  # episode of the data set: its reader

    def read(self, before: Frames, frames: Frames, episodes: Sequence[int]) -> dict[str, Tensor]:
        """Read frames as `Reader.read` does, each row by the reader of its episode."""
        own = torch.tensor([self.reader_of[e] for e in episodes])
        parts = [reader.read(before, frames) for reader in self.readers]
        return {
            name: torch.stack([part[name] for part in parts])[own, torch.arange(len(own))]
            for name in parts[0]
        }


def fit_readers(
    source: ClipSource,
    other: ClipSource | None,
    positions: Mapping[str, int],
    cameras: Sequence[str],
    seed: int,
) -> Readers:
    """Fit readers on real frames of episodes that they will not read.

    Args:
        source: The episodes to be read.
        other: Other episodes of the same world to fit on; None fits on halves of `source`.
        positions: Vectors that begin with a position, and how many values that is.
        cameras: Whose images are read.
        seed: Of the halves and of what is fitted on.

    Raises:
        ValueError: If there are too few episodes to fit on.
    """
    count = len(source.episodes)
    if other is not None:
        every = range(len(other.episodes))
        return Readers((_fit(other, every, positions, cameras, seed),), (0,) * count)
    half = np.random.default_rng(seed).permutation(count) % 2
    fitted = [
        _fit(source, np.flatnonzero(half != side).tolist(), positions, cameras, seed)
        for side in (0, 1)
    ]
    return Readers(tuple(fitted), tuple(int(side) for side in half))


@dataclass(frozen=True)
class _Part:
    """Some episodes of a data set."""

    source: ClipSource
    indices: Sequence[int]

    @property
    def episodes(self) -> list:
        return [self.source.episodes[i] for i in self.indices]

    def clip(self, episode: int, start: int, num_frames: int) -> Clip:
        return self.source.clip(self.indices[episode], start, num_frames)


def _fit(
    source: ClipSource,
    indices: Sequence[int],
    positions: Mapping[str, int],
    cameras: Sequence[str],
    seed: int,
) -> Reader:
    part = _Part(source, indices)
    usable = [e for e in part.episodes if e.num_observations >= FIT_FRAMES]
    if len(usable) < 2:
        raise ValueError(
            f"reading actions needs two episodes of {FIT_FRAMES} frames to fit on, there are "
            f"{len(usable)}"
        )
    places = choose_clips(part, FIT_FRAMES, FIT_CLIPS, seed)
    colours = _read(part, places[:COLOUR_CLIPS]).images
    cells = fit_colour_cells({k: colours[k] for k in cameras}, seed) if cameras else None
    batches: list[_Inputs] = []
    for batch in (places[i : i + AT_ONCE] for i in range(0, len(places), AT_ONCE)):
        clip = _read(part, batch)
        episodes = torch.tensor([place.episode for place in batch])
        for copied in (clip, _blurred(clip)) if cameras else (clip,):
            batches.append(_Inputs.of(copied, cells, episodes))
    inputs = {name: torch.cat([b.inputs[name] for b in batches]) for name in batches[0].inputs}
    actions = torch.cat([b.actions for b in batches])
    vectors = {name: torch.cat([b.vectors[name] for b in batches]) for name in positions}
    episode = torch.cat([b.episodes for b in batches])  # (rows, FIT_FRAMES)
    return Reader(
        cells=cells,
        actions={
            name: _ridge(_pairs(inputs[name]), actions, episode[:, 1:], name == IMAGES)
            for name in (VECTORS, IMAGES)
            if name in inputs
        },
        positions={
            name: _ridge(inputs["places"], vectors[name][..., :count], episode, True)
            for name, count in positions.items()
            if cells is not None
        },
    )


@dataclass(frozen=True)
class _Inputs:
    """What is fitted on, of a batch of real clips; rows that are not valid are NaN."""

    inputs: Mapping[str, Tensor]  # "vectors", "images" and "places", (B, T, ...)
    actions: Tensor  # (B, T - 1, A)
    vectors: Mapping[str, Tensor]
    episodes: Tensor  # (B, T)

    @classmethod
    def of(cls, clip: Clip, cells: ColourCells | None, episodes: Tensor) -> _Inputs:
        vectors = {n: _where(clip.valid[n], v) for n, v in clip.vectors.items()}
        inputs = {VECTORS: _together(vectors)} if vectors else {}
        if cells is not None:
            valid = torch.stack([clip.valid[name] for name in cells.tables]).all(dim=0)
            inputs[IMAGES] = _where(valid, cells(clip.images, COARSE_CELLS))
            inputs["places"] = _where(valid, cells(clip.images, _position_cells(cells)))
        rows = episodes[:, None].expand(-1, clip.num_frames)
        return cls(inputs, _where(clip.action_valid, clip.actions), vectors, rows)


def _read(source: ClipSource, places: Sequence[ClipPlace]) -> Clip:
    return collate([source.clip(p.episode, p.start, FIT_FRAMES) for p in places])


def _blurred(clip: Clip) -> Clip:
    """Return the clip with every image blurred by a box of `BLUR` pixels."""
    reach = (BLUR // 2,) * 4

    def blur(images: Tensor) -> Tensor:
        flat = rearrange(images.float(), "b t h w c -> (b t) c h w")
        mean = F.avg_pool2d(F.pad(flat, reach, mode="replicate"), BLUR, stride=1).round()
        return rearrange(mean, "(b t) c h w -> b t h w c", b=len(images)).to(images.dtype)

    return replace(clip, images={name: blur(images) for name, images in clip.images.items()})


def _ridge(inputs: Tensor, outputs: Tensor, groups: Tensor, pixels: bool) -> Ridge:
    """Fit on the rows, (B, T, ...), that are valid."""
    known = ~(inputs.isnan().any(dim=-1) | outputs.isnan().any(dim=-1))
    return fit_ridge(
        inputs[known], outputs[known], groups[known], least_scale=LEAST_SCALE if pixels else 0.0
    )


def _position_cells(cells: ColourCells) -> int:
    return CELLS if len(cells.tables) == 1 else COARSE_CELLS


def _pairs(values: Tensor) -> Tensor:
    """Return each frame's values beside those of the frame before, (B, T - 1, ...)."""
    return torch.cat([values[:, :-1], values[:, 1:]], dim=-1)


def _together(vectors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat(list(vectors.values()), dim=-1)


def _join(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat([before[name], after[name]], dim=1) for name in after}


def _where(valid: Tensor, values: Tensor) -> Tensor:
    return torch.where(valid[..., None], values, torch.nan)
