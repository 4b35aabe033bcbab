"""What environments of other packages share here: pictures of our own, seeds, success that ends.

Their own cameras cost ten times as much, as they draw shadows, reflections and many samples of a
pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from scd_wm.envs.rendering import Cameras, check_picture_arguments

Observation = dict[str, np.ndarray]

OBSERVATIONS = ("image", "state")
FAR = 10.0  # metres that nothing gets to; the other vectors are within -1 to 1
SEEDS = 2**31  # that the other package's own generators take


class ForeignEnv(gym.Env[Any, np.ndarray], ABC):
    """A task of another package, of which one or more cameras are seen.

    Args:
        observation: "image": cameras and what the robot knows of itself; "state": the latter and
            the object.
        image_size: Side S of the images and of what `render` returns, in pixels.
        render_mode: "rgb_array" or None.
        cameras: Name of an image here: camera of the scene.
        action_dim: Values of an action, each from -1 to 1.

    Raises:
        ValueError: If an argument is not as above.
    """

    hidden: ClassVar[tuple[int, ...]] = ()  # groups of geometries that are not drawn

    def __init__(
        self,
        observation: str,
        image_size: int,
        render_mode: str | None,
        cameras: Mapping[str, str],
        action_dim: int,
    ) -> None:
        if observation not in OBSERVATIONS:
            raise ValueError(f"observation must be 'image' or 'state', got {observation!r}")
        check_picture_arguments(image_size, render_mode)
        self.observation_type, self.image_size = observation, image_size
        self.render_mode, self.cameras = render_mode, dict(cameras)
        self.action_space = Box(-1, 1, (action_dim,), np.float32)
        self._pictures: Cameras | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Raises:
            ValueError: If an option is given; there are none.
        """
        super().reset(seed=seed)
        if options:
            raise ValueError(f"{type(self).__name__} has no reset option {sorted(options)}")
        self._start(int(self.np_random.integers(SEEDS)))
        return self._observe(), {"success": False}

    def render(self) -> np.ndarray | None:
        """Return an image, (S, S, 3) uint8, or None without a render mode."""
        if self.render_mode is None:
            return None
        return self._picture(next(iter(self.cameras.values())))

    def close(self) -> None:
        """Free the renderer; the next image makes a new one."""
        if self._pictures is not None:
            self._pictures.close()
            self._pictures = None

    def _observe(self) -> Observation:
        vectors = {k: np.asarray(v, np.float32) for k, v in self._vectors().items()}
        if self.observation_type == "state":
            return vectors
        images = {name: self._picture(camera) for name, camera in self.cameras.items()}
        return {**images, **vectors}

    def _space(self, vectors: Mapping[str, int]) -> Dict:
        """Return the space of observations with vectors of these lengths."""
        spaces: dict[str, gym.Space[Any]] = {
            k: Box(-FAR, FAR, (dim,), np.float32) for k, dim in vectors.items()
        }
        if self.observation_type == "state":
            return Dict(spaces)
        image = Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        return Dict({**dict.fromkeys(self.cameras, image), **spaces})

    def _picture(self, camera: str) -> np.ndarray:
        model, data = self._simulation()
        if self._pictures is None:
            model.vis.quality.offsamples = 0  # must be set before the renderer is made
            self._pictures = Cameras(model, self.image_size, self.hidden)
        return self._pictures.draw(data, camera)

    def _check_action(self, action: Any) -> np.ndarray:
        """Return an action as numbers from -1 to 1, (A,)."""
        values = np.asarray(action, np.float64)
        if values.shape != self.action_space.shape or not np.isfinite(values).all():
            raise ValueError(f"an action is {self.action_space.shape} numbers, got {action!r}")
        return np.clip(values, -1, 1)

    @abstractmethod
    def _start(self, seed: int) -> None:
        """Put the scene into a start that the seed decides."""

    @abstractmethod
    def _vectors(self) -> Mapping[str, Sequence[float] | np.ndarray]:
        """Return the vectors of the observation by name."""

    @abstractmethod
    def _simulation(self) -> tuple[Any, Any]:
        """Return the `mujoco.MjModel` and `mujoco.MjData`; always the same ones."""
