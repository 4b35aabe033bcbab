"""A cached rollout against the passes that training makes over a whole history."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.imagination import begin, step
from scd_wm.model import noise
from scd_wm.model.flow import Sampler
from scd_wm.model.world_model import WorldModel


def check_cached_rollout(model: WorldModel, num_steps: int, solver: str) -> None:
    """Assert that both imagine the same, out to three windows; the passes read all frames again.

    Args:
        model: In float64.
        num_steps: Sampler steps.
        solver: Of the sampler.
    """
    horizon = 3 * model.config.window
    history = testing.double(testing.clip(model.spec, 2, 2))
    actions = torch.randn(2, horizon, 2, dtype=torch.float64)
    state = begin(model, history)
    packed, taken = model.layout.pack(history), torch.cat([history.actions, actions], dim=1)
    for t in range(horizon):
        keys = noise.derive(state.keys, state.num_imagined)
        step(model, state, actions[:, t], num_steps, solver)
        expected = _next_frame(model, packed, taken[:, : t + 2], keys, Sampler(num_steps, solver))
        torch.testing.assert_close(state.last, expected, atol=1e-9, rtol=0.0)
        packed = torch.cat([packed, state.last[:, None]], dim=1)


@torch.inference_mode()
def _next_frame(
    model: WorldModel, packed: Tensor, actions: Tensor, keys: Tensor, sampler: Sampler
) -> Tensor:
    """Return the frame after `packed`, (B, T, M), as training's passes would sample it."""
    batch, num_frames = packed.shape[:2]
    clip = testing.double(testing.clip(model.spec, batch, num_frames + 1))
    sequence = model.sequence(replace(clip, actions=actions))
    eps = torch.zeros_like(packed)
    eps[:, -1] = noise.normal(keys, model.layout.num_values, packed.dtype)
    context = model.contexts(sequence, packed, None, eps.flatten(0, 1))
    base = model.base(packed, sequence.valid[:, :-1]).flatten()
    sample, _ = model.sample(context, base, eps.flatten(0, 1), sampler)
    return sample.reshape(batch, num_frames, -1)[:, -1]
