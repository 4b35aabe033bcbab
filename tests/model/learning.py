"""A world that a small model learns in seconds, and which of its parameters learn at all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.imagination import rollout
from scd_wm.model.build import build_world_model
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec, VectorSpec


@dataclass(frozen=True)
class Learned:
    """Mean squared errors of what a model imagines after two frames, once it has learned."""

    error: Tensor
    shuffled: Tensor  # under the actions of another row
    variance: Tensor  # of what is to be imagined


def learn_one_clip(config: WorldModelConfig, num_frames: int, num_steps: int) -> Learned:
    """Train a model on one batch of clips in which x' = x / 2 + action."""
    torch.manual_seed(0)
    spec = Spec(vectors={"x": VectorSpec.unit(2)}, action=VectorSpec.unit(2))
    model = build_world_model(spec, config)
    clip = testing.clip(spec, 16, num_frames)
    x = clip.vectors["x"].clone()
    for t in range(num_frames - 1):
        x[:, t + 1] = 0.5 * x[:, t] + clip.actions[:, t]
    clip = replace(clip, vectors={"x": x})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(num_steps):
        loss, _ = model(clip, torch.arange(16) + 16 * step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def error_under(actions: Tensor) -> Tensor:
        imagined = rollout(model, clip.frames(0, 2), actions, num_steps=4).vectors["x"]
        return (imagined - x[:, 2:]).square().mean()

    actions = clip.actions[:, 1:]
    return Learned(error_under(actions), error_under(actions.roll(1, 0)), x[:, 2:].var())


def silent_parameters(model: WorldModel) -> list[str]:
    """Return the parameters without a gradient from clips one of which begins with nothing."""
    clip = testing.clip(model.spec, 4, 4)
    start = {k: v.clone() for k, v in clip.valid.items()}
    for valid in start.values():
        valid[0, 0] = False
    action_valid = clip.action_valid.clone()
    action_valid[0, 0] = False
    loss, _ = model(replace(clip, valid=start, action_valid=action_valid), torch.arange(4))
    loss.backward()
    return [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
