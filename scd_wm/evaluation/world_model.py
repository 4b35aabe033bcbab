"""A world model as a callable that imagines, the form in which evaluation and reports use it."""

from __future__ import annotations

from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation.null_models import Imagine
from scd_wm.imagination import Frames, rollout
from scd_wm.model.scd import SCDWorldModel


def as_imagine(model: SCDWorldModel, num_steps: int | None = None) -> Imagine:
    """Bind a world model and its sampler settings; what it imagines is returned on the CPU.

    Args:
        model: Put into evaluation mode by this call.
        num_steps: Sampler steps for each frame; None takes the model's own.
    """
    model.eval()

    def imagine(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
        frames = rollout(model, history, actions, seeds=seeds, num_steps=num_steps)
        return Frames(
            images={k: v.cpu() for k, v in frames.images.items()},
            vectors={k: v.cpu() for k, v in frames.vectors.items()},
            outcome={k: v.cpu() for k, v in frames.outcome.items()},
        )

    return imagine
