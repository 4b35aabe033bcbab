"""Imagined rollouts: from a history and actions, or a policy, to the frames that would follow.

All state of a rollout is in its `RolloutState`; the model holds none, so rollouts may interleave.

Axes: B batch (one rollout a row), F history frames, T imagined frames, N tokens of a frame,
M values of a packed frame, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.model import noise
from scd_wm.model.cache import RingCache
from scd_wm.model.world_model import Frame, WorldModel
from scd_wm.spec import Spec


@dataclass(frozen=True)
class Frames:
    """Imagined frames in the units of the data; a single step has no axis T."""

    images: Mapping[str, Tensor]  # camera: (B, T, H, W, C) uint8, or float latents
    vectors: Mapping[str, Tensor]  # name: (B, T, D)
    outcome: Mapping[str, Tensor]  # (B, T): reward in its units, the others as probabilities

    @property
    def observation(self) -> dict[str, Tensor]:
        """Cameras and vectors by name: what a policy sees."""
        return {**self.images, **self.vectors}


Policy = Callable[[dict[str, Tensor]], Tensor]
"""Maps an observation, its entries with axis B in front, to actions in their units, (B, A)."""


@dataclass
class RolloutState:
    """Everything that a rollout carries from one frame to the next; `step` changes it."""

    cache: RingCache  # frames before the last one
    last: Tensor  # (B, M) the last frame, packed; its action is still to be chosen
    valid: Tensor  # (B, N) bool, which of its tokens hold data
    keys: Tensor  # (B,) int64 noise keys, one a row
    num_imagined: Tensor  # (B,) int64 frames imagined so far by each row

    def clone(self) -> RolloutState:
        """Return a copy that shares nothing that changes: a snapshot to come back to."""
        return RolloutState(self.cache.clone(), *(x.clone() for x in self._rows()))

    def fork(
        self, branches: int, horizon: int | None = None, *, common_noise: bool = False
    ) -> RolloutState:
        """Return a state in which each row goes on as `branches` rows, one after the other.

        Row i of the result is a branch of row i // branches. The frames so far are kept once for
        all branches of a row, so memory is that of one history and of what the branches add.

        Args:
            branches: Of each row, at least 1.
            horizon: Frames to make room for at first, such as a planner's horizon; None for a whole
                window. Branches may go further.
            common_noise: Give all branches of a row the noise that the row itself would have, so
                that only their actions differ; otherwise each branch has noise of its own.

        Raises:
            ValueError: If `branches` is below 1.
        """
        if branches < 1:
            raise ValueError(f"branches must be at least 1, got {branches}")
        last, valid, keys, count = (x.repeat_interleave(branches, 0) for x in self._rows())
        if not common_noise:
            own = torch.arange(branches, device=keys.device).repeat(len(self.last))
            keys = noise.derive(keys, own)
        return RolloutState(self.cache.fork(branches, horizon), last, valid, keys, count)

    def select(self, rows: Sequence[int] | Tensor) -> RolloutState:
        """Return a state of some rows, in the order asked for; rows may repeat.

        Raises:
            IndexError: If there is no such row.
        """
        index = _row_numbers(rows, len(self.last))
        return RolloutState(self.cache.select(index), *(x[index] for x in self._rows()))

    def replace_rows(self, rows: Sequence[int] | Tensor, other: RolloutState) -> RolloutState:
        """Return a state whose `rows` are those of `other`, such as a new beginning.

        The other rows go on as if nothing had happened.

        Raises:
            IndexError: If there is no such row.
            ValueError: If `other` has another number of rows.
        """
        index = _row_numbers(rows, len(self.last))
        if len(index) != len(other.last):
            raise ValueError(f"{len(index)} rows to replace, but other has {len(other.last)}")
        at = torch.tensor(index, device=self.last.device)
        pairs = zip(self._rows(), other._rows(), strict=True)
        tensors = (mine.index_copy(0, at, theirs) for mine, theirs in pairs)
        return RolloutState(self.cache.put(index, other.cache), *tensors)

    def _rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.last, self.valid, self.keys, self.num_imagined


def _row_numbers(rows: Sequence[int] | Tensor, batch: int) -> list[int]:
    """Return the row numbers as a list.

    Raises:
        IndexError: If one is outside the batch.
    """
    numbers = [int(row) for row in rows]
    for number in numbers:
        if not 0 <= number < batch:
            raise IndexError(f"no row {number}; the state has rows 0 to {batch - 1}")
    return numbers


def start_frame(spec: Spec, batch: int) -> Clip:
    """Return a history of no frames: the learned start token, for `batch` rollouts."""
    dtypes = {"pixels": torch.uint8, "latent": torch.float32}
    names = (*spec.observation_names, *spec.outcomes)
    return Clip(
        images={
            k: torch.zeros(batch, 1, c.height, c.width, c.channels, dtype=dtypes[c.kind])
            for k, c in spec.cameras.items()
        },
        vectors={k: torch.zeros(batch, 1, v.dim) for k, v in spec.vectors.items()},
        outcome={k: torch.zeros(batch, 1) for k in spec.outcomes},
        actions=torch.zeros(batch, 0, spec.action.dim),
        valid={k: torch.zeros(batch, 1, dtype=torch.bool) for k in names},
        action_valid=torch.zeros(batch, 0, dtype=torch.bool),
    )


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
    _check_history(model.spec, history)
    history = history.to(model.layout.delta_std.device)
    batch = history.action_valid.shape[0]
    packed = model.layout.pack(history)
    valid = model.layout.token_valid(history.valid)
    actions = model.layout.normalise_vector("action", history.actions)
    cache = model.empty_cache(batch)
    for t in range(history.num_frames - 1):
        frame = (packed[:, t], valid[:, t], actions[:, t], history.action_valid[:, t])
        model.read(Frame(*frame), cache)
    if seeds is None:
        seeds = torch.arange(batch)
    elif seeds.shape != (batch,):
        raise ValueError(f"seeds must be ({batch},), one a row, got {tuple(seeds.shape)}")
    keys = noise.derive(seeds.to(packed.device), 0)
    return RolloutState(cache, packed[:, -1], valid[:, -1], keys, torch.zeros_like(keys))


@torch.inference_mode()
def step(
    model: WorldModel,
    state: RolloutState,
    actions: Tensor,
    num_steps: int | None = None,
    solver: str | None = None,
) -> Frames:
    """Imagine one frame for every row and move `state` to it.

    Args:
        model: The world model.
        state: From `begin`; changed in place.
        actions: In the units of the data, (B, A). A row at the start frame ignores its action: none
            leads to the first frame of an episode.
        num_steps: Sampler steps; None takes the model's own.
        solver: "euler" or "heun"; None takes the model's own.

    Returns:
        The frame, without an axis T.

    Raises:
        ValueError: If `actions` has another shape, `num_steps` is below 1, or there is no such
            solver.
    """
    batch, action_dim = len(state.last), model.spec.action.dim
    if actions.shape != (batch, action_dim):
        raise ValueError(f"actions must be ({batch}, {action_dim}), got {tuple(actions.shape)}")
    normal_action = model.layout.normalise_vector("action", actions.to(state.last))
    frame = Frame(state.last, state.valid, normal_action, _has_action(state))
    num_steps = model.config.num_steps if num_steps is None else num_steps
    solver = model.config.solver if solver is None else solver
    eps = _noise(model, state) if model.needs_noise(num_steps) else torch.zeros_like(state.last)
    sample, logits = model.next_frame(frame, state.cache, eps, num_steps, solver)
    state.last, state.valid = sample, torch.ones_like(state.valid)
    state.num_imagined = state.num_imagined + 1
    return decode(model, sample, logits)


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
    _check_history(model.spec, seen)
    batch, action_dim = len(state.last), model.spec.action.dim
    if actions.shape != (batch, action_dim) or seen.action_valid.shape != (batch, 0):
        raise ValueError(
            f"actions must be ({batch}, {action_dim}) and what was seen {batch} single frames, got "
            f"{tuple(actions.shape)} and {tuple(seen.action_valid.shape[:1])} of {seen.num_frames}"
        )
    seen = seen.to(state.last.device)
    normal_action = model.layout.normalise_vector("action", actions.to(state.last))
    model.read(Frame(state.last, state.valid, normal_action, _has_action(state)), state.cache)
    state.last = model.layout.pack(seen)[:, 0]
    state.valid = model.layout.token_valid(seen.valid)[:, 0]


def observed(spec: Spec, observation: Mapping[str, Tensor]) -> Clip:
    """Return observations with axis B in front, as an environment gives them, as clips of 1 frame.

    Entries that the model does not know are left out.

    Raises:
        ValueError: If one is missing that the model reads, or it has another size.
    """
    missing = [name for name in spec.observation_names if name not in observation]
    if missing:
        raise ValueError(f"the observation lacks {missing}; it has {sorted(observation)}")
    batch = len(observation[spec.observation_names[0]])
    nothing = start_frame(spec, batch)
    frame = replace(
        nothing,
        images={k: observation[k][:, None] for k in spec.cameras},
        vectors={k: observation[k][:, None].float() for k in spec.vectors},
        valid={
            k: v.logical_not() if k not in spec.outcomes else v for k, v in nothing.valid.items()
        },
    )
    _check_history(spec, frame)
    return frame


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
) -> Iterator[Frames]:
    """Yield the frames that `actions`, (B, T, A), lead to, one at a time, at constant memory."""
    for t in range(actions.shape[1]):
        yield step(model, state, actions[:, t], num_steps, solver)


def rollout(
    model: WorldModel,
    history: Clip,
    actions: Tensor,
    *,
    seeds: Tensor | None = None,
    num_steps: int | None = None,
    solver: str | None = None,
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

    Returns:
        The T imagined frames.

    Raises:
        ValueError: If sizes do not fit.
    """
    if actions.ndim != 3 or actions.shape[1] < 1:
        raise ValueError(f"actions must be (B, T, A) with T >= 1, got {tuple(actions.shape)}")
    state = begin(model, history, seeds)
    return stack(list(imagine(model, state, actions, num_steps, solver)))


