"""Imagined rollouts: from a history and actions, or a policy, to the frames that would follow.

All state of a rollout is in its `RolloutState`; the model holds none, so rollouts may interleave.

Axes: B batch (one rollout a row), F history frames, T imagined frames, N tokens of a frame,
M values of a packed frame, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.imagination.history import check_history
from scd_wm.imagination.history import observed as observed
from scd_wm.imagination.history import start_frame as start_frame
from scd_wm.imagination.state import RolloutState as RolloutState
from scd_wm.model import noise
from scd_wm.model.cache import RingCache
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.flow import Sampler
from scd_wm.model.frames import Frame
from scd_wm.model.world_model import WorldModel


@dataclass(frozen=True)
class Frames:
    """Imagined frames in the units of the data; a single step has no axis T."""

    images: Mapping[str, Tensor]  # camera: (B, T, H, W, C) uint8, or float latents
    vectors: Mapping[str, Tensor]  # name: (B, T, D)
    outcome: Mapping[str, Tensor]  # (B, T): reward in its units, the others as probabilities
    uncertainty: Tensor | None = None  # (B, T) 0 to 1; None where the model does not know its data

    @property
    def observation(self) -> dict[str, Tensor]:
        """Cameras and vectors by name: what a policy sees."""
        return {**self.images, **self.vectors}


Policy = Callable[[dict[str, Tensor]], Tensor]
"""Maps an observation, its entries with axis B in front, to actions in their units, (B, A)."""


@torch.inference_mode()
def begin(model: WorldModel, history: Clip, seeds: Tensor | None = None) -> RolloutState:
    """Read a history, so that the next `step` imagines the frame after it.

    Args:
        model: The world model.
        history: Batched clip of F >= 1 frames with the F - 1 actions between them.
        seeds: One int64 a row, (B,), for the noise; rows with the same seed, history and actions
            imagine the same. None counts 0, 1, 2, ...

    Raises:
        ValueError: If `history` lacks what the model reads, or sizes do not fit.
    """
    check_history(model.spec, history)
    history = history.to(model.layout.delta_std.device)
    batch = history.action_valid.shape[0]
    cache = model.empty_cache(batch)
    packed, valid = model.layout.pack(history), model.layout.token_valid(history.valid)
    for _ in _read(model, history, packed, valid, cache):
        pass
    if seeds is None:
        seeds = torch.arange(batch)
    elif seeds.shape != (batch,):
        raise ValueError(f"seeds must be ({batch},), one a row, got {tuple(seeds.shape)}")
    keys = noise.derive(seeds.to(packed.device), 0)
    return RolloutState(cache, packed[:, -1], valid[:, -1], keys, torch.zeros_like(keys))


@torch.inference_mode()
def contexts(model: WorldModel, clip: Clip) -> Tensor:
    """Return what a model makes of each frame of clips, of those before it and of its action.

    Args:
        model: The world model.
        clip: Batched clip of F >= 2 frames.

    Returns:
        Context features as a rollout has them, (B, F - 1, N, D).

    Raises:
        ValueError: If `clip` has one frame, lacks what the model reads, or sizes do not fit.
    """
    check_history(model.spec, clip)
    if clip.num_frames < 2:
        raise ValueError("contexts are of a frame and the action after it, the clip has 1 frame")
    clip = clip.to(model.layout.delta_std.device)
    cache = model.empty_cache(clip.action_valid.shape[0])
    packed, valid = model.layout.pack(clip), model.layout.token_valid(clip.valid)
    return torch.stack(list(_read(model, clip, packed, valid, cache)), dim=1)


def _read(
    model: WorldModel, history: Clip, packed: Tensor, valid: Tensor, cache: RingCache
) -> Iterator[Tensor]:
    """Read all frames of a history but the last, yielding the context of each, (B, N, D).

    Args:
        model: The world model.
        history: Has the actions.
        packed: Its frames, (B, F, M).
        valid: Which of their tokens hold data, (B, F, N) bool.
        cache: What is read goes here.
    """
    actions = model.layout.normalise_vector("action", history.actions)
    for t in range(history.num_frames - 1):
        frame = (packed[:, t], valid[:, t], actions[:, t], history.action_valid[:, t])
        yield model.read(Frame(*frame), cache)


@torch.inference_mode()
def step(
    model: WorldModel,
    state: RolloutState,
    actions: Tensor,
    num_steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
) -> Frames:
    """Imagine one frame for every row and move `state` to it.

    Args:
        model: The world model.
        state: From `begin`; changed in place.
        actions: In the units of the data, (B, A). A row at the start frame ignores its action: none
            leads to the first frame of an episode.
        num_steps: As in `sampler_of`, like what follows.
        solver: Of the sampler.
        guidance: Of the sampler.

    Returns:
        The frame, without an axis T.

    Raises:
        ValueError: If `actions` has another shape, or the model cannot be sampled so.
    """
    frame = _frame(model, state, actions)
    sampler = sampler_of(model, num_steps, solver, guidance)
    eps = _noise(model, state) if model.needs_noise(sampler) else torch.zeros_like(state.last)
    found = model.next_frame(frame, state.cache, eps, sampler)
    state.last, state.valid = found.packed, torch.ones_like(state.valid)
    state.num_imagined = state.num_imagined + 1
    frames = decode(model, found.packed, found.logits)
    if model.familiarity is None:
        return frames
    return replace(frames, uncertainty=model.familiarity(found.context))


def sampler_of(
    model: WorldModel,
    num_steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
) -> Sampler:
    """Return how a model samples: its own settings, but for those that are given.

    Args:
        model: The world model.
        num_steps: Sampler steps of a frame.
        solver: "euler" or "heun".
        guidance: g of `scd_wm.model.guidance`, 1 for none.

    Raises:
        ValueError: If `num_steps` is below 1, there is no such solver, or the model cannot be
            guided so.
    """
    return _sampler(model.config, num_steps, solver, guidance)


@lru_cache  # every step of a rollout asks, and a configuration is checked when it is made
def _sampler(
    config: WorldModelConfig, num_steps: int | None, solver: str | None, guidance: float | None
) -> Sampler:
    given = {"num_steps": num_steps, "solver": solver, "guidance": guidance}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = replace(config, **changes)
    return Sampler(config.num_steps, config.solver, config.guidance)


@torch.inference_mode()
def observe(model: WorldModel, state: RolloutState, actions: Tensor, seen: Clip) -> None:
    """Move `state` to what was really seen after `actions`, in place of an imagined frame.

    Args:
        model: The world model.
        state: From `begin`; changed in place.
        actions: Taken at the frame that the state is at, in the units of the data, (B, A).
        seen: The frame that followed, a batched clip of 1 frame; see `observed`.

    Raises:
        ValueError: If `actions` or `seen` does not fit.
    """
    check_history(model.spec, seen)
    if seen.action_valid.shape != (len(state.last), 0):
        raise ValueError(
            f"what was seen must be {len(state.last)} single frames, got "
            f"{len(seen.action_valid)} of {seen.num_frames}"
        )
    seen = seen.to(state.last.device)
    model.read(_frame(model, state, actions), state.cache)
    state.last = model.layout.pack(seen)[:, 0]
    state.valid = model.layout.token_valid(seen.valid)[:, 0]


def _frame(model: WorldModel, state: RolloutState, actions: Tensor) -> Frame:
    """Return the frame that a state is at and the action taken at it.

    Raises:
        ValueError: If `actions` has another shape.
    """
    batch, action_dim = len(state.last), model.spec.action.dim
    if actions.shape != (batch, action_dim):
        raise ValueError(f"actions must be ({batch}, {action_dim}), got {tuple(actions.shape)}")
    normal_action = model.layout.normalise_vector("action", actions.to(state.last))
    return Frame(state.last, state.valid, normal_action, _has_action(state))


def _noise(model: WorldModel, state: RolloutState) -> Tensor:
    """Return the noise of each row's next frame, (B, M)."""
    keys = noise.derive(state.keys, state.num_imagined)
    return noise.normal(keys, model.layout.num_values, state.last.dtype)


