"""Push a T onto its goal with a round pusher, seen from above, in MuJoCo.

The physics is quasi-static: nothing moves unless the pusher moves it, and velocities are zero at
the end of every step, so that five numbers (`PushT.state`) are the whole state and one frame shows
it; only a `disturbance` adds chance.

Plane: x to the right and y up in the image, metres, origin in the middle of the workspace.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box, Dict

from scd_wm.envs.planar_shapes import Shape, overlap_area
from scd_wm.envs.simulated_env import Observation, SimulatedEnv

WORKSPACE = 0.25  # half of the side of the square between the walls
REACH = 0.225  # the pusher's centre stays within this square: its rim clears the walls
MAX_STEP = 0.03  # the farthest that the pusher goes in one step, 6 % of the side
CONTROL_HZ = 10
SETPOINTS = 10  # of the pusher in one step, equally far apart in time
GLIDE_SETPOINTS = 6  # the pusher glides to its target in these; the rest lets all come to rest
SUBSTEPS = 4  # of the physics between two setpoints
SUCCESS_OVERLAP = 0.9  # share of the T's area on the goal that counts as success
STATE_NAMES = ("pusher x", "pusher y", "block x", "block y", "block angle")


class PushT(SimulatedEnv):
    """A position-controlled pusher moves a T; success is 90 % of the T's area on the goal.

    An action is where the pusher shall be at the end of the step: (-1, -1) is the lower left and
    (1, 1) the upper right corner of its reach. It goes straight there, at most `MAX_STEP` far.
    Targets outside [-1, 1] are clipped.

    The reward is the share of the T's area on the goal divided by 0.9, at most 1, as in gym-pusht.
    `terminated` is success. `info` holds "success" (bool), "overlap" (share of the area, 0 to 1)
    and "contact" (did the pusher touch the T in this step).

    `reset` starts from a random state, which is no success and has no contact;
    `reset(options={"state": state})` from a given state, (5,): pusher x and y, block x, y
    and angle; from there the same actions give the same bits as in the episode that the state was
    read from, without a disturbance or with the seed that makes the same one.

    Args:
        observation: "image": {"top_image": (S, S, 3) uint8, "pusher_pos": (2,)};
            "state": {"pusher_pos": (2,), "block_pose": (4,) x, y, cos, sin}.
        image_size: Side S of the image and of what `render` returns, in pixels.
        render_mode: "rgb_array" or None. Images are drawn off screen, without a display by EGL
            unless the environment variable MUJOCO_GL says otherwise.
        disturbance: Standard deviation, in metres along each axis, of a displacement of the target
            that no action and no observation tells of, another in each step: a world of chance. It
            is drawn from the environment's generator, so that a seed still says all.

    Raises:
        ValueError: If an argument is not as above.
    """

    # Colours as they appear in the image, 0 to 255; a pixel within `tolerance` (Euclidean) belongs
    # to the object.
    metadata = {  # noqa: RUF012  (gymnasium declares it as an attribute of the instance)
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_HZ,
        "tracked_colours": {
            "pusher": {"rgb": [36, 69, 219], "tolerance": 140.0},
            "block": {"rgb": [219, 41, 41], "tolerance": 140.0},
        },
    }

    scene, shown = "push_t.xml", "top"
    action_dim, action_words = 2, "two"

    def __init__(
        self,
        observation: Literal["image", "state"] = "image",
        image_size: int = 64,
        render_mode: str | None = None,
        disturbance: float = 0.0,
    ) -> None:
        super().__init__(observation, image_size, render_mode)
        if not 0 <= disturbance <= REACH:
            raise ValueError(f"disturbance must be from 0 to {REACH} m, got {disturbance}")
        self.disturbance = disturbance
        self.observation_space = _observation_space(observation, image_size)
        self._pusher_geom = self._model.geom("pusher").id
        self.pusher_radius = float(self._model.geom("pusher").size[0])
        self.shape = Shape(*(_geoms(self._model, field)[:, :2] for field in ("pos", "size")))
        self.goal_pose = _pose_of(self._model.body("goal"))  # (3,)
        self._goal_corners = self.shape.corners(self.goal_pose)

    @property
    def state(self) -> np.ndarray:
        """All that the next step depends on but for chance, (5,): see `STATE_NAMES`."""
        return np.concatenate([self._data.qpos[3:], self._data.qpos[:3]])

    @property
    def pusher_pos(self) -> np.ndarray:
        """Centre of the pusher, (2,)."""
        return self._data.qpos[3:].copy()

    @property
    def block_pose(self) -> np.ndarray:
        """Pose of the T, (3,): x and y of the centroid of its area, angle (not wrapped)."""
        return self._data.qpos[:3].copy()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move the pusher towards its target for 1 / `CONTROL_HZ` seconds.

        Args:
            action: Target of the pusher, (2,), -1 to 1.

        Raises:
            ValueError: If the action is not two finite numbers.
        """
        contact = self._push(self._disturbed(self._check_action(action) * REACH))
        info = self._info(contact)
        reward = min(info["overlap"] / SUCCESS_OVERLAP, 1.0)
        return self._observe(), reward, info["success"], False, info

    def overlap(self) -> float:
        """Return the share of the T's area that lies on the goal, 0 to 1."""
        shared = overlap_area(self.shape.corners(self.block_pose), self._goal_corners)
        return float(np.clip(shared / self.shape.area, 0, 1))

    def _disturbed(self, target: np.ndarray) -> np.ndarray:
        """Return where the pusher goes in place of `target`, (2,) metres, within its reach."""
        if not self.disturbance:
            return target
        return np.clip(target + self.np_random.normal(0, self.disturbance, 2), -REACH, REACH)

    def _push(self, target: np.ndarray) -> bool:
        """Run one step towards `target`, (2,) metres; return whether the pusher touched the T."""
        data, start = self._data, self.pusher_pos
        way = target - start
        way *= min(1.0, MAX_STEP / max(float(np.linalg.norm(way)), 1e-9))
        contact = False
        for setpoint in range(1, SETPOINTS + 1):
            data.ctrl[:] = start + way * min(1.0, setpoint / GLIDE_SETPOINTS)
            for _ in range(SUBSTEPS):
                self._simulate(1)
                contact = contact or self._touching()
        data.qvel[:] = 0  # little is left of it; now the state is positions alone
        self._settle()
        return contact

    def _touching(self) -> bool:
        return self._data.ncon > 0 and bool((self._data.contact.geom == self._pusher_geom).any())

    def _info(self, contact: bool) -> dict[str, Any]:
        overlap = self.overlap()
        return {"success": overlap >= SUCCESS_OVERLAP, "overlap": overlap, "contact": contact}

    def _observe(self) -> Observation:
        pusher_pos = self.pusher_pos.astype(np.float32)
        if self.observation_type == "image":
            return {"top_image": self._image("top"), "pusher_pos": pusher_pos}
        x, y, angle = self.block_pose
        pose = np.array([x, y, np.cos(angle), np.sin(angle)], np.float32)
        return {"pusher_pos": pusher_pos, "block_pose": pose}

    def _place(self, state: np.ndarray) -> None:
        self._data.qpos[:3], self._data.qpos[3:] = state[2:], state[:2]

    def _random_state(self) -> np.ndarray:
        """Draw pusher and T until the T is inside the walls, no success, and not touched."""
        while True:
            pusher = self.np_random.uniform(-REACH, REACH, 2)
            block = self.np_random.uniform([-0.2, -0.2, -np.pi], [0.2, 0.2, np.pi])
            corners = self.shape.corners(block)
            free = float(self.shape.distance(pusher, block)) > self.pusher_radius + 0.005
            inside = np.abs(corners).max() < WORKSPACE - 0.01
            if free and inside and not self._is_success(corners):
                return np.concatenate([pusher, block])

    def _is_success(self, corners: np.ndarray) -> bool:
        shared = overlap_area(corners, self._goal_corners)
        return shared >= SUCCESS_OVERLAP * self.shape.area

    def _check_state(self, state: Any) -> np.ndarray:
        values = np.asarray(state, np.float64)
        if values.shape != (5,) or not np.isfinite(values).all():
            raise ValueError(f"a state is five finite numbers {STATE_NAMES}, got {state!r}")
        if np.abs(values[:4]).max() > WORKSPACE:
            raise ValueError(f"positions must be within +-{WORKSPACE} m, got {values[:4].tolist()}")
        return values


