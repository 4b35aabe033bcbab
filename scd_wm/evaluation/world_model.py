"""A world model as a callable that imagines, the form in which evaluation and reports use it."""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.frames import decode_frames, encode_clip
from scd_wm.clip import Clip
from scd_wm.evaluation.null_models import Imagine
from scd_wm.imagination import Frames, rollout, sampler_of
from scd_wm.model.world_model import WorldModel


def as_imagine(
    model: WorldModel,
    num_steps: int | None = None,
    autoencoder: FrameAutoencoder | None = None,
    solver: str | None = None,
    guidance: float | None = None,
) -> Imagine:
    """Bind a world model and its sampler settings; what it imagines is returned on the CPU.

    Args:
        model: Put into evaluation mode by this call.
        num_steps: Sampler steps for each frame; None takes the model's own.
        autoencoder: Of a world of latents, which then takes and gives pixels like any other.
        solver: "euler" or "heun"; None takes the model's own.
        guidance: 1 for none; None takes the model's own.
    """
    model.eval()
    sampler = asdict(sampler_of(model, num_steps, solver, guidance))

    def imagine(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
        if autoencoder is not None:
            history = encode_clip(history, autoencoder, model.spec)
        frames = rollout(model, history, actions, seeds=seeds, **sampler)
        if autoencoder is not None:
            frames = decode_frames(frames, autoencoder, model.spec)
        return Frames(
            images={k: v.cpu() for k, v in frames.images.items()},
            vectors={k: v.cpu() for k, v in frames.vectors.items()},
            outcome={k: v.cpu() for k, v in frames.outcome.items()},
            uncertainty=None if frames.uncertainty is None else frames.uncertainty.cpu(),
        )

    return imagine
