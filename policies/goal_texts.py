"""Goals as text, for the command line.

success, terminated or reward      what the model predicts of it
block_pose=0.1,0.2,1,0             distance of a vector from a goal
block_pose[0:2]=0.1,0.2            of some of its values
top_image=goal.png                 difference of a camera from a picture
features=goal.png                  the same in the model's features; of worlds with one camera
package.module:function            any function of the frames of a step
2*success + block_pose[0:2]=0,0    a weighted sum
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from scd_wm.imagination.latents import Latents
from scd_wm.named_object import load_named
from scd_wm.policies.goals import (
    FeatureGoal,
    Goal,
    ImageGoal,
    OnPixels,
    OutcomeGoal,
    SumOfGoals,
    VectorGoal,
    check_goal,
)
from scd_wm.spec import OUTCOMES, Spec

if TYPE_CHECKING:
    from scd_wm.model.world_model import WorldModel

VECTOR = re.compile(r"([\w.]+)(?:\[(\d+):(\d+)\])?=(-?[\d.,eE+-]+)")
WEIGHT = re.compile(r"([\d.]+)\s*\*\s*(.+)")


def parse_goal(
    text: str, spec: Spec, model: WorldModel | None = None, latents: Latents | None = None
) -> Goal:
    """Return the goal that a text means; see the module.

    Args:
        text: The goal.
        spec: Of the model that plans.
        model: The model itself, which goals of features need.
        latents: Of a world of latents: pictures are pixels, and functions are shown such.

    Raises:
        ValueError: If it means none, or the model of this spec cannot tell it.
        FileNotFoundError: If there is no such picture.
    """
    parts = [_weighted(part.strip(), spec, model, latents) for part in re.split(r"\s\+\s", text)]
    goals, weights = [goal for goal, _ in parts], [weight for _, weight in parts]
    goal = goals[0] if weights == [1.0] else SumOfGoals(goals, weights)
    check_goal(goal, spec)
    return goal


def _weighted(
    text: str, spec: Spec, model: WorldModel | None, latents: Latents | None
) -> tuple[Goal, float]:
    found = WEIGHT.fullmatch(text)
    if found is None:
        return _single(text, spec, model, latents), 1.0
    return _single(found[2].strip(), spec, model, latents), float(found[1])


def _single(text: str, spec: Spec, model: WorldModel | None, latents: Latents | None) -> Goal:
    if text in OUTCOMES:
        return OutcomeGoal(text)
    if re.fullmatch(r"[\w.]+:\w+", text):
        return _on_pixels(load_named(text, "goal"), latents)
    name, equals, value = text.partition("=")
    if equals and name in spec.cameras:
        return _on_pixels(ImageGoal(name, _picture(Path(value))), latents)
    if equals and name == "features" and name not in spec.vectors:
        return _features(Path(value), spec, model, latents)
    found = VECTOR.fullmatch(text)
    if found is None:
        raise ValueError(
            f"no goal {text!r}; a goal is one of {list(OUTCOMES)}, VECTOR=1,2, VECTOR[0:2]=1,2, "
            "CAMERA=picture.png, features=picture.png, module:function, or a sum such as "
            "2*success + VECTOR=1,2"
        )
    try:
        numbers = [float(number) for number in found[4].split(",")]
    except ValueError:
        raise ValueError(f"goal {text!r}: {found[4]!r} are not numbers") from None
    values = None if found[2] is None else tuple(range(int(found[2]), int(found[3])))
    return VectorGoal(found[1], torch.tensor(numbers), values)


def _on_pixels(goal: Goal, latents: Latents | None) -> Goal:
    return goal if latents is None else OnPixels(goal, latents)


def _features(
    path: Path, spec: Spec, model: WorldModel | None, latents: Latents | None
) -> FeatureGoal:
    if model is None or len(spec.cameras) != 1:
        raise ValueError(
            f"features={path} is for a model with one camera, this has {sorted(spec.cameras)}; "
            "use scd_wm.policies.goals.FeatureGoal"
        )
    goal = {next(iter(spec.cameras)): _picture(path)}
    if latents is not None:
        check_goal(FeatureGoal(model, goal), spec.pixels)
        goal = {k: v[0] for k, v in latents.encode({k: v[None] for k, v in goal.items()}).items()}
    return FeatureGoal(model, goal)


def _picture(path: Path) -> torch.Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"no goal picture {path}")
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB")))