def _has_action(state: RolloutState) -> Tensor:
    """Return which rows have an action, (B,) bool: all but those at the start frame."""
    if min(state.cache.num_frames) > 0:
        return torch.ones(len(state.last), dtype=torch.bool, device=state.last.device)
    has_past = torch.tensor(state.cache.num_frames, device=state.valid.device) > 0
    return state.valid.any(dim=1) | has_past


@torch.inference_mode()
def warm_up(model: WorldModel, batch: int, num_steps: int | None = None) -> None:
    """Imagine a few frames of nothing, so that the first real ones are as fast as the others.

    Memory is taken and, with `engine="compile"`, code is compiled: for this batch size and for each
    length that the history of the entangled model has until its window is full.

    Args:
        model: As it will be used, see `scd_wm.model.engine.prepare`.
        batch: Rows of the rollouts to come.
        num_steps: As in `step`.
    """
    state = begin(model, start_frame(model.spec, batch))
    actions = state.last.new_zeros(batch, model.spec.action.dim)
    for _ in range(model.config.window + 1):
        step(model, state, actions, num_steps)


def check_calibrated(model: WorldModel, what: str) -> None:
    """Raise ValueError unless a model knows its training data, which `what` needs."""
    if model.familiarity is None:
        raise ValueError(
            f"{what} needs a model that knows how familiar its data is: run scd-wm calibrate RUN, "
            "and load the run anew"
        )


