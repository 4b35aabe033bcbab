"""What to reach, as a cost of imagined frames.

A goal is any function of the frames of one step. To make one: write such a function; those here
are the usual ones, and their sums.

Axes: B rows, H height, W width, C channels, D values of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.imagination import Frames, features, start_frame
from scd_wm.imagination.latents import Latents
from scd_wm.spec import Spec

if TYPE_CHECKING:
    from scd_wm.model.world_model import WorldModel

Goal = Callable[[Frames], Tensor]
"""Maps the frames of one step, without an axis T, to their costs, (B,); lower is better."""

WHITE = 255.0


@dataclass(frozen=True, eq=False)
class ImageGoal:
    """Mean squared difference of a camera's pixels from a picture, in [0, 1].

    Args:
        camera: Whose picture.
        image: The goal, (H, W, 3) uint8.
        mask: Where it counts, (H, W) bool; None is everywhere.
    """

    camera: str
    image: Tensor
    mask: Tensor | None = None

    def check(self, spec: Spec) -> None:
        """Raise ValueError unless a model of this spec shows such pictures."""
        if self.camera not in spec.cameras:
            raise ValueError(f"no camera {self.camera!r}; the model has {sorted(spec.cameras)}")
        camera = spec.cameras[self.camera]
        wanted = (camera.height, camera.width, camera.channels)
        if camera.kind != "pixels" or tuple(self.image.shape) != wanted:
            raise ValueError(
                f"a goal image of {self.camera!r} must be {wanted} pixels, got "
                f"{tuple(self.image.shape)}"
            )
        if self.mask is not None and (
            tuple(self.mask.shape) != wanted[:2] or not bool(self.mask.any())
        ):
            raise ValueError(f"a mask must be {wanted[:2]} and cover something")

    def __call__(self, frames: Frames) -> Tensor:
        """Return the cost of frames, (B,)."""
        seen = frames.images[self.camera]
        apart = (seen.float() - self.image.to(seen.device).float()) / WHITE
        per_pixel = apart.square().mean(-1)  # (B, H, W)
        if self.mask is None:
            return per_pixel.mean((1, 2))
        return per_pixel[:, self.mask.to(seen.device)].mean(1)


@dataclass(frozen=True, eq=False)
class VectorGoal:
    """Euclidean distance of a vector, or of some of its values, from a goal.

    Args:
        name: Which vector.
        target: The goal, (K,).
        values: Positions of the K values in the vector; None is all.
    """

    name: str
    target: Tensor
    values: tuple[int, ...] | None = None

    def check(self, spec: Spec) -> None:
        """Raise ValueError unless a model of this spec has such a vector."""
        if self.name not in spec.vectors:
            raise ValueError(f"no vector {self.name!r}; the model has {sorted(spec.vectors)}")
        dim = spec.vectors[self.name].dim
        chosen = tuple(range(dim)) if self.values is None else self.values
        if tuple(self.target.shape) != (len(chosen),) or not {*chosen} <= {*range(dim)}:
            raise ValueError(
                f"a goal of {self.name!r} names values 0 to {dim - 1} and gives each a number, got "
                f"{tuple(self.target.shape)} numbers for {list(chosen)}"
            )

    def __call__(self, frames: Frames) -> Tensor:
        """Return the cost of frames, (B,)."""
        seen = frames.vectors[self.name]
        seen = seen if self.values is None else seen[:, list(self.values)]
        return (seen - self.target.to(seen)).norm(dim=-1)


@dataclass(frozen=True, eq=False)
class FeatureGoal:
    """Distance of what the model makes of a frame from what it makes of a goal, root mean square.

    Both are read alone, without history and under the mean action, so that only what is seen
    counts. It costs the reading of one more frame for every one imagined.

    Args:
        model: The world model that plans.
        observation: The goal: cameras (H, W, C) and vectors (D,) by name, all or some. What it
            lacks is hidden from the model in imagined frames too.
    """

    model: WorldModel
    observation: Mapping[str, Tensor]

    def check(self, spec: Spec) -> None:
        """Raise ValueError unless the goal is what a model of this spec can see."""
        sizes: dict[str, tuple[int, ...]] = {k: (v.dim,) for k, v in spec.vectors.items()}
        sizes |= {k: (c.height, c.width, c.channels) for k, c in spec.cameras.items()}
        if not self.observation:
            raise ValueError(f"a goal of features needs some of {sorted(sizes)}, got nothing")
        for name, value in self.observation.items():
            if sizes.get(name) != tuple(value.shape):
                raise ValueError(
                    f"{name!r} in a goal of features is {tuple(value.shape)}; "
                    f"the model reads {sizes}"
                )

    def __call__(self, frames: Frames) -> Tensor:
        """Return the cost of frames, (B,)."""
        found = features(self.model, self._visible(frames.observation))
        shown = self._visible({k: v[None] for k, v in self.observation.items()})
        apart = found - features(self.model, shown)  # (B, N, D)
        known = self.model.layout.token_valid(shown.valid)[0, 0].to(apart.device)  # (N,)
        return apart[:, known].square().mean((1, 2)).sqrt()

    def _visible(self, observation: Mapping[str, Tensor]) -> Clip:
        """Return observations, with axis B in front, as clips of 1 frame with only the goal's."""
        batch = len(next(iter(observation.values())))
        nothing = start_frame(self.model.spec, batch)
        return replace(
            nothing,
            images={
                k: observation[k][:, None] if self._has(k) else v for k, v in nothing.images.items()
            },
            vectors={
                k: observation[k][:, None] if self._has(k) else v
                for k, v in nothing.vectors.items()
            },
            valid={k: torch.full_like(v, self._has(k)) for k, v in nothing.valid.items()},
        )

    def _has(self, name: str) -> bool:
        return name in self.observation


