"""Training on the model's own predictions, as it must go on from them in a rollout.

Axes: B batch, T frames, R rows of it, M values of a packed frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from scd_wm.model import noise
from scd_wm.model.flow import Sampler
from scd_wm.model.frames import Frame, Sequence

if TYPE_CHECKING:
    from scd_wm.model.world_model import WorldModel


def own_history(model: WorldModel, sequence: Sequence, keys: Tensor) -> Tensor:
    """Return history frames, (B, T - 1, M), with the model's own predictions in it.

    Each row draws the frame from which on its history is imagined; frames before it stay real.
    """
    history = sequence.packed[:, :-1]
    config, num_frames = model.config, history.shape[1]
    if (config.self_rollouts == 0 and config.self_forcing == 0) or num_frames < 2:
        return history
    draws = noise.uniform(keys, 2)
    first = 1 + (draws[:, 1] * (num_frames - 1)).long()  # (B,) first imagined frame, >= 1
    time = torch.arange(1, num_frames, device=keys.device)
    is_own = (time >= first[:, None])[..., None]  # (B, T - 2, 1)
    is_own = is_own & model.layout.value_valid(sequence.valid[:, 1:-1])  # (B, T - 2, M)
    if config.self_forcing:
        return _rolled_out(model, sequence, is_own, first, keys)
    passes = (draws[:, 0] * (config.self_rollouts + 1)).long()
    return _passed_over(model, sequence, is_own, passes, keys)


def _passed_over(
    model: WorldModel, sequence: Sequence, is_own: Tensor, passes: Tensor, keys: Tensor
) -> Tensor:
    """Imagine the history in parallel: each row takes part in some passes (none included).

    A pass predicts all frames at once from the history of the pass before (Mihaylova and Martins
    2019, arXiv:1906.07651), so after p passes the frames from the p-th imagined one on hold the
    error of p rollout steps, for p parallel passes and not T sequential ones.

    Args:
        model: The model.
        sequence: The clips, of T frames.
        is_own: Which values of frames 1 to T - 2 are imagined, (B, T - 2, M) bool.
        passes: Of each row, (B,).
        keys: Of the noise, (B,).
    """
    history, num_passes = sequence.packed[:, :-1].clone(), model.config.self_rollouts
    for index in range(num_passes):
        rows = (passes >= num_passes - index).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        frames = torch.arange(history.shape[1]).to(keys)
        frame_keys = noise.derive((keys[rows] + index)[:, None], frames)
        with torch.no_grad():
            predicted = _predict_all(
                model, sequence.rows(rows), history[rows], frame_keys, Sampler(num_steps=1)
            )
        history[rows, 1:] = torch.where(is_own[rows], predicted[:, :-1], history[rows, 1:])
    return history


def _rolled_out(
    model: WorldModel, sequence: Sequence, is_own: Tensor, first: Tensor, keys: Tensor
) -> Tensor:
    """Imagine the history frame by frame, as `scd_wm.rollout` does, by the model's own sampler.

    The rollout has no gradient; the loss of each frame goes back through its own step alone. With
    `self_forcing` g > 1 it also goes back through the g - 1 imagined steps before: passes over all
    frames at once, which leave the frames of a rollout as they are since each follows from those
    before it, but tell how they came about. (Learning on own rollouts with a truncated gradient:
    Huang et al. 2025, "Self Forcing", arXiv:2506.08009; there the loss is one of distributions. The
    actions of a recording are known, so here it is the recorded future: Venkatraman et al. 2015,
    "Improving Multi-step Prediction of Learned Time Series Models".)

    Args:
        model: The model.
        sequence: The clips, of T frames.
        is_own: Which values of frames 1 to T - 2 are imagined, (B, T - 2, M) bool.
        first: Imagined frame of each row, (B,).
        keys: Of the noise, (B,).
    """
    real = sequence.packed[:, :-1]
    count = torch.arange(1, real.shape[1] + 1).to(first) - first[:, None]  # imagined before
    frame_keys = noise.derive(keys[:, None], count.clamp(min=0))  # as a rollout's
    with torch.no_grad():
        history = _roll(model, sequence, is_own, frame_keys)
    for _ in range(model.config.self_forcing - 1):
        predicted = _predict_all(model, sequence, history, frame_keys, _sampler(model))
        own = torch.where(is_own, predicted[:, :-1], real[:, 1:])
        history = torch.cat([real[:, :1], own], dim=1)
    return history


def _roll(model: WorldModel, sequence: Sequence, is_own: Tensor, frame_keys: Tensor) -> Tensor:
    """Return history frames of a cached rollout, (B, T - 1, M); memory is that of a window."""
    sampler, cache = _sampler(model), model.empty_cache(len(frame_keys))
    frames = [sequence.packed[:, 0]]
    for t in range(is_own.shape[1]):
        rest = (sequence.valid[:, t], sequence.action[:, t], sequence.action_valid[:, t])
        eps = _noise(model, frame_keys[:, t], frames[0].dtype, sampler)
        found = model.next_frame(Frame(frames[-1], *rest), cache, eps, sampler)
        frames.append(torch.where(is_own[:, t], found.packed, sequence.packed[:, t + 1]))
    return torch.stack(frames, dim=1)


def _sampler(model: WorldModel) -> Sampler:
    """Return how a rollout samples, without guidance: that changes what was learned, afterwards."""
    return Sampler(model.config.num_steps, model.config.solver)


def _predict_all(
    model: WorldModel,
    sequence: Sequence,
    history: Tensor,
    frame_keys: Tensor,
    sampler: Sampler,
) -> Tensor:
    """Return samples of frames 1 to T - 1 from `history`, (R, T - 1, M), in one parallel pass.

    Args:
        model: The model.
        sequence: The clips, of T frames.
        history: Frames 0 to T - 2 as they are read, (R, T - 1, M).
        frame_keys: Of the noise of each frame, (R, T - 1).
        sampler: Its steps and solver.
    """
    eps = _noise(model, frame_keys, history.dtype, sampler).flatten(0, 1)
    context = model.contexts(sequence, history, None, eps)
    base = model.base(history, sequence.valid[:, :-1]).flatten()
    sample, _ = model.sample(context, base, eps, sampler)
    return rearrange(sample, "(b t) m -> b t m", t=history.shape[1])


def _noise(model: WorldModel, keys: Tensor, dtype: torch.dtype, sampler: Sampler) -> Tensor:
    """Return noise, (..., M), for keys, (...); zeros where no sample depends on it."""
    size = model.layout.num_values
    if model.needs_noise(sampler):
        return noise.normal(keys, size, dtype)
    return torch.zeros(*keys.shape, size, dtype=dtype, device=keys.device)


def noisy_history(model: WorldModel, sequence: Sequence, history: Tensor, keys: Tensor) -> Tensor:
    """Return history frames, (B, T - 1, M), each with noise at a level of its own.

    A frame that was imagined is off by a share of what changes between frames, so the noise is in
    units of the residual's deviation; levels are uniform in [0, `history_noise`], drawn for each
    frame (as diffusion forcing draws them: Chen et al. 2024, arXiv:2407.01392). The encoder is not
    told the level: in a rollout nobody knows how far off a frame is, and told 0, as a clean frame
    is, it would learn to trust it. What is missing stays missing, pixels stay in their range.

    Args:
        model: The model.
        sequence: The clips, of T frames.
        history: Frames 0 to T - 2, (B, T - 1, M).
        keys: Of the noise, (B,).
    """
    largest = model.config.history_noise
    if largest == 0:
        return history
    level = noise.uniform(noise.derive(keys, 0), history.shape[1], history.dtype) * largest
    frame_keys = noise.derive(noise.derive(keys, 1)[:, None], torch.arange(level.shape[1]).to(keys))
    eps = noise.normal(frame_keys, model.layout.num_values, history.dtype)
    noisy = model.layout.clamp(history + level[..., None] * model.layout.delta_std * eps)
    return torch.where(model.layout.value_valid(sequence.valid[:, :-1]), noisy, history)
