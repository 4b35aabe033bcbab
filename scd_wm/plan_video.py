"""Films of planning: what was executed beside what was imagined when each plan was made."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np

from scd_wm.policies.mpc import MPC
from scd_wm.report.build import write_bytes
from scd_wm.report.drawing import Panel, compose, resize
from scd_wm.report.video import encode_mp4
from scd_wm.spec import Spec

PANEL_WIDTH = 256
DEFAULT_FPS = 10.0


class Film:
    """Collects the frames of an episode.

    The imagined panel shows for every step what the plan under way foresaw of it, so it is at one
    with what was executed at each new plan and departs from it in between. A model without cameras
    has no such panel.

    Args:
        title: Over the executed frames.
        spec: Of the model.
    """

    def __init__(self, title: str, spec: Spec) -> None:
        self.title, self.spec = title, spec
        self._executed: list[np.ndarray] = []
        self._imagined: list[np.ndarray] = []
        self._ahead: list[np.ndarray] = []  # of the plan under way, next first

    def add(self, env: gym.Env, mpc: MPC) -> None:
        """Take a frame, after the policy chose an action and before it is executed."""
        picture = env.render()
        assert isinstance(picture, np.ndarray)
        self._executed.append(picture)
        cameras = list(self.spec.cameras)
        if not cameras:
            return
        if mpc.made_plan:
            images = mpc.foresee().images[cameras[0]][0].cpu().numpy()
            seen = mpc.last_image(cameras[0])
            self._ahead = [seen, *images]
        self._imagined.append(self._ahead.pop(0))

    def write(self, path: Path) -> None:
        """Write the film, if there is anything on it."""
        if not self._executed:
            return
        panels = [Panel(self.title, resize(np.stack(self._executed), PANEL_WIDTH))]
        if self._imagined:
            imagined = resize(np.stack(self._imagined), PANEL_WIDTH)
            panels.append(Panel("as planned", imagined, imagined_from=0))
        fps = self.spec.fps or DEFAULT_FPS
        write_bytes(path, encode_mp4(compose(panels, 2, 0, PANEL_WIDTH), fps))
