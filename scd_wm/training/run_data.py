"""Which data a run was trained on, and which episodes it never saw."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.options import DataOptions
from scd_wm.spec import CameraSpec, Spec, VectorSpec
from scd_wm.training import files
from scd_wm.training.checkpoint import CONFIG, check_folder

SPLIT_SEED = 0  # of the choice of held-out episodes: the same for runs of different seeds


def split_data(
    dataset: RobotDataset, held_out: float | Collection[str]
) -> tuple[RobotDataset, RobotDataset | None]:
    """Return the episodes to train on and those held out, None if there are none.

    Args:
        dataset: What to split.
        held_out: Share of the episodes, or their names, as an earlier split chose them.

    Raises:
        ValueError: If the share is not in [0, 1), or there is one episode only.
    """
    if not isinstance(held_out, float | int):
        return _divide(dataset, [episode.name not in held_out for episode in dataset.episodes])
    if held_out == 0:
        return dataset, None
    if len(dataset.episodes) == 1:
        raise ValueError(f"{dataset.info.path} has one episode: give held_out=0 to train on it")
    return dataset.split(held_out, SPLIT_SEED)


def _divide(
    dataset: RobotDataset, is_trained_on: Sequence[bool]
) -> tuple[RobotDataset, RobotDataset | None]:
    kinds: dict[bool, list[int]] = {True: [], False: []}
    for i, kind in enumerate(is_trained_on):
        kinds[kind].append(i)
    return dataset.subset(kinds[True]), dataset.subset(kinds[False]) if kinds[False] else None


def describe_data(
    path: str | Path, dataset: RobotDataset, part: RobotDataset, held_out: RobotDataset | None
) -> dict[str, Any]:
    """Return what config.json says about the data, in JSON types."""
    return {
        "path": str(path),
        "format": dataset.info.format,
        "fingerprint": fingerprint(dataset),
        "parts": {part.prefix: part.fingerprint for part in _parts(dataset)},
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
    all_of_it = range(len(dataset.info.episodes))
    return _fingerprint(dataset, "", all_of_it, range(len(dataset.episodes)))


@dataclass(frozen=True)
class _Part:
    """What was mixed with others, or a whole data set."""

    prefix: str  # of the names of its episodes
    fingerprint: str  # that it has if it is opened alone
    used: list[int]  # indices of its episodes among those in use


def _parts(dataset: RobotDataset) -> list[_Part]:
    """Return the parts of which episodes are in use."""
    place, parts = {index: i for i, index in enumerate(dataset.indices)}, []
    for prefix, episodes in dataset.parts.items():
        used = [place[index] for index in episodes if index in place]
        if used:
            parts.append(_Part(prefix, _fingerprint(dataset, prefix, episodes, used), used))
    return parts


def _fingerprint(dataset: RobotDataset, prefix: str, part: range, used: Sequence[int]) -> str:
    """Return the hash of a part: of all its episodes in the source, and of those in use."""
    episodes = dataset.info.episodes[part.start : part.stop]
    own = [(e.name.removeprefix(prefix), e.num_actions) for e in episodes]
    digest = hashlib.sha256(json.dumps(own).encode())
    for index in (used[0], used[-1]):
        digest.update(dataset.arrays(index).actions.tobytes())
    return digest.hexdigest()[:16]


def open_run_data(run: str | Path, path: str | Path | None = None) -> RobotDataset:
    """Open the episodes that a model never saw in training, with the keys and sizes it needs.

    They hold pixels, of worlds of latents too: what is imagined is compared with what was seen.
    See `open_run_parts`.

    Args:
        run: A run folder or an exported model.
        path: The data set; None is the one of training. Of that one, wherever it lies, and of parts
            that both are mixed of, the episodes held out of training are chosen; of other data all.

    Raises:
        FileNotFoundError: If there is nothing at `run` or `path`.
        KeyError: If the data lacks a camera or vector of the model.
        ValueError: If the data does not fit the model, or training held no episode of it out.
    """
    return _open_parts(run, path)[1]


def open_evaluated(
    run: str | Path, data: str | Path | None
) -> tuple[RobotDataset | None, RobotDataset]:
    """Return the episodes trained on, None for data other than that, and those to evaluate.

    Raises:
        FileNotFoundError, KeyError, ValueError: As `open_run_data`.
    """
    trained, held_out = _open_parts(run, data)
    if held_out is trained:
        return None, held_out
    trained.prepare()
    return trained, held_out


def _open_parts(run: str | Path, path: str | Path | None) -> tuple[RobotDataset, RobotDataset]:
    """Return what `open_run_parts` does, if there is an episode that the model never saw."""
    trained, rest = open_run_parts(run, path)
    if rest is None:
        raise ValueError(
            f"{run} was trained on all episodes of {trained.info.path}; use other data"
        )
    return trained, rest


def open_run_parts(
    run: str | Path, path: str | Path | None = None
) -> tuple[RobotDataset, RobotDataset | None]:
    """Open what a model was trained on and what it never saw, with the keys and sizes it needs.

    Args:
        run: A run folder or an exported model.
        path: The data set; None is the one of training.

    Returns:
        Of data with episodes trained on, wherever it lies, these and all others, None if there are
        none; of other data twice all of it.

    Raises:
        FileNotFoundError, KeyError, ValueError: As `open_run_data`.
    """
    config = files.read_json(check_folder(run) / CONFIG)
    spec, data = Spec.from_json(config["spec"]).pixels, config.get("data", {})
    if path is None:
        path = _own_data(run, data)
    options = DataOptions.from_json(data.get("options", {}))
    dataset = open_dataset(
        path,
        options,
        cameras=tuple(spec.cameras),
        vectors=tuple(spec.vectors),
        image_size=options.image_size or common_image_size(spec),
    )
    spec.check_same_layout(layout_spec(dataset), f"data set {path}")
    seen = _seen(data, dataset)
    if not any(seen):
        if "parts" not in data and str(data.get("format")).startswith("mixture"):
            print(
                f"{run} was trained on a mixture, {data['path']}, and does not say of what: if "
                f"{path} is a part of it, some of these episodes were trained on",
                file=sys.stderr,
            )
        return dataset, dataset
    return _divide(dataset, seen)


def _own_data(run: str | Path, data: Mapping[str, Any]) -> str:
    """Return where the data of training is, by what config.json says about it."""
    path = data.get("path")
    if path is None:
        raise ValueError(f"{run} does not say what data it was trained on; name the data set")
    if not Path(path).exists():
        raise FileNotFoundError(f"{run} was trained on {path}, which is not here; name a data set")
    return str(path)


def _seen(data: Mapping[str, Any], dataset: RobotDataset) -> list[bool]:
    """Return whether each episode was trained on, by what config.json says about the data.

    A part may be in a mixture twice; it is then trained on unless both are held out.
    """
    whole = data.get("fingerprint")
    held_out, trained_parts = {*data.get("held_out", ())}, data.get("parts", {"": whole})
    if whole == fingerprint(dataset):
        return [episode.name not in held_out for episode in dataset.episodes]
    seen = [False] * len(dataset.episodes)
    for part in _parts(dataset):
        trained_as = [name for name, mark in trained_parts.items() if mark == part.fingerprint]
        for i in part.used:
            own = dataset.episodes[i].name.removeprefix(part.prefix)
            seen[i] = any(f"{name}{own}" not in held_out for name in trained_as)
    return seen


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
