"""Between a world of latents and the pixels that people, environments and policies see.

Nothing is decoded but what is asked for: rollouts and planners work on latents.

Axes: B rows, T frames, H height, W width, h and w in latent cells, C channels of a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from scd_wm.imagination import Frames
from scd_wm.spec import Spec


class ImageCoder(Protocol):
    """Encodes and decodes single images, as `scd_wm.autoencoder.base.FrameAutoencoder` does."""

    def encode(self, images: Tensor) -> Tensor:
        """Return latents, (B, h, w, C), of images, (B, H, W, 3) uint8."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, (B, H, W, 3) uint8, of latents, (B, h, w, C)."""
        ...


@dataclass(frozen=True, eq=False)
class Latents:
    """Encodes and decodes those cameras of a world that are latents; leaves the rest as it is.

    Args:
        spec: Of the world.
        coder: Its autoencoder.
    """

    spec: Spec
    coder: ImageCoder

    def encode(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return an observation, (B, ...) or (B, T, ...), with latents for images."""
        return self._each(observation, self.coder.encode)

    def decode(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return an observation, (B, ...) or (B, T, ...), with images for latents."""
        return self._each(observation, self.coder.decode)

    def seen(self, frames: Frames) -> Frames:
        """Return imagined frames, (B, ...) or (B, T, ...), with images for latents."""
        return replace(frames, images=self.decode(frames.images))

    def _each(
        self, entries: Mapping[str, Tensor], code: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        latent = {name for name, camera in self.spec.cameras.items() if camera.kind == "latent"}
        return {k: _image_by_image(code, v) if k in latent else v for k, v in entries.items()}


def _image_by_image(code: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    coded = code(values.flatten(0, -4))
    return coded.reshape(*values.shape[:-3], *coded.shape[1:])
