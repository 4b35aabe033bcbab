"""Films of planning: what was executed beside what was imagined when each plan was made."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np

from scd_wm.policies.mpc import MPC
from scd_wm.report.build import write_bytes
from scd_wm.report.drawing import Panel, compose, resize
from scd_wm.report.video import encode_mp4
from scd_wm.spec import DEFAULT_FPS, Spec

PANEL_WIDTH = 256


class Film:
    """Collects the frames of an episode.

    Beside what was executed stand what had been imagined of this moment when the last plan before
    it was made, and where the plan now under way leads. A model without cameras shows neither.

    Args:
        title: Over the executed frames.
        spec: Of the model.
    """

    def __init__(self, title: str, spec: Spec) -> None:
        self.title, self.spec = title, spec
        self._executed: list[np.ndarray] = []
        self._foreseen: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []
        self._ahead: list[np.ndarray] = []  # of the plan under way, the next moment first

    def add(self, env: gym.Env, mpc: MPC) -> None:
        """Take a frame, after the policy chose an action and before it is executed."""
        picture = env.render()
        assert isinstance(picture, np.ndarray)
        self._executed.append(picture)
        cameras = list(self.spec.cameras)
        if not cameras:
            return
        # Nothing was imagined of the first moment.
        self._foreseen.append(self._ahead.pop(0) if self._ahead else mpc.last_image(cameras[0]))
        if mpc.made_plan:
            self._ahead = list(mpc.foresee().images[cameras[0]][0].cpu().numpy())
            self._ends.append(self._ahead[-1])
        else:
            self._ends.append(self._ends[-1])

    def write(self, path: Path) -> None:
        """Write the film, if there is anything on it."""
        if self._executed:
            film = compose(self.panels(), 3, 0, PANEL_WIDTH)
            write_bytes(path, encode_mp4(film, self.spec.fps or DEFAULT_FPS))

    def panels(self) -> list[Panel]:
        """Return what stands side by side."""
        panels = [Panel(self.title, resize(np.stack(self._executed), PANEL_WIDTH))]
        for caption, frames in (("as foreseen", self._foreseen), ("the plan's end", self._ends)):
            if frames:
                panels.append(Panel(caption, resize(np.stack(frames), PANEL_WIDTH), 0))
        return panels
