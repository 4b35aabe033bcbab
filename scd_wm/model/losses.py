"""The loss: a mean per modality over its valid entries, then a stated weighted sum.

Without the mean per modality the 12,288 pixel values of one image drown 3 values of proprio.

Axes: B batch, T frames, F = B (T - 1) predicted frames, M values of a packed frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.layout import FrameLayout
from scd_wm.spec import Spec

Average = Callable[[Tensor], Tensor]
"""Returns the mean of a tensor over the processes that share a batch."""


def masked_means(pairs: Sequence[tuple[Tensor, Tensor]], average: Average | None) -> list[Tensor]:
    """Return for each (values, valid) the mean of the values that are valid, 0 where none are.

    With `average` the sums are divided by the mean count of the processes in place of the own one.
    The mean of what they return is then the mean of all valid values, as in one process; the mean
    of their own means would be another wherever they do not have equally many.
    """
    counts = torch.stack([valid.sum() for _, valid in pairs]).float()
    counts = counts if average is None else average(counts)
    counts = torch.where(counts > 0, counts, 1.0)
    return [(v * valid).sum() / n for (v, valid), n in zip(pairs, counts, strict=True)]


def frame_losses(
    layout: FrameLayout, error: Tensor, valid: Tensor, average: Average | None = None
) -> dict[str, Tensor]:
    """Return the mean error of each modality that the frames hold.

    Args:
        layout: Of the frames.
        error: Weighted squared error, (F, M).
        valid: (F, M) bool.
        average: Of the processes that share the batch; None: there is one.

    Returns:
        "image" (the mean over cameras) and "vector" (the mean over vectors), where there are any.
    """
    pairs = [(error[:, s.values], valid[:, s.values]) for s in layout.segments]
    parts: dict[str, list[Tensor]] = {}
    for s, mean in zip(layout.segments, masked_means(pairs, average), strict=True):
        parts.setdefault("image" if s.is_image else "vector", []).append(mean)
    return {name: torch.stack(means).mean() for name, means in parts.items()}


def outcome_losses(
    spec: Spec, logits: Tensor, clip: Clip, counts: Tensor, average: Average | None = None
) -> dict[str, Tensor]:
    """Return the loss of each outcome: squared error of the normalised reward, else cross-entropy.

    Args:
        spec: Names the outcomes, in the order of the logits.
        logits: (F, number of outcomes).
        clip: The batch, (B, T).
        counts: Which frames count, (F,) bool.
        average: Of the processes that share the batch; None: there is one.
    """
    if not spec.outcomes:
        return {}
    pairs = []
    for index, name in enumerate(spec.outcomes):
        valid = clip.valid[name][:, 1:].flatten() & counts
        # A NaN that is not valid would reach the weights: its gradient is 0 times NaN.
        target = clip.outcome[name][:, 1:].flatten().to(logits.dtype).masked_fill(~valid, 0.0)
        logit = logits[:, index]
        if name == "reward":
            error = (logit - (target - spec.reward_mean) / spec.reward_std).square()
        else:
            error = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        pairs.append((error, valid))
    return dict(zip(spec.outcomes, masked_means(pairs, average), strict=True))


def total(parts: dict[str, Tensor], config: WorldModelConfig) -> Tensor:
    """Return the weighted sum of the parts."""
    weights = {"image": config.image_weight, "vector": config.vector_weight}
    terms = [weights.get(name, config.outcome_weight) * part for name, part in parts.items()]
    return torch.stack(terms).sum()
