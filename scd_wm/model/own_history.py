"""Training on the model's own predictions, as it must go on from them in a rollout.

Axes: B batch, T frames, R rows of it, M values of a packed frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from scd_wm.model import noise
from scd_wm.model.frames import Sequence

if TYPE_CHECKING:
    from scd_wm.model.world_model import WorldModel


def own_history(model: WorldModel, sequence: Sequence, keys: Tensor) -> Tensor:
    """Return history frames, (B, T - 1, M), some rows with the model's own predictions in it.

    The model must live with its own frames in a rollout, so it trains on them: each row draws
    how many of `self_rollouts` passes it takes part in (none included) and the frame from which
    on its history is imagined. A pass predicts all frames at once from the history of the pass
    before (Mihaylova and Martins 2019, arXiv:1906.07651), so after p passes the frames from the
    p-th imagined one on hold the error of p rollout steps, for p parallel passes and not T
    sequential ones.
    """
    history = sequence.packed[:, :-1]
    num_passes, num_frames = model.config.self_rollouts, history.shape[1]
    if num_passes == 0 or num_frames < 2:
        return history
    draws = noise.uniform(keys, 2)
    passes = (draws[:, 0] * (num_passes + 1)).long()
    first = 1 + (draws[:, 1] * (num_frames - 1)).long()  # (B,) first imagined frame, >= 1
    time = torch.arange(1, num_frames, device=keys.device)
    is_own = (time >= first[:, None])[..., None]  # (B, T - 2, 1)
    is_own = is_own & model.layout.value_valid(sequence.valid[:, 1:-1])  # (B, T - 2, M)
    history = history.clone()
    for index in range(num_passes):
        rows = (passes >= num_passes - index).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        predicted = _predict_all(model, sequence.rows(rows), history[rows], keys[rows] + index)
        history[rows, 1:] = torch.where(is_own[rows], predicted[:, :-1], history[rows, 1:])
    return history


@torch.no_grad()
def _predict_all(model: WorldModel, sequence: Sequence, history: Tensor, keys: Tensor) -> Tensor:
    """Return one-step samples of frames 1 to T - 1 from `history`, (R, T - 1, M)."""
    num_frames = history.shape[1]
    eps = torch.zeros_like(history).flatten(0, 1)
    if model.needs_noise(1):
        frame_keys = noise.derive(keys[:, None], torch.arange(num_frames).to(keys))
        eps = noise.normal(frame_keys, model.layout.num_values, history.dtype).flatten(0, 1)
    context = model.contexts(sequence, history, None, eps)
    base = model.base(history, sequence.valid[:, :-1]).flatten()
    sample, _ = model.sample(context, base, eps, num_steps=1)
    return rearrange(sample, "(b t) m -> b t m", t=num_frames)
