"""Our own small autoencoder: convolutions only, so that minutes on a CPU fit it to a data set.

Axes: N images, H height, W width, h = H / downscale, w = W / downscale, C channels of a latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.folder import WEIGHTS, fill, read_config, read_weights, write_folder

KIND = "conv"
FOLD = 2  # side of the block of pixels that becomes channels before the first convolution


@dataclass(frozen=True, kw_only=True)
class ConvConfig:
    """Sizes of the autoencoder.

    Raises:
        ValueError: If a value is outside what its comment allows.
    """

    channels: int = 16  # C of a latent
    downscale: int = 8  # pixels along a side of a latent cell: a power of two, 2 or more
    width: int = 16  # channels at half resolution; twice as many at each further halving
    max_width: int = 128  # largest number of channels

    def __post_init__(self) -> None:
        if self.downscale < FOLD or self.downscale & (self.downscale - 1):
            raise ValueError(f"downscale must be a power of two from 2 on, got {self.downscale}")
        for name in ("channels", "width", "max_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, from half on."""
        levels = (self.downscale // FOLD).bit_length()
        return tuple(min(self.width * 2**level, self.max_width) for level in range(levels))


class Residual(nn.Module):
    """Two convolutions that add to what comes in; the second starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, (N, width, H, W)."""
        return x + self.second(F.silu(self.first(F.silu(x))))


class ConvAutoencoder(FrameAutoencoder):
    """Folds pixels into channels, halves the resolution with strided convolutions, and back.

    Args:
        sizes: Of the layers.
    """

    def __init__(self, sizes: ConvConfig) -> None:
        super().__init__(KIND, sizes.channels, sizes.downscale)
        self.sizes, widths = sizes, sizes.widths
        down: list[nn.Module] = [
            nn.PixelUnshuffle(FOLD),
            nn.Conv2d(3 * FOLD**2, widths[0], 3, padding=1),
            Residual(widths[0]),
        ]
        for narrow, wide in pairwise(widths):
            down += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), Residual(wide)]
        self.encoder = nn.Sequential(
            *down, nn.SiLU(), nn.Conv2d(widths[-1], sizes.channels, 3, padding=1)
        )
        up: list[nn.Module] = [nn.Conv2d(sizes.channels, widths[-1], 3, padding=1)]
        up += [Residual(widths[-1])]
        for wide, narrow in pairwise(widths[::-1]):
            up += [Residual(wide), nn.Conv2d(wide, 4 * narrow, 3, padding=1), nn.PixelShuffle(2)]
        self.decoder = nn.Sequential(
            *up,
            Residual(widths[0]),
            nn.SiLU(),
            nn.Conv2d(widths[0], 3 * FOLD**2, 3, padding=1),
            nn.PixelShuffle(FOLD),
        )
        self.apply(_keep_variance)

    def to_latents(self, images: Tensor) -> Tensor:
        """Return latents, (N, C, h, w), of images, (N, 3, H, W) in [0, 1]."""
        return self.encoder(2 * images - 1)

    def to_images(self, latents: Tensor) -> Tensor:
        """Return images, (N, 3, H, W), of latents, (N, C, h, w)."""
        return (self.decoder(latents) + 1) / 2

    @property
    def config(self) -> Mapping[str, Any]:
        """The sizes."""
        return asdict(self.sizes)

    def write(self, folder: Path) -> None:
        """Write a copy."""
        write_folder(folder, KIND, self.config, self.state_dict())

    @classmethod
    def read(cls, folder: Path) -> ConvAutoencoder:
        """Read what `write` wrote.

        Raises:
            FileNotFoundError: If the weights are not there.
            ValueError: If a file is damaged or the two do not fit each other.
        """
        autoencoder = cls(ConvConfig(**read_config(folder)["sizes"]))
        fill(autoencoder, read_weights(folder / WEIGHTS), folder)
        return autoencoder


def _keep_variance(module: nn.Module) -> None:
    """Start convolutions such that latents vary by about 1: smaller ones would drown in noise."""
    if isinstance(module, nn.Conv2d) and module.weight.any():  # not the last one of a residual
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        assert module.bias is not None
        nn.init.zeros_(module.bias)
