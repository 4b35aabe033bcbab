"""Model predictive control: plan in imagination, act, look, and plan again.

Axes: B environments, N candidates, H actions of a plan, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from scd_wm import imagination
from scd_wm.imagination import Frames, RolloutState
from scd_wm.imagination.latents import Latents
from scd_wm.policies.goals import Goal, check_goal
from scd_wm.policies.planner import ActionLimits, Plan, Planner

if TYPE_CHECKING:
    from scd_wm.model.world_model import WorldModel


@dataclass(frozen=True, kw_only=True)
class MPCConfig:
    """How a plan is imagined and followed.

    Raises:
        ValueError: If a number is out of range.
    """

    action_repeat: int = 1  # frames that each action of a plan is held
    execute: int = 1  # actions of a plan that are taken before the next plan
    num_steps: int | None = None  # sampler steps of a frame; None takes the model's own
    discount: float = 1.0  # of the cost of a frame over that of the frame before
    final_weight: float = 1.0  # of the last frame's cost over that of the others
    pessimism: float = 0.0  # cost of a frame wholly off the model's data, in the goal's units
    trusted: float = 0.95  # uncertainty up to which a frame adds nothing to the cost
    stop_at: float = 1.0  # uncertainty above which a plan is not believed any more; 1 is never

    def __post_init__(self) -> None:
        for name in ("action_repeat", "execute"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not (0 < self.discount <= 1 and self.final_weight > 0):
            raise ValueError(
                "discount must be in (0, 1] and final_weight above 0, got "
                f"{self.discount} and {self.final_weight}"
            )
        if not (self.pessimism >= 0 and 0 <= self.trusted < 1 and 0 < self.stop_at <= 1):
            raise ValueError(
                "pessimism must be 0 or more, trusted in [0, 1) and stop_at in (0, 1], got "
                f"{self.pessimism}, {self.trusted} and {self.stop_at}"
            )

    @property
    def needs_uncertainty(self) -> bool:
        """Whether costs depend on how familiar the model is with what it imagines."""
        return self.pessimism > 0 or self.stop_at < 1


Choose = Callable[[int, Mapping[str, Tensor]], Tensor]
"""Maps the number of an action in a plan and what is seen before it, (B N, ...) by name, to the
action of every candidate, (B N, A)."""


@dataclass(frozen=True)
class ImaginedCosts:
    """Costs plans by imagining them: the sum of a goal's costs over the imagined frames.

    Pessimism adds to a frame's cost in proportion to its uncertainty above `trusted`. It is
    bounded, since beyond the data there is nothing to say how much worse farther off is. A plan
    that is not believed any more is costed for each frame from there on as the worst frame that was
    believed of any plan of its environment: it gains nothing by what a dream off the data promises.
    """

    model: WorldModel
    state: RolloutState  # of B rows; not changed
    goal: Goal
    config: MPCConfig
    latents: Latents | None = None  # of a world of latents

    def __call__(self, plans: Tensor) -> Tensor:
        """Return the costs of plans, (B, N, H, A), as (B, N).

        All candidates of an environment share their noise, so that only their actions differ.
        """
        _, count, horizon, _ = plans.shape
        rows = rearrange(plans, "b n h a -> (b n) h a")
        return self.follow(lambda h, _: rows[:, h], count, horizon)[1]

    def follow(self, choose: Choose, count: int, horizon: int) -> tuple[Tensor, Tensor]:
        """Imagine plans that are made on the way, and cost them.

        Args:
            choose: Returns the actions of all candidates, see `Choose`; `shown` is how it looks at
                images.
            count: Candidates N of each environment.
            horizon: Actions H of a plan.

        Returns:
            The plans, (B, N, H, A), and their costs, (B, N).
        """
        repeat = self.config.action_repeat
        state = self.state.fork(count, horizon * repeat, common_noise=True)
        layout = self.model.layout
        seen = {**layout.unpack_images(state.last), **layout.unpack_vectors(state.last)}
        frames: list[_Costed] = []
        plan: list[Tensor] = []
        for h in range(horizon):
            plan.append(choose(h, seen))
            for _ in range(repeat):
                frame = imagination.step(self.model, state, plan[-1], self.config.num_steps)
                frames.append(self._cost(frame))
            seen = frame.observation
        plans = rearrange(torch.stack(plan, 1), "(b n) h a -> b n h a", n=count)
        return plans, self._total(frames, count)

    def shown(self, seen: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return what is seen with images as pixels."""
        return seen if self.latents is None else self.latents.decode(seen)

    def _cost(self, frame: Frames) -> _Costed:
        cost = self.goal(frame)
        if not self.config.needs_uncertainty:
            return _Costed(cost, torch.ones_like(cost, dtype=torch.bool))
        assert frame.uncertainty is not None  # MPC has asked for it
        cost = cost + self.config.pessimism * excess(frame.uncertainty, self.config.trusted)
        return _Costed(cost, frame.uncertainty <= self.config.stop_at)

    def _total(self, frames: Sequence[_Costed], count: int) -> Tensor:
        """Return the costs of plans, (B, N), from those of their frames."""
        each = rearrange(torch.stack([f.cost for f in frames], 1), "(b n) t -> b n t", n=count)
        if self.config.stop_at < 1:
            fits = torch.stack([f.fits for f in frames], 1).cummin(1).values
            each = worst_where_not(each, rearrange(fits, "(b n) t -> b n t", n=count))
        weights = each.new_tensor([self.config.discount**t for t in range(len(frames))])
        weights[-1] *= self.config.final_weight
        return (each * weights).sum(-1)


