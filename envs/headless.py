"""Chooses how MuJoCo renders, which it decides once, when it is imported.

Call `choose_renderer` before `import mujoco`.
"""

import ctypes
import os
import sys


def choose_renderer() -> None:
    """Have MuJoCo render without a window system where Linux has no display.

    Sets `MUJOCO_GL=egl`, unless the user has set it, there is a display, or EGL is not installed:
    MuJoCo could then not even be imported, and what needs no images would not run.
    """
    has_display = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if sys.platform == "linux" and not has_display and _is_installed("libEGL.so.1"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def _is_installed(library: str) -> bool:
    """Return whether the system can load a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
