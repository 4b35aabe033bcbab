"""Lift a cube off a table with a parallel gripper, in MuJoCo, seen by two cameras.

The cube is held by the friction of the fingers. The hand glides on slides in x, y and z and turns
about z; its control is by position, as of a robot arm under a Cartesian controller.

Axes: x to the right and y away in the front camera's image, z up from the table's top; metres.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box, Dict

from scd_wm.envs.simulated_env import Observation, SimulatedEnv

CUBE = 0.025  # half of the cube's side
REACH = 0.14  # the point between the fingertips stays within this square, and between these heights
LOWEST, HIGHEST = 0.02, 0.18
MAX_YAW = 1.2  # radians, both ways: enough for every side of the cube
OPEN = 0.04  # distance of a finger from the middle when open; 0 when closed
MAX_STEP = 0.0125  # what an action of 1 moves the hand by in one step, metres
MAX_TURN = 0.12  # what it turns the hand by, radians
MAX_GRIP = 0.01  # what it moves each finger by, metres
CAMERAS = ("front", "wrist")
CONTROL_HZ = 10
SETPOINTS = 10  # of the hand in one step, equally far apart in time
SUBSTEPS = 5  # of the physics between two setpoints
LIFT_HEIGHT = 0.1  # how far the cube must have risen
HOLD_STEPS = 5  # for so many steps in a row
START = 0.1  # hand and cube start within this square
NUM_JOINTS = 6  # x, y, z, yaw, left and right finger; the cube's position and quaternion follow
CUBE_POS, CUBE_QUAT = slice(6, 9), slice(9, 13)
STEP = np.array([MAX_STEP] * 3 + [MAX_TURN] + [-MAX_GRIP] * 2)
LOW = np.array([-REACH, -REACH, LOWEST, -MAX_YAW, 0, 0])  # of targets
HIGH = np.array([REACH, REACH, HIGHEST, MAX_YAW, OPEN, OPEN])
LEASH = np.array([0.03] * 3 + [0.2] + [0.012] * 2)  # how far a target may be from a blocked joint


class Lift(SimulatedEnv):
    """A gripper lifts a cube; success is 10 cm above the table for five steps in a row.

    An action is five numbers, clipped to -1 and 1. The first four move the hand's target by so many
    times 12.5 mm in x, y and z and 0.12 rad about z, counter-clockwise from above. The fifth moves
    both fingers by so many times 10 mm: above 0 closes, below 0 opens. Zeros keep everything as it
    is; fingers that hold the cube go on holding it.

    The reward is 0.25 times 1 - tanh(10 d), with d the distance from the point between the
    fingertips to the cube's middle in metres, plus 0.75 times the share of the 10 cm that the cube
    has risen; from 0 to 1. `terminated` is success. `info` holds "success" (bool), "height" (how
    far the cube has risen, metres) and "contact" (did the gripper touch the cube in this step).

    `reset` starts with the open hand above the table and the cube on it;
    `reset(options={"state": state})` from a given state, (32,), as `state` returns it; from
    there the same actions give the same bits as in the episode that the state was read from.

    Args:
        observation: "image": {"front_image" and "wrist_image": (S, S, 3) uint8, and what the robot
            knows of itself: "eef_pos": (3,) the point between the fingertips, "eef_vel": (3,) m/s,
            "eef_yaw": (1,) radians, "gripper_qpos": (2,) distance of each finger from the middle};
            "state": the latter four, "cube_pos": (3,) and "cube_quat": (4,) w, x, y, z.
        image_size: Side S of the images and of what `render` returns, in pixels.
        render_mode: "rgb_array" (the front camera) or None. Images are drawn off screen, without a
            display by EGL unless the environment variable MUJOCO_GL says otherwise.

    Raises:
        ValueError: If an argument is not as above.
    """

    # Colours as they appear in the images, 0 to 255; a pixel within `tolerance` (Euclidean) belongs
    # to the object.
    metadata = {  # noqa: RUF012  (gymnasium declares it as an attribute of the instance)
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_HZ,
        "tracked_colours": {
            "cube": {"rgb": [214, 46, 28], "tolerance": 130.0},
            "gripper": {"rgb": [27, 82, 216], "tolerance": 130.0},
        },
    }

    scene, shown = "lift.xml", "front"
    action_dim, action_words = 5, "five"

    def __init__(
        self,
        observation: Literal["image", "state"] = "image",
        image_size: int = 64,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(observation, image_size, render_mode)
        self.observation_space = _observation_space(observation, image_size)
        self._cube_geom, self._table_geom = (self._model.geom(n).id for n in ("cube", "table"))
        self._num_held = 0  # steps in a row for which the cube has been high enough
        self._num_state = self._model.nq + self._model.nv + self._model.nu + 1

    @property
    def state(self) -> np.ndarray:
        """All that the next step depends on, (32,).

        Positions (13,), velocities (12,) and targets (6,) of the simulation, and for how many steps
        the cube has been high enough.
        """
        data = self._data
        return np.concatenate([data.qpos, data.qvel, data.ctrl, [self._num_held]])

    @property
    def eef_pos(self) -> np.ndarray:
        """The point between the fingertips, (3,)."""
        return self._data.qpos[:3].copy()

    @property
    def eef_yaw(self) -> float:
        """How far the hand is turned about z, radians."""
        return float(self._data.qpos[3])

    @property
    def gripper_qpos(self) -> np.ndarray:
        """Distance of the left and right finger from the middle, (2,)."""
        return self._data.qpos[4:NUM_JOINTS].copy()

    @property
    def cube_pos(self) -> np.ndarray:
        """Middle of the cube, (3,)."""
        return self._data.qpos[CUBE_POS].copy()

    @property
    def cube_quat(self) -> np.ndarray:
        """Orientation of the cube, (4,): w, x, y, z."""
        return self._data.qpos[CUBE_QUAT].copy()

    @property
    def height(self) -> float:
        """How far the cube has risen from the table."""
        return float(self._data.qpos[CUBE_POS][2]) - CUBE

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move the hand and the fingers for 1 / `CONTROL_HZ` seconds.

        Args:
            action: Motion in x, y, z, turn, and closing of the fingers, (5,), -1 to 1.

        Raises:
            ValueError: If the action is not five finite numbers.
        """
        contact = self._move(self._next_targets(self._check_action(action)))
        self._num_held = self._num_held + 1 if self.height >= LIFT_HEIGHT else 0
        info = self._info(contact)
        return self._observe(), self._reward(), info["success"], False, info

    def _place(self, state: np.ndarray) -> None:
        model, data = self._model, self._data
        ends = np.cumsum([model.nq, model.nv, model.nu])
        data.qpos[:], data.qvel[:], data.ctrl[:], held = np.split(state, ends)
        self._num_held = int(held[0])

    def _next_targets(self, action: np.ndarray) -> np.ndarray:
        """Return where the joints shall be after the step, (6,)."""
        joints = self._data.qpos[:NUM_JOINTS]
        targets = self._data.ctrl + STEP * action[[0, 1, 2, 3, 4, 4]]
        return np.clip(np.clip(targets, joints - LEASH, joints + LEASH), LOW, HIGH)

    def _move(self, targets: np.ndarray) -> bool:
        """Run one step towards `targets`, (6,); return whether the gripper touched the cube."""
        data, start = self._data, self._data.ctrl.copy()
        contact = False
        for setpoint in range(1, SETPOINTS + 1):
            data.ctrl[:] = start + (targets - start) * (setpoint / SETPOINTS)
            self._simulate(SUBSTEPS)
            contact = contact or self._touching()
        self._settle()
        return contact

    def _touching(self) -> bool:
        """Return whether the cube touches anything but the table."""
        geoms = self._data.contact.geom  # (contacts, 2)
        with_cube = (geoms == self._cube_geom).any(axis=1)
        return bool((with_cube & (geoms != self._table_geom).all(axis=1)).any())

    def _reward(self) -> float:
        distance = float(np.linalg.norm(self.eef_pos - self.cube_pos))
        risen = float(np.clip(self.height / LIFT_HEIGHT, 0, 1))
        return 0.25 * (1 - float(np.tanh(10 * distance))) + 0.75 * risen

    def _info(self, contact: bool) -> dict[str, Any]:
        success = self._num_held >= HOLD_STEPS
        return {"success": success, "height": self.height, "contact": contact}

    def _observe(self) -> Observation:
        qpos, qvel = self._data.qpos.astype(np.float32), self._data.qvel.astype(np.float32)
        proprio = {
            "eef_pos": qpos[:3],
            "eef_vel": qvel[:3],
            "eef_yaw": qpos[3:4],
            "gripper_qpos": qpos[4:NUM_JOINTS],
        }
        if self.observation_type == "state":
            return {**proprio, "cube_pos": qpos[CUBE_POS], "cube_quat": qpos[CUBE_QUAT]}
        images = {f"{name}_image": self._image(name) for name in CAMERAS}
        return {**images, **proprio}

    def _random_state(self) -> np.ndarray:
        """Draw the open hand above the cube's height and the cube on the table, all at rest."""
        rng = self.np_random
        hand = rng.uniform([-START, -START, 0.1, -0.5], [START, START, 0.16, 0.5])
        cube, angle = rng.uniform(-START, START, 2), rng.uniform(-np.pi / 4, np.pi / 4)
        joints = np.array([*hand, OPEN, OPEN])
        quaternion = [np.cos(angle / 2), 0, 0, np.sin(angle / 2)]
        velocities = np.zeros(self._model.nv)
        return np.array([*joints, *cube, CUBE, *quaternion, *velocities, *joints, 0])

    def _check_state(self, state: Any) -> np.ndarray:
        values = np.asarray(state, np.float64)
        if values.shape != (self._num_state,) or not np.isfinite(values).all():
            raise ValueError(
                f"a state is {self._num_state} finite numbers, as `state` returns, got {state!r}"
            )
        if not np.isclose(np.linalg.norm(values[CUBE_QUAT]), 1, atol=1e-6):
            raise ValueError(f"the cube's quaternion must have length 1, got {values[CUBE_QUAT]}")
        return values


def _observation_space(observation: str, image_size: int) -> Dict:
    """Return the space; bounds of vectors are farther than anything gets."""
    proprio = {
        "eef_pos": Box(-1, 1, (3,), np.float32),
        "eef_vel": Box(-10, 10, (3,), np.float32),
        "eef_yaw": Box(-np.pi, np.pi, (1,), np.float32),
        "gripper_qpos": Box(-0.1, 0.1, (2,), np.float32),
    }
    if observation == "state":
        cube = {"cube_pos": Box(-2, 2, (3,), np.float32), "cube_quat": Box(-1.1, 1.1, (4,))}
        return Dict({**proprio, **cube})
    image = Box(0, 255, (image_size, image_size, 3), np.uint8)
    return Dict({**{f"{name}_image": image for name in CAMERAS}, **proprio})
