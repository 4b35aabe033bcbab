"""World models on disk: a folder of config.json and model.safetensors.

config.json holds the model's configuration, its spec and what else is worth knowing of its origin.
A world of latents has its autoencoder beside it, in the folder `autoencoder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scd_wm.assets import SHIPPED
from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.load import load_autoencoder, write_copy
from scd_wm.model.build import build_world_model
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.engine import prepare
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec
from scd_wm.training import files
from scd_wm.training.familiarity_files import attach_familiarity, write_familiarity

FORMAT = "scd_wm model"
FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
AVERAGED = "ema.safetensors"  # weights of a checkpoint
CHECKPOINTS, EXPORT = "checkpoints", "model"  # folders of a run
AUTOENCODER = "autoencoder"  # folder of a run or model whose world is one of latents
PREFIX = "step_"  # of a checkpoint's name; the number of steps follows


def save_pretrained(
    model: WorldModel,
    folder: str | Path,
    extra: Mapping[str, Any] | None = None,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    weights: Mapping[str, Tensor] | None = None,
    autoencoder: Autoencoder | None = None,
) -> Path:
    """Write a world model as a folder, whole or not at all; one of that name is replaced.

    What the model knows of its training data (`scd-wm calibrate`) goes with its own weights.

    Args:
        model: The world model.
        folder: Where to.
        extra: More entries of config.json, of JSON types, such as where the weights come from.
        dtype: In which weights are stored; float16 halves the size, and they are loaded as float32.
        weights: In place of the parameters of these names, such as their averages.
        autoencoder: Of a world of latents; without one its frames cannot be looked at.

    Returns:
        The folder.

    Raises:
        FileExistsError: If `folder` is there and holds something else.
        ValueError: If `dtype` is unknown or a weight is too large for it.
    """
    folder = Path(folder)
    if folder.exists() and not _is_export(folder) and (folder.is_file() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} holds something other than a model; choose another folder")
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": asdict(model.config),
        "spec": model.spec.to_json(),
        **(extra or {}),
    }
    tensors = {**model.state_dict(), **(weights or {})}
    with files.new_folder(folder) as partial:
        files.write_json(partial / CONFIG, config)
        files.write_tensors(partial / WEIGHTS, _stored(tensors, dtype))
        if model.familiarity is not None and weights is None:  # of other weights it would not be
            write_familiarity(partial, model.familiarity, model)
        if autoencoder is not None:
            (partial / AUTOENCODER).mkdir()
            autoencoder.write(partial / AUTOENCODER)
    return folder


@dataclass(frozen=True)
class Autoencoder:
    """The autoencoder of a world of latents, and where it came from."""

    model: FrameAutoencoder
    source: str  # a path, or an id on the model hub

    @classmethod
    def load(cls, source: str | Path) -> Autoencoder:
        """Load an autoencoder; see `scd_wm.autoencoder.load.load_autoencoder`."""
        return cls(load_autoencoder(source), str(source))

    def write(self, folder: Path) -> None:
        """Put it into an empty folder: a copy, or a reference if it is large."""
        write_copy(self.model, folder, self.source)

    def describe(self) -> dict[str, Any]:
        """Return what config.json says of it."""
        return {
            "name": self.model.name,
            "identity": self.model.identity,
            "channels": self.model.channels,
            "downscale": self.model.downscale,
            "source": self.source,
        }


def load_world_autoencoder(
    path: str | Path, device: torch.device | str = "cpu"
) -> FrameAutoencoder | None:
    """Load the autoencoder of a run or model; None if its world is one of pixels.

    Args:
        path: As in `load_world_model`.
        device: Where it is put.

    Raises:
        FileNotFoundError: If there is nothing at `path`, or its autoencoder is missing.
        ValueError: If it is damaged, or not the one of training.
    """
    path = check_folder(path)
    config = files.read_json(path / CONFIG)
    if not any(camera.get("kind") == "latent" for camera in config["spec"]["cameras"].values()):
        return None
    if not (path / AUTOENCODER).is_dir():
        raise FileNotFoundError(
            f"{path} is a world of latents without its autoencoder: no folder {AUTOENCODER}; put a "
            "copy of the one of training there to see what it imagines"
        )
    autoencoder = load_autoencoder(path / AUTOENCODER)
    trained = (config.get("autoencoder") or {}).get("identity", autoencoder.identity)
    if trained != autoencoder.identity:
        raise ValueError(f"{path / AUTOENCODER} is not the autoencoder that {path} was trained on")
    return autoencoder.to(device)


def from_pretrained(folder: str | Path, device: torch.device | str = "cpu") -> WorldModel:
    """Load a world model that `save_pretrained` wrote, in float32 and evaluation mode.

    Raises:
        FileNotFoundError: If the folder or one of its two files is not there.
        ValueError: If a file is damaged, or weights and configuration do not fit each other.
    """
    model = _exported(Path(folder))
    attach_familiarity(model, Path(folder))
    return model.to(device).eval()


def _exported(folder: Path) -> WorldModel:
    model = build_model(files.read_json(folder / CONFIG), folder / CONFIG)
    load_weights(model, folder / WEIGHTS)
    return model


def load_world_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    engine: str = "plain",
    *,
    familiarity: bool = True,
) -> WorldModel:
    """Load a run's newest averaged weights, an exported model, or one that ships with the package.

    Args:
        path: A folder, or the name of a shipped model such as "push_t_tiny".
        device: Where the model is put.
        engine: How it is run, see `scd_wm.model.engine`. All but "plain" are for imagination only;
            "auto" is the best that needs no compiling.
        familiarity: Also load what it knows of its training data, if that is there.

    Raises:
        FileNotFoundError: If there is nothing at `path`, or the run has no weights yet.
        ValueError: If it is neither, a file is damaged, weights and configuration do not fit, or
            the engine cannot run the model there.
    """
    model, folder = _load(check_folder(path))
    if familiarity:
        attach_familiarity(model, folder)
    model = model.to(device).eval()
    return model if engine == "plain" else prepare(model, engine)


def _load(path: Path) -> tuple[WorldModel, Path]:
    """Load from what `check_folder` returns; return also the folder that the weights are in."""
    newest = latest_checkpoint(path)
    if newest is not None:
        model = build_model(files.read_json(path / CONFIG), path / CONFIG)
        load_weights(model, newest / AVERAGED)
        return model, newest
    for folder in (path, path / EXPORT):
        if _is_export(folder):
            return _exported(folder), folder
    raise FileNotFoundError(f"run {path} has no weights yet: no checkpoint and no {EXPORT} folder")


def check_folder(path: str | Path) -> Path:
    """Return the run folder or exported model at `path`, or the shipped model of that name.

    Raises:
        FileNotFoundError: If there is nothing there.
        ValueError: If it is something else; says what.
    """
    path = Path(path)
    if not path.exists():
        if str(path) in SHIPPED:
            return SHIPPED[str(path)]
        raise FileNotFoundError(
            f"no run or model folder {path}; models that ship with the package: {list(SHIPPED)}"
        )
    if not path.is_dir():
        raise ValueError(f"{path} is a file, not a run or model folder")
    if not (path / CONFIG).is_file():
        raise ValueError(
            f"{path} is not a run or model folder: it has no {CONFIG}, but "
            f"{files.describe_folder(path)}"
        )
    return path


def build_model(config: Mapping[str, Any], source: Path) -> WorldModel:
    """Return the model that config.json describes, with initial weights.

    Raises:
        ValueError: If the description does not fit this version; names `source`.
    """
    try:
        spec, sizes = Spec.from_json(config["spec"]), WorldModelConfig(**config["model"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{source} does not describe a model of this version: {error}") from None
    return build_world_model(spec, sizes)


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy weights from a safetensors file, as float32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or its names or shapes are not those of the model.
    """
    copy_tensors(files.read_tensors(path), model.state_dict(), path)


