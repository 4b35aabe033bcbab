"""Which data a run was trained on, and which episodes it never saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.options import DataOptions
from scd_wm.spec import CameraSpec, Spec, VectorSpec
from scd_wm.training import files
from scd_wm.training.checkpoint import CONFIG, check_folder

SPLIT_SEED = 0  # of the choice of held-out episodes: the same for runs of different seeds


def split_data(dataset: RobotDataset, share: float) -> tuple[RobotDataset, RobotDataset | None]:
    """Return the episodes to train on and those held out, which is None for a share of 0.

    Raises:
        ValueError: If the share is not in [0, 1), or there is one episode only.
    """
    if share == 0:
        return dataset, None
    if len(dataset.episodes) == 1:
        raise ValueError(f"{dataset.info.path} has one episode: give held_out=0 to train on it")
    return dataset.split(share, SPLIT_SEED)


def describe_data(
    path: str | Path, dataset: RobotDataset, part: RobotDataset, held_out: RobotDataset | None
) -> dict[str, Any]:
    """Return what config.json says about the data, in JSON types."""
    return {
        "path": str(path),
        "format": dataset.info.format,
        "fingerprint": fingerprint(dataset),
        "cameras": list(dataset.cameras),
        "vectors": list(dataset.vectors),
        "image_sizes": {name: list(size) for name, size in dataset.image_sizes.items()},
        "options": dataset.options.to_json(),
        "num_train_episodes": len(part.episodes),
        "num_train_steps": part.num_steps,
        "held_out": [] if held_out is None else [e.name for e in held_out.episodes],
    }


def fingerprint(dataset: RobotDataset) -> str:
    """Return a hash that tells data sets apart wherever they lie.

    Of the names and lengths of all episodes, and the actions of the first and the last.
    """
    episodes = [(e.name, e.num_actions) for e in dataset.info.episodes]
    digest = hashlib.sha256(json.dumps(episodes).encode())
    for index in (0, len(dataset.episodes) - 1):
        digest.update(dataset.arrays(index).actions.tobytes())
    return digest.hexdigest()[:16]


def open_run_data(run: str | Path, path: str | Path | None = None) -> RobotDataset:
    """Open the episodes that a model never saw in training, with the keys and sizes it needs.

    They hold pixels, of worlds of latents too: what is imagined is compared with what was seen.
    See `open_run_parts`.

    Args:
        run: A run folder or an exported model.
        path: The data set; None is the one of training. If it is that one, wherever it lies, the
            episodes held out of training are chosen, else all.

    Raises:
        FileNotFoundError: If there is nothing at `run` or `path`.
        KeyError: If the data lacks a camera or vector of the model.
        ValueError: If the data does not fit the model, or training held no episode of it out.
    """
    trained, rest = open_run_parts(run, path)
    if rest is None:
        raise ValueError(
            f"{run} was trained on all episodes of {trained.info.path}; use other data"
        )
    return rest


def open_evaluated(
    run: str | Path, data: str | Path | None
) -> tuple[RobotDataset | None, RobotDataset]:
    """Return the episodes trained on, None for data other than that, and those to evaluate.

    Raises:
        FileNotFoundError, KeyError, ValueError: As `open_run_data`.
    """
    held_out = open_run_data(run, data)
    trained, _ = open_run_parts(run, data)
    if {e.name for e in trained.episodes} & {e.name for e in held_out.episodes}:
        return None, held_out
    trained.prepare()
    return trained, held_out


def open_run_parts(
    run: str | Path, path: str | Path | None = None
) -> tuple[RobotDataset, RobotDataset | None]:
    """Open what a model was trained on and what it never saw, with the keys and sizes it needs.

    Args:
        run: A run folder or an exported model.
        path: The data set; None is the one of training.

    Returns:
        Of the data of training, wherever it lies, the episodes trained on and those held out, None
        if there are none; of other data twice all of it.

    Raises:
        FileNotFoundError, KeyError, ValueError: As `open_run_data`.
    """
    config = files.read_json(check_folder(run) / CONFIG)
    spec, data = Spec.from_json(config["spec"]).pixels, config.get("data", {})
    path = path if path is not None else data.get("path")
    if path is None:
        raise ValueError(f"{run} does not say what data it was trained on; name the data set")
    options = DataOptions.from_json(data.get("options", {}))
    dataset = open_dataset(
        path,
        options,
        cameras=tuple(spec.cameras),
        vectors=tuple(spec.vectors),
        image_size=options.image_size or common_image_size(spec),
    )
    spec.check_same_layout(layout_spec(dataset), f"data set {path}")
    if data.get("fingerprint") != fingerprint(dataset):
        return dataset, dataset
    if not data["held_out"]:
        return dataset, None
    held_out = {*data["held_out"]}
    trained = [e.name for e in dataset.episodes if e.name not in held_out]
    return select_episodes(dataset, trained), select_episodes(dataset, data["held_out"])


def select_episodes(dataset: RobotDataset, names: Sequence[str]) -> RobotDataset:
    """Return the data set with only the episodes of these names."""
    index = {episode.name: i for i, episode in enumerate(dataset.episodes)}
    return dataset.subset([index[name] for name in names])


def layout_spec(dataset: RobotDataset) -> Spec:
    """Return a spec with the sizes of the data and no statistics, without reading the data."""
    channels = {name: dataset.info.fields[name].shape[-1] for name in dataset.cameras}
    return Spec(
        cameras={
            name: CameraSpec(height=height, width=width, channels=channels[name])
            for name, (height, width) in dataset.image_sizes.items()
        },
        vectors={
            name: VectorSpec.unit(dataset.info.fields[name].shape[0]) for name in dataset.vectors
        },
        action=VectorSpec.unit(dataset.action_dim),
        outcomes=dataset.outcomes,
    )


def common_image_size(spec: Spec) -> tuple[int, int] | None:
    """Return the size of all images of a spec, or None if there is none or they differ."""
    sizes = {(camera.height, camera.width) for camera in spec.cameras.values()}
    return sizes.pop() if len(sizes) == 1 else None


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a line on every value that two configurations of JSON types do not share."""
    lines = []
    for name in [*before, *(n for n in after if n not in before)]:
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            lines.append(f"{prefix}{name} was {_short(old)} and is {_short(new)}")
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
