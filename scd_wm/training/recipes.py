"""Model and training by name: what `scd-wm train --preset NAME` starts from.

A recipe is a function, so that all its choices can be read in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from scd_wm.model import presets
from scd_wm.model.config import WorldModelConfig
from scd_wm.training.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A model and how to train it."""

    model: WorldModelConfig
    train: TrainConfig
    image_size: int | None = None  # side that larger images are resized to, unless told otherwise
    uses_images: bool = True  # take the data's cameras, unless told otherwise
    latent_patch: int = 2  # side of a patch in latent cells, where images are latents
    latent_refine: int = 0  # channels of the convolutional head, where images are latents
    latent_image_size: int | None = 128  # in place of image_size, where images are latents

    def on_latents(self) -> Recipe:
        """Return the recipe for a world of latents: its own patches and convolutional head."""
        model = replace(
            self.model, patch_size=self.latent_patch, refine_channels=self.latent_refine
        )
        return replace(self, model=model, image_size=self.latent_image_size)


def state() -> Recipe:
    """A world of vectors only: minutes on a laptop."""
    train = TrainConfig(
        steps=2_000,
        batch_size=16,
        num_frames=8,
        encoder_lr=2e-3,
        decoder_lr=2e-3,
        warmup_steps=50,
        ema_decay=0.998,
    )
    return Recipe(presets.state(), train, uses_images=False)


def tiny() -> Recipe:
    """64 px images, or latents of 128 px: an hour on a laptop."""
    train = TrainConfig(steps=10_000, batch_size=8, num_frames=8, encoder_lr=2e-3, decoder_lr=2e-3)
    # As with pixels: large patches for few tokens, and a head for what they cannot carry.
    return Recipe(presets.tiny(), train, image_size=64, latent_patch=4, latent_refine=64)


def small() -> Recipe:
    """64 to 128 px images: hours on one GPU."""
    train = TrainConfig(
        steps=100_000,
        batch_size=32,
        num_frames=16,
        encoder_lr=3e-4,
        decoder_lr=3e-4,
        warmup_steps=1_000,
        ema_decay=0.9995,
        checkpoint_every_s=600,
    )
    return Recipe(presets.small(), train, image_size=96)


def base() -> Recipe:
    """Larger images and longer clips: a day on several GPUs."""
    train = TrainConfig(
        steps=300_000,
        batch_size=64,
        num_frames=32,
        warmup_steps=2_000,
        ema_decay=0.9999,
        precision="bfloat16",
        checkpoint_every_s=600,
    )
    return Recipe(presets.base(), train, image_size=128, latent_image_size=256)


def paper() -> Recipe:
    """As Bai et al. 2026 train SCD-M."""
    train = TrainConfig(
        steps=500_000,
        batch_size=64,
        num_frames=32,
        warmup_steps=5_000,
        ema_decay=0.9999,
        precision="bfloat16",
        checkpoint_every_s=600,
    )
    return Recipe(presets.paper(), train, latent_patch=1)


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe for recipe in (state, tiny, small, base, paper)
}


def recipe(name: str) -> Recipe:
    """Return the recipe of a preset.

    Raises:
        KeyError: If there is none of that name; the message lists those there are.
    """
    if name not in RECIPES:
        raise KeyError(f"no preset {name!r}; there are {list(RECIPES)}")
    return RECIPES[name]()