def copy_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors of the same names and shapes.

    Raises:
        ValueError: If names or shapes differ; names the first, and `path`.
    """
    for name in [*target, *(n for n in source if n not in target)]:
        got = tuple(source[name].shape) if name in source else "absent"
        wanted = tuple(target[name].shape) if name in target else "absent"
        if got != wanted:
            raise ValueError(f"{path} does not fit: {name} is {got}, the model has {wanted}")
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(source[name])


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    found = [p for p in (run / CHECKPOINTS).glob(f"{PREFIX}*") if p.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=checkpoint_step)


def checkpoint_step(checkpoint: Path) -> int:
    """Return the number of steps after which a checkpoint was written."""
    return int(checkpoint.name[len(PREFIX) :])


def latest_checkpoint(run: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, or None."""
    found = checkpoints(run)
    return found[-1] if found else None


def _is_export(path: Path) -> bool:
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def _stored(tensors: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    kinds = {"float32": torch.float32, "float16": torch.float16}
    if dtype not in kinds:
        raise ValueError(f"dtype must be one of {list(kinds)}, got {dtype!r}")
    stored = {n: t.to(kinds[dtype]) if t.is_floating_point() else t for n, t in tensors.items()}
    for name, tensor in stored.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"weight {name} is not finite as {dtype}")
    return stored
