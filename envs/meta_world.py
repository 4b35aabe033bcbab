"""Tasks of Meta-World (Yu et al. 2019, arXiv:1910.10897), version 3, seen by our cameras.

Needs `pip install scd-wm[metaworld]`, which wants MuJoCo 3.3: see the Makefile's `test-sims`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from scd_wm.envs.foreign_env import ForeignEnv, Observation
from scd_wm.envs.headless import choose_renderer

choose_renderer()  # before MuJoCo is imported

import mujoco  # noqa: E402  (decides how to render when it is imported)

SIMULATED_HZ = 80  # steps a second of Meta-World's own environments
ACTION_REPEAT = 4
CAMERA = "corner2"  # hangs upside down
HAND, GRIPPER, OBJECT = slice(0, 3), slice(3, 4), slice(4, 7)  # of Meta-World's observation
MAX_REWARD = 10.0


class MetaWorld(ForeignEnv):
    """A task of Meta-World at 20 Hz; success ends the episode.

    An action is four numbers from -1 to 1, held for four of Meta-World's own steps: three move the
    hand, each by at most 1 cm a step, the fourth closes the gripper. The reward is Meta-World's
    divided by 10, so from 0 to 1, after the last of these steps. Where the goal and the object are
    is drawn anew at every reset.

    Args:
        task: A name of Meta-World's, such as "drawer-open-v3".
        observation: "image": {"corner_image": (S, S, 3) uint8, "hand_pos": (3,) metres, "gripper":
            (1,) 0 closed to 1 open}; "state": the latter two, "object_pos": (3,) metres and
            "goal_pos": (3,) metres.
        image_size: Side S of the images and of what `render` returns, in pixels.
        render_mode: "rgb_array" or None.

    Raises:
        ImportError: If Meta-World is not installed.
        ValueError: If an argument is not as above.
    """

    metadata = {  # noqa: RUF012  (gymnasium declares it as an attribute of the instance)
        "render_modes": ["rgb_array"],
        "render_fps": SIMULATED_HZ // ACTION_REPEAT,
    }

    def __init__(
        self,
        task: str = "drawer-open-v3",
        observation: Literal["image", "state"] = "image",
        image_size: int = 64,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(observation, image_size, render_mode, {"corner_image": CAMERA}, 4)
        self.task, self._env = task, _make(task)
        vectors = {"hand_pos": 3, "gripper": 1}
        if observation == "state":
            vectors |= {"object_pos": 3, "goal_pos": 3}
        self.observation_space = self._space(vectors)
        self.expert_observation = np.zeros(0)  # what Meta-World's own experts read, (39,)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hold an action for 1/20 s.

        Raises:
            ValueError: If the action is not four finite numbers.
        """
        values = self._check_action(action)
        for _ in range(ACTION_REPEAT):
            self._env.curr_path_length = 0  # how long an episode is, is not its affair
            seen, reward, _, _, info = self._env.step(values)
        self.expert_observation = seen
        success = bool(info["success"])
        return self._observe(), float(reward) / MAX_REWARD, success, False, {"success": success}

    def _picture(self, camera: str) -> np.ndarray:
        return np.ascontiguousarray(super()._picture(camera)[::-1, ::-1])

    def _start(self, seed: int) -> None:
        self._env.seed(seed)
        self._env.reset()
        # It has moved the object, but shows it, in numbers and pictures, where it was before.
        mujoco.mj_forward(*self._simulation())
        self._env._get_obs()  # becomes the frame before of the next
        self.expert_observation = self._env._get_obs()

    def _vectors(self) -> Mapping[str, Sequence[float] | np.ndarray]:
        seen = self.expert_observation
        vectors = {"hand_pos": seen[HAND], "gripper": seen[GRIPPER]}
        if self.observation_type == "state":
            vectors |= {"object_pos": seen[OBJECT], "goal_pos": seen[-3:]}
        return vectors

    def _simulation(self) -> tuple[Any, Any]:
        return self._env.model, self._env.data


def _make(task: str) -> Any:
    """Return Meta-World's own environment, which draws goals by its seed and tells them."""
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ImportError as error:
        raise ImportError(
            f"Meta-World cannot be imported ({error}): pip install 'scd-wm[metaworld]'"
        ) from error
    if task not in ALL_V3_ENVIRONMENTS:
        raise ValueError(f"no task {task!r}; there are {sorted(ALL_V3_ENVIRONMENTS)}")
    env = ALL_V3_ENVIRONMENTS[task]()
    env._partially_observable = False  # the experts read the goal
    del env.sawyer_observation_space  # made while the goal was hidden; steps are clipped to it
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    env._set_task_called = True  # without one it draws goals at random, which is what we want
    return env