@dataclass(frozen=True)
class _Costed:
    """A frame of all candidates."""

    cost: Tensor  # (B N,)
    fits: Tensor  # (B N,) bool: it is not too far off the data


def excess(uncertainty: Tensor, trusted: float) -> Tensor:
    """Return how far uncertainty is above the trusted one: 0 up to it, 1 at an uncertainty of 1."""
    return (uncertainty - trusted).clamp(min=0) / (1 - trusted)


def worst_where_not(costs: Tensor, believed: Tensor) -> Tensor:
    """Return costs, (B, N, T), those not believed replaced by the worst believed one of a row B.

    Where none is believed the worst of all is taken, and all plans of that row are alike.
    """
    least = costs.amin((1, 2), keepdim=True)
    worst = torch.where(believed, costs, least).amax((1, 2), keepdim=True)
    none = ~believed.any(2, keepdim=True).any(1, keepdim=True)
    worst = torch.where(none, costs.amax((1, 2), keepdim=True), worst)
    return torch.where(believed, costs, worst)


class MPC:
    """A policy that plans in a world model, for B environments at once.

    It sees what the model's spec names and nothing else.

    Args:
        model: The world model; put into evaluation mode.
        goal: What to reach.
        planner: Searches for plans.
        limits: Of actions.
        config: How.
        latents: Of a world of latents, whose environments show pixels.

    Raises:
        ValueError: If the model cannot tell the goal, has actions of another size or latents that
            nothing encodes, or does not know its data where uncertainty is to count.
    """

    def __init__(
        self,
        model: WorldModel,
        goal: Goal,
        planner: Planner,
        limits: ActionLimits,
        config: MPCConfig | None = None,
        latents: Latents | None = None,
    ) -> None:
        check_goal(goal, model.spec)
        if model.spec.has_latents and latents is None:
            raise ValueError("the model reads latents: give those that encode what is seen")
        if limits.low.shape != (model.spec.action.dim,):
            raise ValueError(
                f"limits are of {len(limits.low)} values, the model's actions have "
                f"{model.spec.action.dim}"
            )
        self.model, self.goal, self.planner, self.limits = model.eval(), goal, planner, limits
        self.config = MPCConfig() if config is None else config
        self.latents = latents
        if self.config.execute > planner.horizon:
            raise ValueError(
                f"execute={self.config.execute} actions of a plan, but a plan has {planner.horizon}"
            )
        if self.config.needs_uncertainty:
            imagination.check_calibrated(model, "pessimism")
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin episodes: forget what was seen and planned."""
        self.random = torch.Generator(self.limits.low.device).manual_seed(seed)
        self.seed = seed
        self.last_plan: Plan | None = None
        self._state: RolloutState | None = None
        self._queue: list[Tensor] = []  # actions to take, (B, A) each
        self._taken = self.limits.low.new_zeros(0)

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Return actions, (B, A) float32, for observations with axis B in front.

        Raises:
            ValueError: If an entry is missing that the model reads, or it has another size.
        """
        self._look({name: torch.as_tensor(value) for name, value in observation.items()})
        if not self._queue:
            self._queue = self._plan()
        self._taken = self._queue.pop(0)
        return self._taken.float().cpu().numpy()

    @property
    def observation_shapes(self) -> dict[str, tuple[int, ...]]:
        """What it reads of one environment, by name; see `policies.batched.check_policy`."""
        spec = self.model.spec.pixels
        cameras = {k: (c.height, c.width, c.channels) for k, c in spec.cameras.items()}
        return {**cameras, **{k: (v.dim,) for k, v in spec.vectors.items()}}

    @property
    def action_dim(self) -> int:
        """Values of its actions."""
        return self.model.spec.action.dim

    @property
    def made_plan(self) -> bool:
        """Whether the last action is the first of a new plan."""
        return len(self._queue) == self.config.execute * self.config.action_repeat - 1

    @property
    def evaluations_a_decision(self) -> float:
        """Runs of the denoiser for each action taken of one environment, by the last plan.

        Raises:
            RuntimeError: If there is none.
        """
        if self.last_plan is None:
            raise RuntimeError("nothing was planned yet")
        steps = self.config.num_steps or self.model.config.num_steps
        frames = self.planner.horizon * self.config.action_repeat
        decisions = self.config.execute * self.config.action_repeat
        return self.last_plan.num_costed * frames * steps / decisions

    def foresee(self) -> Frames:
        """Imagine the last plan from what was seen last, all of it: (B, T) frames.

        Raises:
            RuntimeError: If the last call of `act` made no plan.
        """
        if self.last_plan is None or self._state is None or not self.made_plan:
            raise RuntimeError("call foresee right after an act that made a plan")
        actions = self.last_plan.actions.repeat_interleave(self.config.action_repeat, dim=1)
        state = self._state.clone()
        seen = imagination.imagine(self.model, state, actions, self.config.num_steps)
        frames = imagination.stack(list(seen))
        return frames if self.latents is None else self.latents.seen(frames)

    def last_image(self, camera: str) -> np.ndarray:
        """Return what a camera of the first environment showed last, (H, W, 3) uint8."""
        assert self._state is not None
        images: Mapping[str, Tensor] = self.model.layout.unpack_images(self._state.last)
        if self.latents is not None:
            images = self.latents.decode(images)
        return images[camera][0].cpu().numpy()

    def _look(self, observation: Mapping[str, Tensor]) -> None:
        """Bring the state to what is seen now."""
        seen = imagination.observed(self.model.spec.pixels, observation)
        if self.latents is not None:
            seen = replace(seen, images=self.latents.encode(seen.images))
        if self._state is None:
            batch = len(seen.action_valid)
            seeds = torch.arange(batch) + self.seed
            self._state = imagination.begin(self.model, seen, seeds)
        else:
            imagination.observe(self.model, self._state, self._taken, seen)

    def _plan(self) -> list[Tensor]:
        """Plan, and return the actions to take before the next plan, held as long as they are."""
        assert self._state is not None
        start = None if self.last_plan is None else self.last_plan.shifted(self.config.execute)
        costs = ImaginedCosts(self.model, self._state, self.goal, self.config, self.latents)
        batch = len(self._state.last)
        with torch.inference_mode():
            plan = self.planner.plan(costs, self.limits, batch, self.random, start)
        self.last_plan = plan
        taken = plan.actions[:, : self.config.execute].unbind(1)
        return [action for action in taken for _ in range(self.config.action_repeat)]
