"""What is where in an image, in a few hundred numbers: how much of each colour in each cell.

Simple and deterministic, so that a regression on it takes a second and can be repeated anywhere.
Where things are is linear in it to a fraction of a cell, as the colours on both sides of an edge
count in part.

Axes: B clips, T frames, H height, W width, K colours, G cells along a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

NUM_COLOURS = 8  # K
CELLS = 8  # G
FINEST = 64  # pixels along a side that are looked at, about
WIDTH = 0.1  # of a colour, as a share of the whole range
BITS = 5  # of a channel that count: a table of all colours is small, and a look-up is fast
SAMPLED = 20_000  # pixels from which the colours are chosen
ROUNDS = 10  # of Lloyd's algorithm


@dataclass(frozen=True)
class ColourCells:
    """Measures images of several cameras.

    A pixel counts for every colour by a softmax of its negative squared distance, so that all
    colours of a cell sum to 1.
    """

    tables: Mapping[str, Tensor]  # camera: how much each of all colours counts, (2^15, K)

    def __call__(self, images: Mapping[str, Tensor], cells: int = CELLS) -> Tensor:
        """Return the share of each colour in each cell, of all cameras, (B, T, cameras K cells^2).

        Args:
            images: By camera, (B, T, H, W, 3) uint8.
            cells: Along a side.
        """
        parts = [_shares(images[name], table, cells) for name, table in self.tables.items()]
        return torch.cat(parts, dim=-1)


def fit_colour_cells(images: Mapping[str, Tensor], seed: int) -> ColourCells:
    """Choose the colours that tell most of the images: k-means++ and Lloyd's algorithm on pixels.

    Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding".

    Args:
        images: Of each camera, (B, T, H, W, 3) uint8.
        seed: Of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    every = torch.arange(2 ** (3 * BITS))
    channels = torch.stack([every >> (2 * BITS), every >> BITS, every], dim=-1) % 2**BITS
    colours = (channels.float() + 0.5) / 2**BITS  # (2^15, 3), 0 to 1
    tables = {}
    for name, pictures in images.items():
        pixels = colours[_index(pictures).flatten()]
        chosen = torch.randperm(len(pixels), generator=generator)[:SAMPLED]
        centres = _k_means(pixels[chosen], generator)
        apart = torch.cdist(colours, centres).square()
        tables[name] = torch.softmax(-apart / (2 * WIDTH**2), dim=-1)
    return ColourCells(tables)


def _index(images: Tensor) -> Tensor:
    """Return each pixel's place in a table of all colours, of every n-th pixel of large images."""
    step = max(1, min(images.shape[2:4]) // FINEST)
    red, green, blue = (images[:, :, ::step, ::step].long() >> (8 - BITS)).unbind(dim=-1)
    return (red << (2 * BITS)) | (green << BITS) | blue


def _shares(images: Tensor, table: Tensor, cells: int) -> Tensor:
    """Return the share of each colour in each cell, (B, T, K cells^2)."""
    index = _index(images)
    height, width = (max(1, n // cells) * cells for n in index.shape[2:])
    if min(index.shape[2:]) < cells:  # an image smaller than the cells: pixels are repeated
        index = index.repeat_interleave(cells, dim=2).repeat_interleave(cells, dim=3)
        height, width = (n * cells for n in images.shape[2:4])
    bags = rearrange(
        index[:, :, :height, :width],
        "b t (gy y) (gx x) -> (b t gy gx) (y x)",
        gy=cells,
        gx=cells,
    )
    shares = F.embedding_bag(bags, table, mode="mean")  # (B T G G, K)
    return rearrange(
        shares, "(b t g) k -> b t (g k)", b=images.shape[0], t=images.shape[1], g=cells**2
    )


def _k_means(points: Tensor, generator: torch.Generator) -> Tensor:
    """Return K centres of points, (K, 3)."""
    centres = points[:1]
    for _ in range(NUM_COLOURS - 1):
        apart = torch.cdist(points, centres).min(dim=1).values.square()
        weight = apart + 1e-12  # of images with fewer colours than K
        centres = torch.cat([centres, points[torch.multinomial(weight, 1, generator=generator)]])
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        member = F.one_hot(nearest, NUM_COLOURS).float()
        count = member.sum(dim=0)[:, None]
        centres = torch.where(count > 0, (member.T @ points) / count.clamp(min=1), centres)
    return centres
