"""The loss: a mean per modality over its valid entries, then a stated weighted sum.

Without the mean per modality the 12,288 pixel values of one image drown 3 values of proprio.

Axes: B batch, T frames, F = B (T - 1) predicted frames, M values of a packed frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.layout import FrameLayout
from scd_wm.spec import Spec


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of `values` where `valid`, and 0 where nothing is valid."""
    return (values * valid).sum() / valid.sum().clamp(min=1)


def frame_losses(layout: FrameLayout, error: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Return the mean error of each modality that the frames hold.

    Args:
        layout: Of the frames.
        error: Weighted squared error, (F, M).
        valid: (F, M) bool.

    Returns:
        "image" (the mean over cameras) and "vector" (the mean over vectors), where there are any.
    """
    parts: dict[str, list[Tensor]] = {}
    for s in layout.segments:
        mean = masked_mean(error[:, s.values], valid[:, s.values])
        parts.setdefault("image" if s.is_image else "vector", []).append(mean)
    return {name: torch.stack(means).mean() for name, means in parts.items()}


def outcome_losses(spec: Spec, logits: Tensor, clip: Clip, counts: Tensor) -> dict[str, Tensor]:
    """Return the loss of each outcome: squared error of the normalised reward, else cross-entropy.

    Args:
        spec: Names the outcomes, in the order of the logits.
        logits: (F, number of outcomes).
        clip: The batch, (B, T).
        counts: Which frames count, (F,) bool.
    """
    parts = {}
    for index, name in enumerate(spec.outcomes):
        valid = clip.valid[name][:, 1:].flatten() & counts
        # A NaN that is not valid would reach the weights: its gradient is 0 times NaN.
        target = clip.outcome[name][:, 1:].flatten().to(logits.dtype).masked_fill(~valid, 0.0)
        logit = logits[:, index]
        if name == "reward":
            error = (logit - (target - spec.reward_mean) / spec.reward_std).square()
        else:
            error = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        parts[name] = masked_mean(error, valid)
    return parts


def total(parts: dict[str, Tensor], config: WorldModelConfig) -> Tensor:
    """Return the weighted sum of the parts."""
    weights = {"image": config.image_weight, "vector": config.vector_weight}
    terms = [weights.get(name, config.outcome_weight) * part for name, part in parts.items()]
    return torch.stack(terms).sum()
