"""Autoencoders of the diffusers library: from a local folder, or from the model hub by id.

Only safetensors files are read. The library is optional and imported when it is needed.

Axes: N images, H height, W width, h and w of a latent, C channels of a latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.torchvision_shim import declare_torchvision_operators

CLASSES = ("AutoencoderTiny", "AutoencoderDC", "AutoencoderKL")
CLASS_KEY = "_class_name"  # in a config.json of the library
PROBE_SIZE = 128  # side of the image that tells how far an autoencoder scales down, pixels


class HubAutoencoder(FrameAutoencoder):
    """An autoencoder of diffusers, with the scale and shift that its configuration states.

    Where it gives a distribution over latents, as `AutoencoderKL` does, the mode is taken.

    Args:
        inner: The library's model.
    """

    def __init__(self, inner: Any) -> None:
        with torch.no_grad():
            code = _code(inner, torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE))
        super().__init__(type(inner).__name__, code.shape[1], PROBE_SIZE // code.shape[2])
        self.scale = float(inner.config.scaling_factor)
        self.shift = float(getattr(inner.config, "shift_factor", None) or 0.0)
        self.inner = inner

    def to_latents(self, images: Tensor) -> Tensor:
        """Return latents, (N, C, h, w), of images, (N, 3, H, W) in [0, 1]."""
        return (_code(self.inner, 2 * images - 1) - self.shift) * self.scale

    def to_images(self, latents: Tensor) -> Tensor:
        """Return images, (N, 3, H, W), of latents, (N, C, h, w)."""
        decoded: Tensor = self.inner.decode(latents / self.scale + self.shift).sample
        return (decoded + 1) / 2

    @property
    def config(self) -> Mapping[str, Any]:
        """Class, scale and shift; the weights say the rest."""
        return {"class": self.name, "scale": self.scale, "shift": self.shift}

    def write(self, folder: Path) -> None:
        """Write a copy in the library's own format."""
        self.inner.save_pretrained(folder, safe_serialization=True)


def read_diffusers(folder: Path, config: Mapping[str, Any]) -> HubAutoencoder:
    """Read an autoencoder from a folder that the library wrote.

    Args:
        folder: Holds config.json and weights in safetensors.
        config: The content of config.json.

    Raises:
        ModuleNotFoundError: If diffusers is not installed.
        ValueError: If the class is none of `CLASSES`, or a file is damaged.
    """
    kind = config[CLASS_KEY]
    if kind not in CLASSES:
        raise ValueError(f"{folder} holds a {kind!r}; autoencoders of single images are {CLASSES}")
    declare_torchvision_operators()  # the library imports torchvision
    import diffusers

    try:
        inner = getattr(diffusers, kind).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, torch_dtype=torch.float32
        )
    except Exception as error:  # the library has no type of its own for files that do not fit
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ValueError(f"the {kind} in {folder} cannot be read: {reason}") from None
    return HubAutoencoder(inner)


def is_hub_id(text: str) -> bool:
    """Say whether a text may be an id: owner/model, or owner/model/folder."""
    parts = text.split("/")
    return len(parts) in (2, 3) and all(p and not p.startswith((".", "~")) for p in parts)


def fetch(hub_id: str) -> Path:
    """Return the local folder of an autoencoder of the hub, downloading what is not there yet.

    Args:
        hub_id: owner/model, or owner/model/folder where it is a part of a larger model.

    Raises:
        FileNotFoundError: If it cannot be had, as without a network.
        ModuleNotFoundError: If huggingface_hub is not installed.
    """
    from huggingface_hub import snapshot_download

    owner, model, *inside = hub_id.split("/")
    prefix = f"{inside[0]}/" if inside else ""
    wanted = [f"{prefix}config.json", f"{prefix}diffusion_pytorch_model*.safetensors*"]
    try:
        folder = Path(snapshot_download(f"{owner}/{model}", allow_patterns=wanted)) / prefix
    except Exception as error:  # of the network, the hub or its cache: each has types of its own
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise FileNotFoundError(
            f"there is no folder {hub_id}, and no autoencoder of that id could be had from the hub "
            f"({reason}); give a local folder"
        ) from None
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{hub_id} on the hub has no {prefix}config.json")
    return folder


def _code(inner: Any, images: Tensor) -> Tensor:
    """Return what a model of the library makes of images in [-1, 1], not scaled."""
    result = inner.encode(images)
    if hasattr(result, "latent_dist"):
        return result.latent_dist.mode()
    return result.latents if hasattr(result, "latents") else result.latent
