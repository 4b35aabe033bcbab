"""What is decided before the first step of a run: settings, data, model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.latents import LatentDataset
from scd_wm.datasets.memory import MEMORY_BYTES
from scd_wm.datasets.options import DataOptions
from scd_wm.model.build import build_world_model
from scd_wm.model.few_steps import LEAST_VISIBLE, FewSteps
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec
from scd_wm.training.checkpoint import (
    AUTOENCODER,
    Autoencoder,
    check_folder,
    load_world_autoencoder,
    load_world_model,
)
from scd_wm.training.overrides import apply_overrides
from scd_wm.training.recipes import Recipe
from scd_wm.training.run_data import common_image_size, differences, layout_spec


@dataclass(frozen=True)
class Init:
    """A trained model to start from."""

    path: Path
    model: WorldModel

    @classmethod
    def load(cls, path: str | Path | None) -> Init | None:
        """Load the model, if there is to be one."""
        return None if path is None else cls(Path(path), load_world_model(path))


def choose_autoencoder(
    source: str | Path | None, init: Init | None, resumed: Path | None
) -> Autoencoder | None:
    """Load the autoencoder that was asked for, or that of the resumed run or the initial model.

    Args:
        source: What was asked for.
        init: The initial model.
        resumed: The run folder to continue.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If the initial model has another, or none.
    """
    start = None if init is None else check_folder(init.path)
    kept = [f / AUTOENCODER for f in (resumed, start) if f is not None]
    source = source or next((folder for folder in kept if folder.is_dir()), None)
    chosen = None if source is None else Autoencoder.load(source)
    if init is None:
        return chosen
    own = load_world_autoencoder(init.path)
    if (own and own.identity) != (chosen and chosen.model.identity):
        raise ValueError(
            f"{init.path} is a world of {'pixels' if own is None else 'other latents'}; start from "
            f"it {'without' if own is None else 'with its own'} autoencoder"
        )
    return chosen


def configure(
    start: Recipe,
    init: Init | None,
    overrides: Sequence[str],
    steps: int | None,
    minutes: float | None,
    seed: int | None,
) -> Recipe:
    """Return the recipe with what was asked for."""
    training, model = start.train, start.model
    if steps is not None or minutes is not None:
        training = replace(training, steps=steps, minutes=minutes)
    else:
        for limit, other in (("minutes", "steps"), ("steps", "minutes")):
            if any(text.startswith((f"{limit}=", f"train.{limit}=")) for text in overrides):
                overrides = [f"{other}=none", *overrides]  # in place of the recipe's limit
    if seed is not None:
        training = replace(training, seed=seed)
    configs = apply_overrides(overrides, {"model": model, "train": training})
    model, training = configs["model"], configs["train"]
    if training.distill_steps and init is None:
        raise ValueError(
            f"distill_steps={training.distill_steps} learns from a trained model's many "
            "steps; name it with --init"
        )
    if training.distill_steps and not start.train.distill_steps:  # a resumed run's model has this
        # What it learns is Euler's steps; Heun's correction would carry it past them.
        model = replace(model, num_steps=training.distill_steps, solver="euler")
        if not any(text.partition("=")[0].endswith("least_visible") for text in overrides):
            model = replace(model, least_visible=LEAST_VISIBLE)
    return replace(start, model=model, train=training)


def open_data(
    path: str | Path,
    options: DataOptions,
    recipe: Recipe,
    init: Init | None,
    memory_bytes: int = MEMORY_BYTES,
) -> RobotDataset:
    """Open the data, with what the user left open taken from the initial model or the recipe."""
    options = _fill(options, recipe, init)
    dataset = open_dataset(path, options, memory_bytes=memory_bytes)
    largest = max((side for size in dataset.image_sizes.values() for side in size), default=0)
    if options.image_size is None and recipe.image_size is not None and largest > recipe.image_size:
        smaller = replace(options, image_size=recipe.image_size)
        return open_dataset(path, smaller, memory_bytes=memory_bytes)
    return dataset


def as_seen(part: RobotDataset, autoencoder: Autoencoder | None) -> RobotDataset:
    """Return the episodes as the model sees them: with latents in place of pixels, if it does."""
    return part if autoencoder is None else LatentDataset(part, autoencoder.model)


def make_spec(part: RobotDataset, init: Init | None) -> Spec:
    """Return the spec with the statistics of the training episodes, or that of the initial model.

    Raises:
        ValueError: If the data does not fit the initial model.
    """
    if init is None:
        return part.spec()
    spec, what = init.model.spec, f"data set {part.info.path}"
    spec.pixels.check_same_layout(layout_spec(part), what)
    missing = [name for name in spec.outcomes if name not in part.outcomes]
    if missing:
        raise ValueError(f"{what} has no {missing[0]}, which {init.path} predicts")
    return spec


def build(spec: Spec, recipe: Recipe, init: Init | None) -> WorldModel:
    """Return the model with the weights to start from; the global random state stays as it was.

    Raises:
        ValueError: If overrides give the initial model other sizes, or a student other noise than
            its teacher's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        model = build_world_model(spec, recipe.model)
    if init is not None:
        weights, target = init.model.state_dict(), model.state_dict()
        if {k: w.shape for k, w in weights.items()} != {k: w.shape for k, w in target.items()}:
            changed = "; ".join(differences(asdict(init.model.config), asdict(recipe.model)))
            raise ValueError(f"overrides do not fit the weights of {init.path}: {changed}")
        model.load_state_dict(weights)
        if recipe.train.distill_steps:
            if recipe.model.vector_noise != init.model.config.vector_noise:
                raise ValueError(
                    f"distill_steps needs vector_noise={init.model.config.vector_noise}, as "
                    f"{init.path} has it: a student goes the teacher's way, from the same noise"
                )
            model.few_steps = FewSteps(
                teacher=init.model,
                num_steps=recipe.train.distill_steps,
                teacher_steps=recipe.train.distill_teacher_steps,
                weight=recipe.train.distill_weight,
            )
    return model


def _fill(options: DataOptions, recipe: Recipe, init: Init | None) -> DataOptions:
    cameras, vectors, image_size = options.cameras, options.vectors, options.image_size
    if init is not None:
        spec = init.model.spec
        cameras = tuple(spec.cameras) if cameras is None else cameras
        vectors = tuple(spec.vectors) if vectors is None else vectors
        image_size = common_image_size(spec.pixels) if image_size is None else image_size
    elif cameras is None and not recipe.uses_images:
        cameras = ()
    return replace(options, cameras=cameras, vectors=vectors, image_size=image_size)
