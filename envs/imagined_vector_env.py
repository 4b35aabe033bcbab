"""Many imagined rollouts as one Gymnasium vector environment: one batched forward a step.

Axes: B sub-environments, N starts, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from scd_wm import imagination
from scd_wm.clip import Clip
from scd_wm.envs.imagined_common import (
    Observation,
    check_rendering,
    checked_mask,
    chosen_starts,
    observation_space,
    row_seeds,
    side_by_side,
    success_info,
    to_numpy,
    uncertainty_info,
    usual_actions,
)
from scd_wm.imagination import Frames, RolloutState
from scd_wm.spec import DEFAULT_FPS

if TYPE_CHECKING:
    from scd_wm.model.world_model import WorldModel

View = Callable[[Frames], Frames]
"""Turns the frames of a step, (B,), into what is seen: decodes latents."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that `restore` needs to go on from here."""

    state: RolloutState
    observation: Observation
    num_steps: np.ndarray  # (B,) of the episode
    is_over: np.ndarray  # (B,) bool
    randoms: tuple[np.random.Generator, ...]


class ImaginedVectorEnv(VectorEnv):
    """A world model as a `gymnasium.vector.VectorEnv`.

    Observations have the keys of the data: cameras (H, W, 3) uint8 and vectors float32. The reward
    is the predicted one, or 0 where the model predicts none; an episode terminates where that is
    predicted with a probability above `terminate_at`, and is truncated after `max_steps`. `info`
    has "success" and "success_probability" where the model predicts success, and "uncertainty"
    where it knows its data (`scd-wm calibrate`): from 0 to 1, the share of real frames that are
    more like the data than what this frame was imagined from.

    Sub-environment i, seeded with s, imagines what any other would that is seeded with s and gets
    the same actions, however many there are beside it.

    Args:
        model: The world model; put into evaluation mode.
        starts: Histories, a batched clip (N, F); each episode starts after one of them.
        num_envs: Sub-environments B.
        max_steps: Of an episode.
        num_steps: Sampler steps of a frame; None takes the model's own.
        terminate_at: Probability of termination above which an episode ends; 1 never ends one.
        stop_at: Uncertainty above which an episode is truncated, and `info` has "off_data"; None
            never truncates one for that.
        autoreset_mode: When a sub-environment whose episode is over starts anew.
        action_space: Of one sub-environment; None is -1 to 1.
        view: For a world of latents, decodes them; the spaces are then those of pixels.
        render_mode: "rgb_array", all cameras side by side, or None.

    Raises:
        ValueError: If a number is below 1, starts do not fit the model, the data's actions are not
            within -1 to 1 and no space is given, there is nothing to render, or `stop_at` is given
            and the model does not know its data.
    """

    def __init__(
        self,
        model: WorldModel,
        starts: Clip,
        num_envs: int = 1,
        *,
        max_steps: int = 100,
        num_steps: int | None = None,
        terminate_at: float = 0.5,
        stop_at: float | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        action_space: Box | None = None,
        view: View | None = None,
        render_mode: str | None = None,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("max_steps", max_steps)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if model.spec.has_latents and view is None:
            raise ValueError("the model imagines latents: give a view that decodes them")
        check_rendering(render_mode, model.spec)
        if stop_at is not None and not 0 <= stop_at <= 1:
            raise ValueError(f"stop_at must be in [0, 1], got {stop_at}")
        if stop_at is not None:
            imagination.check_calibrated(model, "stop_at")
        self.model, self.starts, self.num_envs = model.eval(), starts, num_envs
        self.max_steps, self.num_steps, self.view = max_steps, num_steps, view
        self.terminate_at, self.stop_at = terminate_at, stop_at
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.render_mode = render_mode
        self.metadata = {
            "render_modes": ["rgb_array"] if model.spec.cameras else [],
            "render_fps": model.spec.fps or DEFAULT_FPS,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = observation_space(model.spec.pixels)
        self.single_action_space = self._actions = action_space or usual_actions(model.spec)
        if self.single_action_space.shape != (model.spec.action.dim,):
            raise ValueError(
                f"action_space has shape {self.single_action_space.shape}, the model's actions "
                f"have {model.spec.action.dim} values"
            )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._randoms = [seeding.np_random(None)[0] for _ in range(num_envs)]
        self._state: RolloutState | None = None
        self._observation: Observation = {}
        self._num_steps = np.zeros(num_envs, dtype=np.int64)
        self._is_over = np.zeros(num_envs, dtype=bool)

    @property
    def num_starts(self) -> int:
        """Histories N that an episode may start after."""
        return len(self.starts.action_valid)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: One for each sub-environment; a number s counts s, s + 1, ...; None goes on with
                the random state there is.
            options: "start" is the number of the start of all, or one for each; left out, it is
                drawn. "reset_mask" (B,) bool says which are reset; left out, all are.

        Returns:
            Observations and info, which names the "start" of each.

        Raises:
            ValueError: If there is no such start, or sizes do not fit.
        """
        options = dict(options or {})
        mask = checked_mask(options.pop("reset_mask", None), self.num_envs)
        starts = options.pop("start", None)
        if options:
            raise ValueError(f"unknown options {sorted(options)}; there are start and reset_mask")
        if self._state is None and not mask.all():
            raise ValueError("reset_mask leaves out sub-environments that were never reset")
        rows = np.flatnonzero(mask)
        for row, own in enumerate(row_seeds(seed, self.num_envs)):
            if own is not None and mask[row]:
                self._randoms[row] = seeding.np_random(own)[0]
        chosen = self._reset_rows(rows, starts)
        info = {"start": np.zeros(self.num_envs, dtype=np.int64), "_start": mask}
        info["start"][rows] = chosen
        return deepcopy(self._observation), info

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Imagine a frame for every sub-environment.

        Args:
            actions: (B, A), in the units of the data.

        Raises:
            gymnasium.error.ResetNeeded: If none was reset, or with autoreset disabled one is over.
            ValueError: If `actions` has another shape or is not finite.
        """
        state = self._checked_state()
        actions = np.asarray(actions, dtype=np.float32)
        if actions.shape != self.action_space.shape or not np.isfinite(actions).all():
            raise ValueError(
                f"actions must be finite and of shape {self.action_space.shape}, got "
                f"{actions.shape}"
            )
        again = self._is_over.copy()  # those that start anew in place of a step
        frames = imagination.step(self.model, state, torch.from_numpy(actions), self.num_steps)
        self._observation = to_numpy(frames if self.view is None else self.view(frames))
        self._num_steps += 1
        outcome = {k: v.float().cpu().numpy() for k, v in frames.outcome.items()}
        nothing = np.zeros(self.num_envs, dtype=np.float32)
        rewards = np.where(again, 0.0, outcome.get("reward", nothing)).astype(np.float64)
        terminated = (outcome.get("terminated", nothing) > self.terminate_at) & ~again
        known = None if frames.uncertainty is None else frames.uncertainty.cpu().numpy()
        info = success_info(outcome, ~again) | uncertainty_info(known, ~again, self.stop_at)
        is_last = (self._num_steps >= self.max_steps) | info.get("off_data", False)
        truncated = is_last & ~again
        if again.any():
            self._reset_rows(np.flatnonzero(again), None)
        self._is_over = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._is_over.any():
            info = self._restart_now(info)
        return deepcopy(self._observation), rewards, terminated, truncated, info

    def snapshot(self) -> Snapshot:
        """Return a copy of all that changes, to come back to."""
        state = self._checked_state(for_step=False)
        return Snapshot(
            state.clone(),
            deepcopy(self._observation),
            self._num_steps.copy(),
            self._is_over.copy(),
            tuple(deepcopy(self._randoms)),
        )

    def restore(self, snapshot: Snapshot) -> Observation:
        """Go back to a snapshot, which may be used again; return its observations.

        Raises:
            ValueError: If it has another number of sub-environments.
        """
        if len(snapshot.num_steps) != self.num_envs:
            raise ValueError(
                f"the snapshot has {len(snapshot.num_steps)} sub-environments, this has "
                f"{self.num_envs}"
            )
        self._state = snapshot.state.clone()
        self._observation = deepcopy(snapshot.observation)
        self._num_steps, self._is_over = snapshot.num_steps.copy(), snapshot.is_over.copy()
        self._randoms = list(deepcopy(snapshot.randoms))
        return deepcopy(self._observation)

    def branch(self, branches: int, *, common_noise: bool = False) -> ImaginedVectorEnv:
        """Return an environment in which every sub-environment goes on as several.

        Sub-environment i of it is a branch of i // branches. What was seen so far is kept once.

        Args:
            branches: Of each, at least 1.
            common_noise: Give all branches of one the noise that it would have had itself.

        Raises:
            ValueError: If `branches` is below 1.
        """
        state = self._checked_state(for_step=False).fork(branches, common_noise=common_noise)
        env = ImaginedVectorEnv(
            self.model,
            self.starts,
            self.num_envs * branches,
            max_steps=self.max_steps,
            num_steps=self.num_steps,
            terminate_at=self.terminate_at,
            stop_at=self.stop_at,
            autoreset_mode=self.autoreset_mode,
            action_space=self._actions,
            view=self.view,
            render_mode=self.render_mode,
        )
        env._state = state
        env._observation = {k: np.repeat(v, branches, 0) for k, v in self._observation.items()}
        env._num_steps = np.repeat(self._num_steps, branches)
        env._is_over = np.repeat(self._is_over, branches)
        if common_noise:
            env._randoms = [deepcopy(r) for r in self._randoms for _ in range(branches)]
        else:
            env._randoms = [r for own in self._randoms for r in deepcopy(own).spawn(branches)]
        return env

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return what each sub-environment's cameras show side by side, (H, W, 3) uint8."""
        if self.render_mode is None:
            return None
        self._checked_state(for_step=False)
        cameras = [self._observation[name] for name in self.model.spec.cameras]
        return tuple(side_by_side([c[row] for c in cameras]) for row in range(self.num_envs))

    def _reset_rows(self, rows: np.ndarray, starts: object) -> np.ndarray:
        """Start episodes of some sub-environments and return the numbers of their starts."""
        chosen = chosen_starts(starts, rows, self.num_envs, self.num_starts, self._randoms)
        seeds = torch.tensor([int(self._randoms[row].integers(2**31)) for row in rows])
        index = torch.from_numpy(chosen)
        history = self.starts.map(lambda values: values[index])
        state = imagination.begin(self.model, history, seeds)
        observation = self._first_observation(history)
        if len(rows) == self.num_envs:
            self._state, self._observation = state, observation
        else:
            assert self._state is not None
            self._state = self._state.replace_rows(rows.tolist(), state)
            for name, values in observation.items():
                self._observation[name][rows] = values
        self._num_steps[rows], self._is_over[rows] = 0, False
        return chosen

    def _first_observation(self, history: Clip) -> Observation:
        """Return what the last frames of histories show."""
        spec = self.model.spec
        frames = Frames(
            {k: history.images[k][:, -1] for k in spec.cameras},
            {k: history.vectors[k][:, -1] for k in spec.vectors},
            {},
        )
        return to_numpy(frames if self.view is None else self.view(frames))

    def _restart_now(self, info: dict[str, Any]) -> dict[str, Any]:
        """Start those anew whose episode is over, keeping what was last seen in `info`."""
        rows = np.flatnonzero(self._is_over)
        for row in rows:
            last = {k: v[row].copy() for k, v in self._observation.items()}
            own = {k: v[row] for k, v in info.items() if not k.startswith(("_", "final_"))}
            info = self._add_info(info, {"final_obs": last, "final_info": own}, int(row))
        self._reset_rows(rows, None)
        return info

    def _checked_state(self, for_step: bool = True) -> RolloutState:
        if self._state is None:
            raise gym.error.ResetNeeded("call reset first")
        disabled = self.autoreset_mode == AutoresetMode.DISABLED
        if for_step and disabled and self._is_over.any():
            over = np.flatnonzero(self._is_over).tolist()
            raise gym.error.ResetNeeded(f"episodes {over} are over; reset them with reset_mask")
        return self._state
