"""What environments in MuJoCo share: arguments, starting from a state, pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from scd_wm.envs.headless import choose_renderer
from scd_wm.envs.rendering import Cameras, check_picture_arguments

choose_renderer()
import mujoco  # noqa: E402  (decides how to render when it is imported)

Observation: TypeAlias = dict[str, np.ndarray]

ASSETS = Path(__file__).parent / "assets"
OBSERVATIONS = ("image", "state")


class SimulatedEnv(gym.Env[Any, np.ndarray], ABC):
    """A scene of MuJoCo that can start from any of its states.

    Args:
        observation: "image" or "state".
        image_size: Side S of the images, in pixels.
        render_mode: "rgb_array" or None.

    Raises:
        ValueError: If an argument is not as above.
    """

    scene: ClassVar[str]  # file in the assets
    action_words: ClassVar[str]  # how many numbers an action is, in words
    action_dim: ClassVar[int]
    shown: ClassVar[str]  # camera that `render` shows

    def __init__(self, observation: str, image_size: int, render_mode: str | None) -> None:
        if observation not in OBSERVATIONS:
            raise ValueError(f"observation must be 'image' or 'state', got {observation!r}")
        check_picture_arguments(image_size, render_mode)
        self.observation_type = observation
        self.image_size = image_size
        self.render_mode = render_mode
        self.action_space = Box(-1, 1, (self.action_dim,), np.float32)
        self._model = mujoco.MjModel.from_xml_path(str(ASSETS / self.scene))
        self._data = mujoco.MjData(self._model)
        self._cameras = Cameras(self._model, image_size)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start from a random state, or from the one that `options` gives as "state".

        Raises:
            ValueError: If an option is unknown or the state is not one.
        """
        super().reset(seed=seed)
        options = {} if options is None else options
        if unknown := set(options) - {"state"}:
            name = type(self).__name__
            raise ValueError(f"{name} has no reset option {sorted(unknown)}; it has ['state']")
        state = self._check_state(options["state"]) if "state" in options else self._random_state()
        mujoco.mj_resetData(self._model, self._data)
        self._place(state)
        self._settle()
        return self._observe(), self._info(contact=self._touching())

    def render(self) -> np.ndarray | None:
        """Return an image, (S, S, 3) uint8, or None without a render mode."""
        return None if self.render_mode is None else self._image(self.shown)

    def close(self) -> None:
        """Free the renderer; the next image makes a new one."""
        self._cameras.close()

    def _simulate(self, num_steps: int) -> None:
        """Run steps of the physics."""
        mujoco.mj_step(self._model, self._data, num_steps)

    def _settle(self) -> None:
        """Make all that is derived from positions and velocities agree with them."""
        mujoco.mj_forward(self._model, self._data)

    def _image(self, camera: str) -> np.ndarray:
        """Return what a camera sees, (S, S, 3) uint8."""
        return self._cameras.draw(self._data, camera)

    def _check_action(self, action: Any) -> np.ndarray:
        """Return an action as numbers from -1 to 1, (A,)."""
        values = np.asarray(action, np.float64)
        if values.shape != (self.action_dim,) or not np.isfinite(values).all():
            raise ValueError(f"an action is {self.action_words} finite numbers, got {action!r}")
        return np.clip(values, -1, 1)

    @abstractmethod
    def _check_state(self, state: Any) -> np.ndarray:
        """Return a user's state as an array; raise ValueError if it is none."""

    @abstractmethod
    def _random_state(self) -> np.ndarray:
        """Draw a state to start from."""

    @abstractmethod
    def _place(self, state: np.ndarray) -> None:
        """Put a state into the simulation."""

    @abstractmethod
    def _observe(self) -> Observation: ...

    @abstractmethod
    def _info(self, contact: bool) -> dict[str, Any]: ...

    @abstractmethod
    def _touching(self) -> bool:
        """Return whether the robot touches the object."""
