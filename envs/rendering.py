"""Pictures of MuJoCo's scenes, without a window, shadows or reflections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scd_wm.envs.headless import choose_renderer

choose_renderer()
import mujoco  # noqa: E402  (decides how to render when it is imported)


class Cameras:
    """Draws the named cameras of a model at one size.

    Draws at twice the size and averages, which costs less than MuJoCo's multisampling. OpenGL is
    set up by the first picture.

    Args:
        model: Whose cameras.
        image_size: Side S of the pictures, in pixels.
        hidden: Groups of geometries that are not drawn, such as shapes for collisions.
    """

    def __init__(self, model: mujoco.MjModel, image_size: int, hidden: Sequence[int] = ()) -> None:
        self._model, self._size = model, 2 * image_size
        self._option = mujoco.MjvOption()
        self._option.geomgroup[list(hidden)] = 0
        self._renderer: mujoco.Renderer | None = None

    def draw(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Return what a camera sees, (S, S, 3) uint8.

        Raises:
            OSError: If OpenGL cannot be used.
        """
        if self._renderer is None:
            self._renderer = make_renderer(self._model, self._size)
        self._renderer.update_scene(data, camera, self._option)
        return halve(self._renderer.render())

    def close(self) -> None:
        """Free the renderer; the next picture makes a new one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def check_picture_arguments(image_size: int, render_mode: str | None) -> None:
    """Raise unless an environment can draw so.

    Raises:
        ValueError: If the size is not from 16 to 1024 pixels, or the mode is not known.
    """
    if not 16 <= image_size <= 1024:
        raise ValueError(f"image_size must be from 16 to 1024 pixels, got {image_size}")
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")


def halve(image: np.ndarray) -> np.ndarray:
    """Return means of 2 x 2 pixels, (S, S, 3) uint8, of an image (2S, 2S, 3) uint8."""
    rows = np.add(image[::2], image[1::2], dtype=np.uint16)
    return ((rows[:, ::2] + rows[:, 1::2] + 2) // 4).astype(np.uint8)


def make_renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    """Return a renderer of size x size pixels without shadows and reflections.

    Raises:
        OSError: If OpenGL cannot be used.
    """
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    try:
        renderer = mujoco.Renderer(model, size, size)
    except Exception as error:
        raise OSError(
            f"MuJoCo cannot render ({error}); install EGL and Mesa (Debian: apt-get install "
            "libegl1 libgl1-mesa-dri libgles2 libopengl0), or set MUJOCO_GL before Python starts"
        ) from error
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        renderer.scene.flags[flag] = 0
    return renderer
