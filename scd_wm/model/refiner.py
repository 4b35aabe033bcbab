"""A convolutional head that draws images from the last frame and what the tokens say has changed.

A token of a large patch is cheap but cannot carry every pixel. Most of the next image is the last
one, a little shifted; shifting is what small convolutions do well. The tokens say where and how.

Pixels are many and alike, so it works on blocks of 2 x 2 of them; a latent cell holds as much as a
block of pixels does, so there it works on every cell.

Axes: F frames, N tokens of a frame, M values of a packed frame, D width, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scd_wm.model.layout import FrameLayout, Segment


class PixelRefiner(nn.Module):
    """Adds detail to the prediction for one camera; starts at zero.

    Beside a plain difference it covers: new = last + cover (paint - last). Where cover is 1 nothing
    of the last frame shines through, so that an object that moved on leaves no trace to add up in a
    rollout.

    Args:
        layout: Of the frames.
        segment: The camera's.
        dim: Width of the tokens D.
        num_channels: Channels C of the convolutions.

    Raises:
        ValueError: If the patch size is odd where images are pixels.
    """

    def __init__(self, layout: FrameLayout, segment: Segment, dim: int, num_channels: int) -> None:
        super().__init__()
        camera = layout.spec.cameras[segment.name]
        self.block = 2 if camera.kind == "pixels" else 1
        if layout.patch_size % self.block:
            raise ValueError(
                f"refine_channels needs an even patch_size, got {layout.patch_size}; "
                "change patch_size or set refine_channels=0"
            )
        self.segment, self.patch = segment, layout.patch_size
        self.rows, self.columns = camera.height // self.patch, camera.width // self.patch
        stride, area = self.block, self.block**2
        self.from_tokens = nn.Linear(dim, num_channels * (self.patch // stride) ** 2)
        self.from_images = nn.Conv2d(2 * camera.channels, num_channels, 3, stride, padding=1)
        self.mix = nn.Conv2d(2 * num_channels, num_channels, 3, padding=1)
        self.refine = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.out = nn.Conv2d(num_channels, area * camera.channels, 3, padding=1)
        self.paint = nn.Conv2d(num_channels, area * camera.channels, 3, padding=1)
        self.cover = nn.Conv2d(num_channels, area, 3, padding=1)
        self.delta_std = camera.delta_std
        for parameter in (*self.out.parameters(), *self.cover.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, last: Tensor, noisy: Tensor) -> Tensor:
        """Return what to add to the camera's packed prediction, (F, values of the camera).

        Args:
            tokens: Of the decoder, after its last norm, (F, N, D).
            last: The frame before, packed, (F, M).
            noisy: The noisy frame as the decoder sees it, packed, (F, M).
        """
        images = _joined(self._pixels(last), self._pixels(noisy))
        drawn = self._apart(self.from_images(images), self.patch // self.block)
        place = rearrange(
            self.from_tokens(tokens[:, self.segment.tokens]),
            "f (h w) (p q c) -> f h p w q c",
            h=self.rows,
            p=self.patch // self.block,
            q=self.patch // self.block,
        )
        x = _joined(drawn, place)
        x = F.silu(self.mix(F.silu(x)))
        x = x + F.silu(self.refine(x))
        out, paint, cover = self._draw(x)
        before = rearrange(last[:, self.segment.values], "f (n c) -> f n c", n=paint.shape[1])
        # In units of the change between frames, as all of a residual prediction.
        return torch.addcmul(out, cover, paint - before, value=1 / self.delta_std).flatten(1)

    def _draw(self, x: Tensor) -> list[Tensor]:
        """Return what is added, painted and covered, (F, pixels, channels or 1) each."""
        maps = (self.out, self.paint, self.cover)
        # One convolution: each alone has too few channels to fill a processor's registers.
        weight = torch.cat([m.weight for m in maps])
        bias = torch.cat([m.bias for m in maps if m.bias is not None])  # all have one
        parts = torch.split(F.conv2d(x, weight, bias, padding=1), [len(m.weight) for m in maps], 1)
        return [self._packed(part) for part in parts]

    def _packed(self, x: Tensor) -> Tensor:
        """Return a map of blocks, (F, block^2 channels, h, w), as (F, pixels, channels)."""
        return rearrange(
            x,
            "f (i j c) (h p) (w q) -> f (h w p i q j) c",
            i=self.block,
            j=self.block,
            h=self.rows,
            w=self.columns,
        )

    def _pixels(self, packed: Tensor) -> Tensor:
        """Return the camera's values of packed frames, (F, h, p, w, q, channels), a view."""
        return rearrange(
            packed[:, self.segment.values],
            "f (h w p q c) -> f h p w q c",
            h=self.rows,
            w=self.columns,
            p=self.patch,
            q=self.patch,
        )

    def _apart(self, maps: Tensor, patch: int) -> Tensor:
        """Return maps, (F, C, H, W), with patches apart, (F, h, p, w, q, C), a view."""
        return rearrange(maps, "f c (h p) (w q) -> f h p w q c", p=patch, q=patch)


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """Return patches, (F, h, p, w, q, C) each, as maps of the channels of both, (F, 2 C, H, W).

    Channels are last in memory, as convolutions want them, and all is copied once.
    """
    return rearrange(torch.cat([first, second], dim=-1), "f h p w q c -> f c (h p) (w q)")
