"""Autoencoders of ours on disk: a folder of config.json and model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FORMAT, FORMAT_VERSION = "scd_wm autoencoder", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_folder(
    folder: Path, kind: str, sizes: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write configuration and weights; the caller sees to it that the folder is whole.

    Args:
        folder: An empty one.
        kind: Which class it is for.
        sizes: Arguments of the class, of JSON types.
        tensors: Weights by name, in the dtype to keep.
    """
    text = json.dumps(folder_config(kind, sizes), indent=2) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    write_tensors(folder / WEIGHTS, tensors)


def folder_config(kind: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.json holds."""
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "sizes": dict(sizes)}


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json.

    Raises:
        ValueError: If it is damaged or no JSON object.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} must hold a JSON object, got {type(config).__name__}")
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights of an autoencoder; see `read_tensors`."""
    if not path.is_file():
        raise FileNotFoundError(f"the autoencoder {path.parent} has no weights: no {path.name}")
    return read_tensors(path)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name as a safetensors file."""
    path.touch()  # for the mode of any new file: safetensors gives its own mode 0600
    mode = path.stat().st_mode
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(mode)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from None


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into a module, as float32; all names and shapes must be the module's.

    Raises:
        ValueError: If one is missing, left over, of another shape or not finite; names the first.
    """
    target = module.state_dict()
    for name in [*target, *(n for n in tensors if n not in target)]:
        got = tuple(tensors[name].shape) if name in tensors else "absent"
        wanted = tuple(target[name].shape) if name in target else "absent"
        if got != wanted:
            raise ValueError(f"{path} does not fit: {name} is {got}, the autoencoder has {wanted}")
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"{path} is damaged: {name} is not finite")
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
