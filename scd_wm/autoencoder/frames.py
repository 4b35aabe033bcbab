"""Between worlds of latents and what people look at: clips in, imagined frames out.

Nothing is decoded but what is asked for: rollouts, planners and policies work on latents.

Axes: B batch, T frames, H height, W width, h and w in latent cells, C channels of a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.clip import Clip
from scd_wm.imagination import Frames, Policy
from scd_wm.spec import Spec


def encode_clip(clip: Clip, autoencoder: FrameAutoencoder, spec: Spec) -> Clip:
    """Return a batched clip with latents, (B, T, h, w, C), in place of the images that `spec` says.

    Args:
        clip: With images, (B, T, H, W, 3) uint8.
        autoencoder: The one of the world.
        spec: Of the world of latents.
    """
    return replace(clip, images=_every(clip.images, spec, autoencoder.encode))


def decode_frames(frames: Frames, autoencoder: FrameAutoencoder, spec: Spec) -> Frames:
    """Return imagined frames with images, (B, T, H, W, 3) uint8, in place of latents.

    Args:
        frames: With latents, (B, T, h, w, C).
        autoencoder: The one of the world.
        spec: Of the world of latents.
    """
    return replace(frames, images=_every(frames.images, spec, autoencoder.decode))


def decode_step(frames: Frames, autoencoder: FrameAutoencoder, spec: Spec) -> Frames:
    """Return the frames of one step, (B, h, w, C), as `decode_frames` does those with an axis T."""
    timed = replace(frames, images={k: v[:, None] for k, v in frames.images.items()})
    seen = decode_frames(timed, autoencoder, spec)
    return replace(seen, images={k: v[:, 0] for k, v in seen.images.items()})


def on_pixels(policy: Policy, autoencoder: FrameAutoencoder, spec: Spec) -> Policy:
    """Return a policy for `rollout_policy` that is shown pixels in a world of latents.

    Args:
        policy: Sees images, (B, H, W, 3) uint8.
        autoencoder: The one of the world; decodes each frame that the policy acts on.
        spec: Of the world of latents.
    """
    latent = {name for name, camera in spec.cameras.items() if camera.kind == "latent"}

    def act(observation: dict[str, Tensor]) -> Tensor:
        return policy(
            {k: autoencoder.decode(v) if k in latent else v for k, v in observation.items()}
        )

    return act


def round_trip(clip: Clip, autoencoder: FrameAutoencoder, spec: Spec) -> Frames:
    """Return the real images of a batched clip encoded and decoded: the best that can be imagined.

    Args:
        clip: With images, (B, T, H, W, 3) uint8.
        autoencoder: The one of the world.
        spec: Of the world of latents.
    """
    latents = {n: i for n, i in clip.images.items() if spec.cameras[n].kind == "latent"}
    return Frames(
        images=_every(latents, spec, lambda x: autoencoder.decode(autoencoder.encode(x))),
        vectors={},
        outcome={},
    )


def _every(
    images: Mapping[str, Tensor], spec: Spec, function: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return each camera's images, (B, T, ...), those of latents by a function of (N, ...)."""
    return {
        name: _by_frame(x, function) if spec.cameras[name].kind == "latent" else x
        for name, x in images.items()
    }


def _by_frame(images: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    changed = function(images.flatten(0, 1))
    return changed.reshape(*images.shape[:2], *changed.shape[1:])
