"""A tiny residual autoencoder in two files: taef2 (madebyollin/taesd), 32 channels, 8x down.

Both halves are a plain sequence of layers, so that the keys of their files are layer numbers.

Axes: N images, H height, W width, h = H / 8, w = W / 8, C channels of a latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.folder import WEIGHTS, fill, read_config, read_weights, write_folder

KIND = "taef2"
ENCODER, DECODER = "*_encoder.pth", "*_decoder.pth"  # names of the two files
DOWNSCALE = 8
LATENT_LIMIT = 3.0  # latents are squashed softly to three times tanh before they are decoded


class Block(nn.Module):
    """Three convolutions around a skip; a pool block first adds what a wide 1x1 branch sees.

    Args:
        width: Channels.
        pools: Whether it has the branch. Its group norm averages over the whole image, which is all
            that a far pixel can tell a near one here.
    """

    def __init__(self, width: int, pools: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.pool: nn.Sequential | None = None
        if pools:
            self.pool = nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False),
                nn.GroupNorm(4, 4 * width),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, (N, width, H, W)."""
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + x)


class Squash(nn.Module):
    """Keeps latents within what the decoder has seen."""

    def forward(self, latents: Tensor) -> Tensor:
        """Return latents within (-3, 3)."""
        return LATENT_LIMIT * torch.tanh(latents / LATENT_LIMIT)


def encoder_layers(width: int, channels: int) -> nn.Sequential:
    """Return the layers from images in [0, 1] to latents."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), Block(width)]
    for pools in (False, False, True):
        layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False))
        layers += [Block(width, pools) for _ in range(3)]
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))


def decoder_layers(width: int, channels: int) -> nn.Sequential:
    """Return the layers from latents to images, which are in [0, 1] but for small overshoots."""
    layers: list[nn.Module] = [Squash(), nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    layers += [Block(width, pools=True) for _ in range(3)]
    for num_blocks in (3, 3, 1):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        layers += [Block(width) for _ in range(num_blocks)]
    return nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))


class Taef2(FrameAutoencoder):
    """The autoencoder that the two files describe.

    Args:
        width: Channels of the layers.
        channels: Channels C of a latent.
    """

    def __init__(self, width: int = 64, channels: int = 32) -> None:
        super().__init__(KIND, channels, DOWNSCALE)
        self.width = width
        self.encoder = encoder_layers(width, channels)
        self.decoder = decoder_layers(width, channels)

    def to_latents(self, images: Tensor) -> Tensor:
        """Return latents, (N, C, h, w), of images, (N, 3, H, W) in [0, 1]."""
        return self.encoder(images)

    def to_images(self, latents: Tensor) -> Tensor:
        """Return images, (N, 3, H, W), of latents, (N, C, h, w)."""
        return self.decoder(latents)

    @property
    def config(self) -> Mapping[str, Any]:
        """The arguments of the class."""
        return {"width": self.width, "channels": self.channels}

    def write(self, folder: Path) -> None:
        """Write a copy in our own format; float16, as the two files are."""
        tensors = {name: tensor.half() for name, tensor in self.state_dict().items()}
        write_folder(folder, KIND, self.config, tensors)

    @classmethod
    def read(cls, folder: Path) -> Taef2:
        """Read what `write` wrote.

        Raises:
            FileNotFoundError: If the weights are not there.
            ValueError: If a file is damaged or the two do not fit each other.
        """
        autoencoder = cls(**read_config(folder)["sizes"])
        fill(autoencoder, read_weights(folder / WEIGHTS), folder)
        return autoencoder


def is_taef2(folder: Path) -> bool:
    """Say whether a folder holds two halves as .pth files."""
    return any(folder.glob(ENCODER)) and any(folder.glob(DECODER))


def read_taef2(folder: Path) -> Taef2:
    """Read an autoencoder from its two .pth files, without unpickling anything but tensors.

    Raises:
        ValueError: If there are several, or one is damaged or of another layout.
    """
    encoder, decoder = (_read_half(folder, pattern) for pattern in (ENCODER, DECODER))
    first, last = encoder.get("0.weight"), encoder.get("14.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 4:
        raise ValueError(
            f"the encoder in {folder} is no autoencoder of this layout: it has no layers 0 and 14, "
            f"but {sorted(encoder)[:3]} and so on"
        )
    autoencoder = Taef2(len(first), len(last))
    fill(autoencoder.encoder, encoder, folder / ENCODER)
    fill(autoencoder.decoder, decoder, folder / DECODER)
    return autoencoder


def _read_half(folder: Path, pattern: str) -> dict[str, Tensor]:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = [path.name for path in found]
        raise ValueError(f"{folder} must hold one file {pattern}, it holds {names}; keep one")
    try:
        tensors = torch.load(found[0], map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ValueError(f"{found[0]} is damaged, or holds more than tensors: {reason}") from None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise ValueError(f"{found[0]} must hold tensors by name, it holds a {type(tensors)}")
    return tensors
