"""Gymnasium environments, imagined ones too, as robomimic's `EnvBase`.

`robomimic.utils.train_utils.run_rollout` and `rollout_with_stats` run on them unchanged. Importing
this module imports robomimic.

Axes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from PIL import Image

from scd_wm.envs.imagined_common import side_by_side
from scd_wm.envs.imagined_env import ImaginedEnv
from scd_wm.envs.info import is_success
from scd_wm.envs.names import flat_name
from scd_wm.robomimic_setup import load_robomimic

load_robomimic("robomimic.envs.env_base")
from robomimic.envs.env_base import EnvBase, EnvType  # noqa: E402  (after what it needs)

IMAGINED = "scd_wm/Imagined-v0"


class RobomimicEnv(EnvBase):  # type: ignore[misc]  # robomimic has no types
    """An environment of Gymnasium with a Dict of cameras and vectors, as robomimic wants it.

    A start of an imagined environment is chosen by `reset_to({"start": number})`; `get_state` of it
    is a snapshot. A simulator with a `state` is put into one by `reset_to({"states": state})`.

    Args:
        env_name: Gymnasium id: "scd_wm/Imagined-v0", a simulator, or "module:Name-v0".
        render: Must be off: nothing is shown on a screen.
        render_offscreen: Whether pictures can be had where no camera is observed.
        use_image_obs: Whether cameras are observed.
        postprocess_visual_obs: Images are (C, H, W) float32 from 0 to 1, as robomimic 0.3 wants
            them in training and acting; else (H, W, C) uint8, as in data sets and for 0.5.
        observations: Names of what is observed; None is all. A policy with normalised observations
            stumbles over others.
        kwargs: Passed on to `gym.make`, such as `model="lift_tiny", starts="data/lift.hdf5"`.

    Raises:
        ValueError: If observations are no Dict, there is no such observation, or `render` is set.
    """

    def __init__(
        self,
        env_name: str,
        render: bool = False,
        render_offscreen: bool = False,
        use_image_obs: bool = True,
        postprocess_visual_obs: bool = True,
        observations: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if render:
            raise ValueError("nothing is shown on a screen here; leave render off")
        drawn = {"render_mode": "rgb_array"} if render_offscreen else {}
        env = gym.make(env_name, **{**drawn, **kwargs})
        self._start(env, env_name, use_image_obs, postprocess_visual_obs, observations)
        self._kwargs: dict[str, Any] | None = kwargs

    @classmethod
    def of(
        cls,
        env: gym.Env,
        observations: Sequence[str] | None = None,
        *,
        postprocess_visual_obs: bool = True,
    ) -> RobomimicEnv:
        """Return an environment that is there already, as robomimic wants it.

        Raises:
            ValueError: As for the class.
        """
        made = cls.__new__(cls)
        name = IMAGINED if isinstance(env.unwrapped, ImaginedEnv) else _name(env)
        made._start(env, name, True, postprocess_visual_obs, observations)
        made._kwargs = None
        return made

    def _start(
        self,
        env: gym.Env,
        name: str,
        use_image_obs: bool,
        postprocess_visual_obs: bool,
        observations: Sequence[str] | None,
    ) -> None:
        space = env.observation_space
        if not isinstance(space, Dict):
            raise ValueError(f"{name} must have a Dict of observations, it has {space}")
        self.env, self._name, self._postprocess = env, name, postprocess_visual_obs
        self._cameras = {key for key, entry in space.items() if len(entry.shape or ()) == 3}
        shown = [key for key in space if use_image_obs or key not in self._cameras]
        self._shown = shown if observations is None else list(observations)
        if missing := [key for key in self._shown if key not in space.spaces]:
            raise ValueError(f"{name} does not show {missing}; it shows {sorted(space.spaces)}")
        self._observation: Mapping[str, np.ndarray] = {}
        self._reward, self._done, self._success = 0.0, False, False
        self._next: dict[str, Any] = {}

    def prepare(self, seed: int, options: Mapping[str, Any] | None = None) -> None:
        """Say how the next `reset` starts, which robomimic calls without saying it."""
        self._next = {"seed": seed, "options": None if options is None else dict(options)}

    def reset(self) -> dict[str, np.ndarray]:
        """Start an episode as `prepare` said, else at random; return the observation."""
        how, self._next = self._next, {}
        return self._begin(*self.env.reset(**how))

    def reset_to(self, state: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Start from a state and return the observation.

        Args:
            state: As `get_state` returns it, or {"start": number} of an imagined environment.

        Raises:
            ValueError: If it is none that this environment has.
        """
        env = self.env.unwrapped
        if isinstance(env, ImaginedEnv) and "snapshot" in state:
            self.env.reset()  # wrappers want one before the first step
            observation = env.restore(state["snapshot"])
            self._begin(observation, {})
            self._reward, self._done, self._success = state["reached"]
            return self.get_observation()
        if isinstance(env, ImaginedEnv) and "start" in state:
            return self._begin(*self.env.reset(options={"start": state["start"]}))
        if not isinstance(env, ImaginedEnv) and "states" in state:
            return self._begin(*self.env.reset(options={"state": state["states"]}))
        known = ["snapshot", "start"] if isinstance(env, ImaginedEnv) else ["states"]
        raise ValueError(f"a state of {self._name} has one of {known}, got {sorted(state)}")

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, dict[str, Any]]:
        """Take an action; return observation, reward, whether the episode is over, and info."""
        action = np.asarray(action, np.float32)
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        self._reward, self._done = float(reward), bool(terminated or truncated)
        self._success = is_success(info)
        return self.get_observation(), self._reward, self._done, info

    def render(
        self,
        mode: str = "human",
        height: int | None = None,
        width: int | None = None,
        camera_name: str | None = None,
    ) -> np.ndarray:
        """Return a picture, (H, W, 3) uint8: all cameras side by side, or one.

        Raises:
            NotImplementedError: If `mode` is not "rgb_array", or there is nothing to draw.
            ValueError: If there is no such camera.
        """
        if mode != "rgb_array":
            raise NotImplementedError("nothing is shown on a screen here: use mode='rgb_array'")
        if camera_name is not None and camera_name not in self._cameras:
            raise ValueError(f"no camera {camera_name!r}; there are {sorted(self._cameras)}")
        names = sorted(self._cameras) if camera_name is None else [camera_name]
        if names:
            picture = side_by_side([self._observation[name] for name in names])
        else:
            drawn = self.env.render()
            if not isinstance(drawn, np.ndarray):
                raise NotImplementedError(f"{self._name} has no camera and draws no picture")
            picture = drawn
        size = (width or picture.shape[1], height or picture.shape[0])
        resized = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
        return np.asarray(resized)

    def get_observation(self, observation: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what is observed, or `observation`, in the layout that robomimic reads.

        Names are those that its policies can have: see `envs.names.flat_name`.
        """
        given = self._observation if observation is None else observation
        return {flat_name(key): self._processed(key, given[key]) for key in self._shown}

    def _processed(self, key: str, value: np.ndarray) -> np.ndarray:
        if key not in self._cameras or not self._postprocess:
            return np.array(value)
        return np.ascontiguousarray((value.astype(np.float32) / 255).transpose(2, 0, 1))

    def get_state(self) -> dict[str, Any]:
        """Return what `reset_to` takes to come back here.

        Raises:
            NotImplementedError: If the environment has no state to show.
        """
        env = self.env.unwrapped
        if isinstance(env, ImaginedEnv):
            reached = (self._reward, self._done, self._success)
            return {"snapshot": env.snapshot(), "reached": reached}
        state = getattr(env, "state", None)
        if not isinstance(state, np.ndarray):
            raise NotImplementedError(f"{self._name} has no `state` to come back to")
        return {"states": state.copy()}

    def get_reward(self) -> float:
        """Return the reward of the last step."""
        return self._reward

    def get_goal(self) -> Any:
        """Raise NotImplementedError: goals are no observations here."""
        raise NotImplementedError("environments here give no goal observation")

    def set_goal(self, **kwargs: Any) -> None:
        """Raise NotImplementedError: goals are no observations here."""
        raise NotImplementedError("environments here take no goal observation")

    def is_done(self) -> bool:
        """Return whether the episode is over."""
        return self._done

    def is_success(self) -> dict[str, bool]:
        """Return under "task" whether the last step ended in success."""
        return {"task": self._success}

    @property
    def action_dimension(self) -> int:
        """Values of an action."""
        space = self.env.action_space
        assert isinstance(space, Box), "of cameras, vectors and actions"
        return int(np.prod(space.shape))

    @property
    def name(self) -> str:
        """Gymnasium id."""
        return self._name

    @property
    def type(self) -> int:
        """Robomimic's number for environments of Gymnasium."""
        return int(EnvType.GYM_TYPE)

    @property
    def version(self) -> str:
        """Version of Gymnasium."""
        return gym.__version__

    def serialize(self) -> dict[str, Any]:
        """Return what robomimic keeps as `env_args`; `RobomimicEnv` takes name and arguments.

        Raises:
            NotImplementedError: If the environment was given and not made by its name.
        """
        if self._kwargs is None:
            raise NotImplementedError(
                "an environment that was given cannot be made again from text; make it by name: "
                "RobomimicEnv('scd_wm/Imagined-v0', model=..., starts=...)"
            )
        return {
            "env_name": self._name,
            "type": self.type,
            "env_version": self.version,
            "env_kwargs": dict(self._kwargs),
        }

    @classmethod
    def create_for_data_processing(cls, *args: Any, **kwargs: Any) -> RobomimicEnv:
        """Raise NotImplementedError: observations of recorded states are not made anew here."""
        raise NotImplementedError(
            "a world model cannot draw recorded simulator states again; data sets of this package "
            "hold their observations already (scd-wm collect, scd-wm convert)"
        )

    @property
    def rollout_exceptions(self) -> tuple[()]:
        """Exceptions that a bad policy causes: none."""
        return ()

    def _begin(self, observation: Any, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self._observation = observation
        self._reward, self._done, self._success = 0.0, False, is_success(info)
        return self.get_observation()


def _name(env: gym.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