@torch.inference_mode()
def features(model: WorldModel, seen: Clip) -> Tensor:
    """Return what the model makes of single frames, without history, under the mean action.

    Args:
        model: The world model.
        seen: Batched clip of 1 frame; see `observed`.

    Returns:
        Context features, (B, N, D).

    Raises:
        ValueError: If `seen` does not fit.
    """
    check_history(model.spec, seen)
    seen = seen.to(model.layout.delta_std.device)
    packed, valid = model.layout.pack(seen)[:, 0], model.layout.token_valid(seen.valid)[:, 0]
    batch = len(packed)
    action = packed.new_zeros(batch, model.spec.action.dim)  # normalised
    has_action = torch.ones(batch, dtype=torch.bool, device=packed.device)
    return model.read(Frame(packed, valid, action, has_action), model.empty_cache(batch))


def decode(model: WorldModel, packed: Tensor, logits: Tensor) -> Frames:
    """Return packed frames, (..., M), and outcome logits in the units of the data."""
    spec, outcome = model.spec, {}
    for index, name in enumerate(spec.outcomes):
        logit = logits[..., index]
        is_reward = name == "reward"
        outcome[name] = logit * spec.reward_std + spec.reward_mean if is_reward else logit.sigmoid()
    return Frames(model.layout.unpack_images(packed), model.layout.unpack_vectors(packed), outcome)


def imagine(
    model: WorldModel,
    state: RolloutState,
    actions: Tensor,
    num_steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
) -> Iterator[Frames]:
    """Yield the frames that `actions`, (B, T, A), lead to, one at a time, at constant memory."""
    for t in range(actions.shape[1]):
        yield step(model, state, actions[:, t], num_steps, solver, guidance)


def rollout(
    model: WorldModel,
    history: Clip,
    actions: Tensor,
    *,
    seeds: Tensor | None = None,
    num_steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
) -> Frames:
    """Imagine what follows `history` under `actions`.

    Args:
        model: The world model.
        history: Batched clip of F >= 1 frames.
        actions: In the units of the data, (B, T, A); `actions[:, 0]` follows the last frame of
            `history`.
        seeds: As in `begin`.
        num_steps: As in `step`.
        solver: As in `step`.
        guidance: As in `step`.

    Returns:
        The T imagined frames.

    Raises:
        ValueError: If sizes do not fit.
    """
    if actions.ndim != 3 or actions.shape[1] < 1:
        raise ValueError(f"actions must be (B, T, A) with T >= 1, got {tuple(actions.shape)}")
    state = begin(model, history, seeds)
    return stack(list(imagine(model, state, actions, num_steps, solver, guidance)))


def rollout_policy(
    model: WorldModel,
    history: Clip,
    policy: Policy,
    horizon: int,
    *,
    seeds: Tensor | None = None,
    num_steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
) -> tuple[Frames, Tensor]:
    """Let a policy act in imagination; it sees imagined observations only.

    Args:
        model: The world model.
        history: Batched clip of F >= 1 frames; the policy first sees its last one.
        policy: Called once per frame, with what the model's spec names.
        horizon: Steps.
        seeds: As in `begin`.
        num_steps: As in `step`.
        solver: As in `step`.
        guidance: As in `step`.

    Returns:
        The imagined frames and the actions taken, (B, horizon, A).

    Raises:
        ValueError: If `horizon` is below 1, or the policy's actions have a wrong shape.
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, got {horizon}")
    state = begin(model, history, seeds)
    entries = {**history.images, **history.vectors}
    names = model.spec.observation_names
    observation = {k: entries[k][:, -1].to(state.last.device) for k in names}
    frames, actions = [], []
    for _ in range(horizon):
        actions.append(policy(observation))
        frames.append(step(model, state, actions[-1], num_steps, solver, guidance))
        observation = frames[-1].observation
    return stack(frames), torch.stack(actions, dim=1)


def stack(frames: Sequence[Frames]) -> Frames:
    """Join single steps along a new axis T."""

    def join(groups: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([group[name] for group in groups], 1) for name in groups[0]}

    known = [f.uncertainty for f in frames if f.uncertainty is not None]
    return Frames(
        join([f.images for f in frames]),
        join([f.vectors for f in frames]),
        join([f.outcome for f in frames]),
        torch.stack(known, 1) if known else None,
    )