def rollout_policy(
    model: WorldModel,
    history: Clip,
    policy: Policy,
    horizon: int,
    *,
    seeds: Tensor | None = None,
    num_steps: int | None = None,
    solver: str | None = None,
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
        frames.append(step(model, state, actions[-1], num_steps, solver))
        observation = frames[-1].observation
    return stack(frames), torch.stack(actions, dim=1)


def stack(frames: Sequence[Frames]) -> Frames:
    """Join single steps along a new axis T."""

    def join(groups: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([group[name] for group in groups], 1) for name in groups[0]}

    return Frames(
        join([f.images for f in frames]),
        join([f.vectors for f in frames]),
        join([f.outcome for f in frames]),
    )


def _check_history(spec: Spec, history: Clip) -> None:
    """Raise if a batched `history` does not hold what `spec` names, at its sizes."""
    shapes = {k: tuple(v.shape[2:]) for k, v in {**history.images, **history.vectors}.items()}
    wanted: dict[str, tuple[int, ...]] = {k: (v.dim,) for k, v in spec.vectors.items()}
    wanted |= {k: (c.height, c.width, c.channels) for k, c in spec.cameras.items()}
    for name, shape in wanted.items():
        if name not in shapes:
            raise ValueError(f"history has no {name!r}; it has {sorted(shapes)}")
        if shapes[name] != shape:
            raise ValueError(f"{name!r} in history is {shapes[name]}, the model reads {shape}")
    if history.actions.shape[-1] != spec.action.dim:
        raise ValueError(
            f"actions in history have {history.actions.shape[-1]} values, "
            f"the model reads {spec.action.dim}"
        )
