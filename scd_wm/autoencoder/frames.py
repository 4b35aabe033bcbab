"""Clips, imagined frames and policies of worlds of latents, with what people look at in them.

Axes: B batch, T frames, H height, W width, h and w in latent cells, C channels of a latent.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.clip import Clip
from scd_wm.imagination import Frames, Policy
from scd_wm.imagination.latents import Latents
from scd_wm.spec import Spec


def encode_clip(clip: Clip, autoencoder: FrameAutoencoder, spec: Spec) -> Clip:
    """Return a batched clip with latents, (B, T, h, w, C), in place of the images that `spec` says.

    Args:
        clip: With images, (B, T, H, W, 3) uint8.
        autoencoder: The one of the world.
        spec: Of the world of latents.
    """
    return replace(clip, images=Latents(spec, autoencoder).encode(clip.images))


def decode_frames(frames: Frames, autoencoder: FrameAutoencoder, spec: Spec) -> Frames:
    """Return imagined frames with images, (B, T, H, W, 3) uint8, in place of latents.

    Args:
        frames: With latents, (B, T, h, w, C); those of a single step have no axis T.
        autoencoder: The one of the world.
        spec: Of the world of latents.
    """
    return Latents(spec, autoencoder).seen(frames)


def on_pixels(policy: Policy, autoencoder: FrameAutoencoder, spec: Spec) -> Policy:
    """Return a policy for `rollout_policy` that is shown pixels in a world of latents.

    Args:
        policy: Sees images, (B, H, W, 3) uint8.
        autoencoder: The one of the world; decodes each frame that the policy acts on.
        spec: Of the world of latents.
    """
    latents = Latents(spec, autoencoder)

    def act(observation: dict[str, Tensor]) -> Tensor:
        return policy(latents.decode(observation))

    return act


def round_trip(clip: Clip, autoencoder: FrameAutoencoder, spec: Spec) -> Frames:
    """Return the real images of a batched clip encoded and decoded: the best that can be imagined.

    Args:
        clip: With images, (B, T, H, W, 3) uint8.
        autoencoder: The one of the world.
        spec: Of the world of latents.
    """
    latents = Latents(spec, autoencoder)
    images = {n: i for n, i in clip.images.items() if spec.cameras[n].kind == "latent"}
    return Frames(images=latents.decode(latents.encode(images)), vectors={}, outcome={})
