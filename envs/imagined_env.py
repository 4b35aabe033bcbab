"""One imagined rollout as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from scd_wm.clip import Clip
from scd_wm.envs.imagined_common import Observation
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv, Snapshot, View

if TYPE_CHECKING:
    from scd_wm.model.world_model import WorldModel


class ImaginedEnv(gym.Env):
    """A world model as a `gymnasium.Env`: an `ImaginedVectorEnv` of one.

    Seeded with s it imagines what sub-environment 0 of a vector environment does that is seeded
    with s.

    Args:
        model: As in `ImaginedVectorEnv`, like all that follow.
        starts: Histories, a batched clip.
        max_steps: Of an episode.
        num_steps: Sampler steps of a frame.
        terminate_at: Probability of termination above which an episode ends.
        stop_at: Uncertainty above which an episode is truncated; None is never.
        action_space: None is -1 to 1.
        view: Decodes latents.
        render_mode: "rgb_array" or None.

    Raises:
        ValueError: As in `ImaginedVectorEnv`.
    """

    def __init__(
        self,
        model: WorldModel,
        starts: Clip,
        *,
        max_steps: int = 100,
        num_steps: int | None = None,
        terminate_at: float = 0.5,
        stop_at: float | None = None,
        action_space: Box | None = None,
        view: View | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.rows = ImaginedVectorEnv(
            model,
            starts,
            max_steps=max_steps,
            num_steps=num_steps,
            terminate_at=terminate_at,
            stop_at=stop_at,
            autoreset_mode=AutoresetMode.DISABLED,
            action_space=action_space,
            view=view,
            render_mode=render_mode,
        )
        self.observation_space = self.rows.single_observation_space
        self.action_space = self.rows.single_action_space
        self.metadata = {k: v for k, v in self.rows.metadata.items() if k != "autoreset_mode"}
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options["start"]` chooses after which history.

        Raises:
            ValueError: If there is no such start, or another option is given.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        if unknown := sorted({*options} - {"start"}):
            raise ValueError(f"unknown options {unknown}; there is start")
        observations, info = self.rows.reset(seed=seed, options=options)
        return _first(observations), _first_info(info)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Imagine a frame.

        Raises:
            gymnasium.error.ResetNeeded: If the episode is over.
            ValueError: If the action has another shape or is not finite.
        """
        action = np.asarray(action, dtype=np.float32)
        if action.shape != self.action_space.shape:
            raise ValueError(
                f"the action must be of shape {self.action_space.shape}, got {action.shape}"
            )
        observations, rewards, terminated, truncated, info = self.rows.step(action[None])
        outcome = float(rewards[0]), bool(terminated[0]), bool(truncated[0])
        return _first(observations), *outcome, _first_info(info)

    def snapshot(self) -> Snapshot:
        """Return a copy of all that changes."""
        return self.rows.snapshot()

    def restore(self, snapshot: Snapshot) -> Observation:
        """Go back to a snapshot, which may be used again; return its observation."""
        return _first(self.rows.restore(snapshot))

    def branch(self, branches: int, *, common_noise: bool = False) -> ImaginedVectorEnv:
        """Return a vector environment of futures from here; as `ImaginedVectorEnv.branch`."""
        return self.rows.branch(branches, common_noise=common_noise)

    def render(self) -> np.ndarray | None:
        """Return what all cameras show side by side, (H, W, 3) uint8."""
        images = self.rows.render()
        return None if images is None else images[0]


def _first(observations: Observation) -> Observation:
    return {name: values[0] for name, values in observations.items()}


def _first_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the info of the one sub-environment, without the masks, in Python's types."""
    return {k: v[0].item() for k, v in info.items() if not k.startswith("_")}
