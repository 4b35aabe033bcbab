"""The one data type that data sets produce and the world model consumes.

Axes: B batch, T frames, H height, W width, C channels, D values of a vector, A values of an action.

Alignment, stated here and nowhere else: `actions[t]` was taken after `frame[t]` and led to
`frame[t + 1]`. `outcome[name][t]` came with frame t, so it belongs to action t - 1; frame 0 of an
episode has none. A clip of T frames therefore has T - 1 actions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Consecutive frames and the actions between them; batched clips have an axis B in front.

    Where `valid` is False the value is arbitrary (readers write zeros) and must not be used. A
    frame whose entries are all invalid and which comes first is the *start frame*: there is no
    history yet.

    Raises:
        ValueError: If tensors do not agree on batch and frames, or an entry has no validity.
    """

    images: Mapping[str, Tensor]  # camera: (T, H, W, C) uint8 0 to 255, or float latents
    vectors: Mapping[str, Tensor]  # name: (T, D) float32 in the units of the data
    outcome: Mapping[str, Tensor]  # reward, terminated (0/1), success (0/1): (T,) float32
    actions: Tensor  # (T - 1, A) float32 in the units of the data
    valid: Mapping[str, Tensor]  # one (T,) bool for every key of images, vectors and outcome
    action_valid: Tensor  # (T - 1,) bool; False only after a start frame
    episode: str = ""  # which episode and frames these are, for messages; "" in a batch
    episodes: tuple[str, ...] = ()  # the same for every row of a batch

    def __post_init__(self) -> None:
        if self.actions.shape[:-1] != self.action_valid.shape:
            raise ValueError(
                f"actions are {tuple(self.actions.shape)}, so action_valid must be "
                f"{tuple(self.actions.shape[:-1])}, got {tuple(self.action_valid.shape)}"
            )
        entries = {**self.images, **self.vectors, **self.outcome}
        missing = sorted(entries.keys() - self.valid.keys())
        if missing:
            raise ValueError(f"valid lacks {missing}; it has {sorted(self.valid)}")
        wanted = (*self.action_valid.shape[:-1], self.num_frames)
        for name, values in [*entries.items(), *self.valid.items()]:
            got = tuple(values.shape[: len(wanted)])
            if got != wanted:
                raise ValueError(
                    f"{name!r} has leading axes {got}, but with {self.num_frames - 1} actions they "
                    f"must be {wanted}: a clip of T frames has the T - 1 actions between them"
                )

    @property
    def num_frames(self) -> int:
        """Frames T."""
        return self.action_valid.shape[-1] + 1

    def map(self, function: Callable[[Tensor], Tensor]) -> Clip:
        """Return a clip whose tensors are `function(tensor)`."""
        return Clip(
            images={k: function(v) for k, v in self.images.items()},
            vectors={k: function(v) for k, v in self.vectors.items()},
            outcome={k: function(v) for k, v in self.outcome.items()},
            actions=function(self.actions),
            valid={k: function(v) for k, v in self.valid.items()},
            action_valid=function(self.action_valid),
            episode=self.episode,
            episodes=self.episodes,
        )

    def to(self, device: torch.device | str) -> Clip:
        """Return the clip with every tensor on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def frames(self, start: int, stop: int) -> Clip:
        """Return frames `start` to `stop - 1` of a *batched* clip, and the actions between them.

        Raises:
            ValueError: If the clip is not batched or does not have these frames.
        """
        if self.action_valid.ndim != 2:
            raise ValueError("frames are cut from batched clips only; collate the clip first")
        if not 0 <= start < stop <= self.num_frames:
            raise ValueError(f"no frames {start} to {stop - 1} in a clip of {self.num_frames}")

        def per_frame(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: value[:, start:stop] for name, value in values.items()}

        return Clip(
            images=per_frame(self.images),
            vectors=per_frame(self.vectors),
            outcome=per_frame(self.outcome),
            actions=self.actions[:, start : stop - 1],
            valid=per_frame(self.valid),
            action_valid=self.action_valid[:, start : stop - 1],
            episodes=self.episodes,
        )


def collate(clips: Sequence[Clip]) -> Clip:
    """Stack clips of equal length into a batch: every tensor gets an axis B in front."""

    def stack(groups: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([group[name] for group in groups]) for name in groups[0]}

    return Clip(
        images=stack([c.images for c in clips]),
        vectors=stack([c.vectors for c in clips]),
        outcome=stack([c.outcome for c in clips]),
        actions=torch.stack([c.actions for c in clips]),
        valid=stack([c.valid for c in clips]),
        action_valid=torch.stack([c.action_valid for c in clips]),
        episodes=tuple(c.episode for c in clips),
    )
