"""What every autoencoder offers, whoever trained it: images to latents and back, frame by frame.

Latents are in the autoencoder's own units; the world model normalises them by what it measures.

Axes: N images, H height, W width, h = H / downscale, w = W / downscale, C channels of a latent.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

BATCH_PIXELS = 2**18  # pixels encoded or decoded at a time; small, to stay in the caches of a CPU


class FrameAutoencoder(nn.Module, ABC):
    """A frozen autoencoder of single images. One of your own defines the two abstract methods.

    Args:
        name: What people call it, for messages and reports.
        channels: Channels C of a latent.
        downscale: Pixels along a side of a latent cell.
    """

    def __init__(self, name: str, channels: int, downscale: int) -> None:
        super().__init__()
        self.name, self.channels, self.downscale = name, channels, downscale

    @abstractmethod
    def to_latents(self, images: Tensor) -> Tensor:
        """Return latents, (N, C, h, w), of images, (N, 3, H, W) in [0, 1]; the same every time."""

    @abstractmethod
    def to_images(self, latents: Tensor) -> Tensor:
        """Return images, (N, 3, H, W) in [0, 1], of latents, (N, C, h, w)."""

    @property
    def config(self) -> Mapping[str, Any]:
        """What besides the weights decides what it computes, in JSON types."""
        return {}

    @property
    def identity(self) -> str:
        """A hash of kind, configuration and weights: the same wherever a copy of it lies."""
        digest = hashlib.sha256(json.dumps([type(self).__name__, dict(self.config)]).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    def latent_size(self, height: int, width: int, what: str = "images") -> tuple[int, int]:
        """Return height and width of the latents of images.

        Raises:
            ValueError: If the sides are no multiples of `downscale`; says `what` they belong to.
        """
        if height % self.downscale or width % self.downscale or min(height, width) < 1:
            raise ValueError(
                f"{what} of {height}x{width} pixels do not fit the autoencoder {self.name}: both "
                f"sides must be multiples of {self.downscale}; choose another image size"
            )
        return height // self.downscale, width // self.downscale

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return latents, (N, h, w, C) float32 on the device of `images`.

        Args:
            images: (N, H, W, 3), uint8 or float in [0, 1].

        Raises:
            ValueError: If the shape is another, or sides are no multiples of `downscale`.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images must be (N, H, W, 3), got {tuple(images.shape)}")
        height, width = self.latent_size(*images.shape[1:3])
        parts = [images.new_zeros((0, height, width, self.channels), dtype=torch.float32)]
        for batch in _batches(images, images.shape[1] * images.shape[2]):
            pixels = batch.to(self._device).float() / (255 if batch.dtype == torch.uint8 else 1)
            latents = self.to_latents(pixels.permute(0, 3, 1, 2).contiguous())
            parts.append(latents.permute(0, 2, 3, 1).float().to(images.device))
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return images, (N, H, W, 3) uint8 on the device of `latents`.

        Args:
            latents: (N, h, w, C) float.

        Raises:
            ValueError: If the shape is another.
        """
        if latents.ndim != 4 or latents.shape[-1] != self.channels:
            raise ValueError(f"latents must be (N, h, w, {self.channels}), got {latents.shape}")
        height, width = (side * self.downscale for side in latents.shape[1:3])
        parts = [latents.new_zeros((0, height, width, 3), dtype=torch.uint8)]
        for batch in _batches(latents, height * width):
            cells = batch.to(self._device).float().permute(0, 3, 1, 2).contiguous()
            images = (self.to_images(cells).clamp(0, 1) * 255).round().to(torch.uint8)
            parts.append(images.permute(0, 2, 3, 1).to(latents.device))
        return torch.cat(parts)

    def write(self, folder: Path) -> None:
        """Write a copy into an empty folder, from which `load_autoencoder` makes the same again."""
        raise NotImplementedError(f"{type(self).__name__} cannot be written; give it `write`")

    @property
    def num_weights(self) -> int:
        """Numbers in all its parameters and buffers."""
        return sum(tensor.numel() for tensor in self.state_dict().values())

    @property
    def _device(self) -> torch.device:
        return next((tensor.device for tensor in self.parameters()), torch.device("cpu"))


def frozen(autoencoder: FrameAutoencoder) -> FrameAutoencoder:
    """Return the autoencoder in evaluation mode, with weights that no optimiser changes."""
    autoencoder.eval().requires_grad_(False)
    return autoencoder


def _batches(frames: Tensor, num_pixels: int) -> Iterator[Tensor]:
    """Yield frames, (N, ...) of so many pixels each, a few at a time."""
    length = max(1, BATCH_PIXELS // num_pixels)
    for start in range(0, len(frames), length):
        yield frames[start : start + length]