def pixel_of(points: np.ndarray, image_size: int) -> np.ndarray:
    """Return column and row of points of the plane in the image, (..., 2).

    The centres of pixels are at whole numbers.

    Args:
        points: Points in metres, (..., 2).
        image_size: Side of the image in pixels.
    """
    share = np.asarray(points) * np.array([1, -1]) / (2 * WORKSPACE) + 0.5
    return share * image_size - 0.5


def _observation_space(observation: str, image_size: int) -> Dict:
    pusher_pos = Box(-WORKSPACE, WORKSPACE, (2,), np.float32)
    if observation == "image":
        image = Box(0, 255, (image_size, image_size, 3), np.uint8)
        return Dict({"top_image": image, "pusher_pos": pusher_pos})
    high = np.array([WORKSPACE, WORKSPACE, 1, 1], np.float32)
    return Dict({"pusher_pos": pusher_pos, "block_pose": Box(-high, high, dtype=np.float32)})


def _geoms(model: Any, field: str) -> np.ndarray:
    """Return "pos" or "size" of the T's rectangles, (2, 3)."""
    return np.stack([getattr(model.geom(name), field) for name in ("bar", "stem")])


def _pose_of(body: Any) -> np.ndarray:
    """Return x, y and angle about z of a body of the model, (3,)."""
    w, _, _, z = body.quat
    return np.array([body.pos[0], body.pos[1], 2 * np.arctan2(z, w)])
