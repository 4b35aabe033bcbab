"""What the page is told, in JSON types.

Images are PNG files as `data:` addresses: no pixel is lost, and a page may show them as they are.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from scd_wm.model.flow import SOLVERS
from scd_wm.play.session import Moment, Numbers, Session, Start
from scd_wm.play.world import World
from scd_wm.spec import DEFAULT_FPS, VectorSpec

FAST = 1  # level of PNG's compression: twice as fast as the usual one, images a fifth larger
BAR_SPREAD = 3  # standard deviations on either side of the mean that a bar shows
MOST_STEPS = 32  # of the sampler, that the page offers

Json = dict[str, Any]


def world_json(world: World) -> Json:
    """Return what does not change: names, sizes, limits, episodes."""
    spec, model, data = world.model.spec.pixels, world.model, world.data
    actions = world.actions
    return {
        "name": world.name,
        "cameras": [
            {"name": n, "height": spec.cameras[n].height, "width": spec.cameras[n].width}
            for n in world.cameras
        ],
        "vectors": [_vector_json(name, vector) for name, vector in spec.vectors.items()],
        "outcomes": list(spec.outcomes),
        "reward": {"mean": spec.reward_mean, "std": spec.reward_std},
        "action": {k: getattr(actions, k) for k in ("low", "high", "rest", "hold")},
        "fps": spec.fps or DEFAULT_FPS,
        "num_steps": model.config.num_steps,
        "most_steps": max(MOST_STEPS, model.config.num_steps),
        "solver": model.config.solver,
        "solvers": list(SOLVERS),
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "history": world.history,
        "data": None if data is None else str(data.info.path),
        "episodes": []
        if data is None
        else [{"name": e.name, "frames": e.num_observations} for e in data.episodes],
    }


def view_json(session: Session, beside: bool = False) -> Json:
    """Return the moment that is shown.

    Args:
        session: Of the page.
        beside: Tell also what was recorded at this time.
    """
    now = session.now
    return {
        "branch": session.branch_id,
        "start": _start_json(session.world, now.start),
        "time": now.time,
        "images": _images_json(now.shown.images),
        **_numbers_json(now.trace[-1]),
        "undo": session.num_undo,
        "recorded_frame": session.recorded_frame(),
        "recorded_action": _list(session.recorded_action()),
        "recorded_images": _recorded_images(session) if beside else None,
    }


def places_json(session: Session) -> Json:
    """Return what there is to go back to, and the numbers that led here."""
    return {
        "trace": [_numbers_json(numbers) for numbers in session.now.trace],
        "branches": [
            {**_place_json(session.world, number, branch.now), "here": number == session.branch_id}
            for number, branch in session.branches.items()
        ],
        "snapshots": [
            _place_json(session.world, number, moment)
            for number, moment in session.snapshots.items()
        ],
    }


def recorded_json(world: World, episode: int, frame: int) -> Json:
    """Return the images of a recorded frame.

    Raises:
        ValueError: If there is none.
    """
    return {"images": _images_json(world.recorded(episode, frame).images)}


def png_address(image: np.ndarray) -> str:
    """Return an image, (H, W, 3) uint8, as the address of a PNG file that it holds."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=FAST)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _images_json(images: Mapping[str, np.ndarray]) -> Json:
    return {name: png_address(image) for name, image in images.items()}


def _recorded_images(session: Session) -> Json | None:
    episode, frame = session.now.start.episode, session.recorded_frame()
    if episode is None or frame is None:
        return None
    return _images_json(session.world.recorded(episode, frame).images)


def _numbers_json(numbers: Numbers) -> Json:
    return {
        "vectors": {name: _list(values) for name, values in numbers.vectors.items()},
        "outcome": {name: _finite(value) for name, value in numbers.outcome.items()},
    }


def _start_json(world: World, start: Start) -> Json:
    data = world.data
    name = None if data is None or start.episode is None else data.episodes[start.episode].name
    return {"episode": start.episode, "name": name, "frame": start.frame, "seed": start.seed}


def _place_json(world: World, number: int, moment: Moment) -> Json:
    """Return a moment as an entry of a list: the image of its first camera, and when it is."""
    first = next(iter(moment.shown.images.values()), None)
    return {
        "id": number,
        "image": None if first is None else png_address(first),
        "start": _start_json(world, moment.start),
        "time": moment.time,
    }


def _vector_json(name: str, vector: VectorSpec) -> Json:
    mean, spread = np.array(vector.mean), BAR_SPREAD * np.array(vector.std)
    return {"name": name, "low": _list(mean - spread), "high": _list(mean + spread)}


def _list(values: np.ndarray | None) -> list[float | None] | None:
    return None if values is None else [_finite(float(value)) for value in values]


def _finite(value: float) -> float | None:
    """Return a number with the digits that a page shows; JSON has no others than finite ones."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
