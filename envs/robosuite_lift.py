"""Lift of robosuite (Zhu et al. 2020, arXiv:2009.12293) with a Panda arm, seen by our cameras.

Observations have robosuite's names, which are those of robomimic's data sets.

Needs robosuite 1.5.2, which wants MuJoCo 3.3: see the Makefile's `test-sims`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from scd_wm.envs.foreign_env import ForeignEnv, Observation
from scd_wm.envs.headless import choose_renderer

choose_renderer()  # before robosuite imports MuJoCo

CONTROL_HZ = 20
CAMERAS = {"agentview_image": "agentview", "robot0_eye_in_hand_image": "robot0_eye_in_hand"}
PROPRIO = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
OBJECT = {"cube_pos": 3, "cube_quat": 4}


class RobosuiteLift(ForeignEnv):
    """A Panda lifts a cube 4 cm above the table; success ends the episode.

    An action is seven numbers from -1 to 1 for robosuite's operational-space controller: three move
    the hand by at most 5 cm, three turn it by at most 0.5 rad, the seventh closes the gripper
    (above 0) or opens it. The reward is robosuite's shaped one, from 0 to 1.

    Args:
        observation: "image": {"agentview_image" and "robot0_eye_in_hand_image": (S, S, 3) uint8,
            "robot0_eef_pos": (3,) metres, "robot0_eef_quat": (4,) x, y, z, w,
            "robot0_gripper_qpos": (2,) metres}; "state": the latter three, "cube_pos": (3,) metres
            and "cube_quat": (4,) x, y, z, w.
        image_size: Side S of the images and of what `render` returns, in pixels.
        render_mode: "rgb_array" (the agentview camera) or None.

    Raises:
        ImportError: If robosuite is not installed, or does not work with this MuJoCo.
        ValueError: If an argument is not as above.
    """

    metadata = {  # noqa: RUF012  (gymnasium declares it as an attribute of the instance)
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_HZ,
    }

    hidden = (0,)  # shapes for collisions

    def __init__(
        self,
        observation: Literal["image", "state"] = "image",
        image_size: int = 64,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(observation, image_size, render_mode, CAMERAS, 7)
        self._env = _make()
        self.observation_space = self._space(
            {**PROPRIO, **(OBJECT if observation == "state" else {})}
        )
        self._seen: Mapping[str, np.ndarray] = {}

    @property
    def eef_pos(self) -> np.ndarray:
        """The point between the fingertips, (3,)."""
        return self._seen["robot0_eef_pos"].copy()

    @property
    def cube_pos(self) -> np.ndarray:
        """The cube's middle, (3,)."""
        return self._seen["cube_pos"].copy()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move the arm for 1/20 s.

        Raises:
            ValueError: If the action is not seven finite numbers.
        """
        self._seen, reward, _, _ = self._env.step(self._check_action(action))
        success = bool(self._env._check_success())
        return self._observe(), float(reward), success, False, {"success": success}

    def _start(self, seed: int) -> None:
        # Without a hard reset the scene stays, and with it all that draws; they share a generator.
        self._env.rng = self._env.placement_initializer.rng = np.random.default_rng(seed)
        self._seen = self._env.reset()

    def _vectors(self) -> Mapping[str, Sequence[float] | np.ndarray]:
        names = (*PROPRIO, *(OBJECT if self.observation_type == "state" else ()))
        return {name: self._seen[name] for name in names}

    def _simulation(self) -> tuple[Any, Any]:
        return self._env.sim.model._model, self._env.sim.data._data


def _make() -> Any:
    try:
        import robosuite
    except ImportError as error:
        raise ImportError(
            f"robosuite cannot be imported ({error}); `make test-sims` shows how to install it"
        ) from error
    return robosuite.make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        use_object_obs=True,
        control_freq=CONTROL_HZ,
        reward_shaping=True,
        ignore_done=True,
        hard_reset=False,  # a new scene at every reset takes seconds
        seed=0,
    )
