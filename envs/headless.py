"""Chooses how MuJoCo renders, which it decides once, when it is imported.

Call `choose_renderer` before `import mujoco`.
"""

import os
import sys


def choose_renderer() -> None:
    """Have MuJoCo render without a window system where Linux has no display.

    Sets `MUJOCO_GL=egl`, unless the user has set it or there is a display. Without it
    `mujoco.Renderer` fails on a machine without a display.
    """
    has_display = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if sys.platform == "linux" and not has_display:
        os.environ.setdefault("MUJOCO_GL", "egl")