@dataclass(frozen=True)
class OutcomeGoal:
    """What the model predicts of an outcome: minus the reward, or 1 minus a probability."""

    name: str = "success"

    def check(self, spec: Spec) -> None:
        """Raise ValueError unless a model of this spec predicts it."""
        if self.name not in spec.outcomes:
            raise ValueError(
                f"the model does not predict {self.name!r}; it predicts {list(spec.outcomes)}"
            )

    def __call__(self, frames: Frames) -> Tensor:
        """Return the cost of frames, (B,)."""
        value = frames.outcome[self.name]
        return -value if self.name == "reward" else 1 - value


@dataclass(frozen=True, eq=False)
class SumOfGoals:
    """A weighted sum."""

    goals: Sequence[Goal]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.goals) != len(self.weights) or not self.goals:
            raise ValueError(
                f"a sum needs a weight for each goal, got {len(self.goals)} goals and "
                f"{len(self.weights)} weights"
            )

    def check(self, spec: Spec) -> None:
        """Raise ValueError unless a model of this spec can tell all of them."""
        for goal in self.goals:
            check_goal(goal, spec)

    def __call__(self, frames: Frames) -> Tensor:
        """Return the cost of frames, (B,)."""
        pairs = zip(self.goals, self.weights, strict=True)
        return torch.stack([weight * goal(frames) for goal, weight in pairs]).sum(0)


@dataclass(frozen=True, eq=False)
class OnPixels:
    """A goal that is shown imagined frames decoded, which costs a decoding for each.

    Args:
        goal: Reads images, (B, H, W, 3) uint8.
        latents: Of the world.
    """

    goal: Goal
    latents: Latents

    def check(self, spec: Spec) -> None:
        """Raise ValueError where the goal knows that pixels of this world cannot tell it."""
        check_goal(self.goal, spec.pixels)

    def __call__(self, frames: Frames) -> Tensor:
        """Return the cost of frames, (B,)."""
        return self.goal(self.latents.seen(frames))


def check_goal(goal: Goal, spec: Spec) -> None:
    """Raise ValueError where a goal knows that a model of this spec cannot tell it."""
    check = getattr(goal, "check", None)
    if check is not None:
        check(spec)
