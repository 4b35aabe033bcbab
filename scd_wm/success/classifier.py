"""Tells success from a single frame: a second opinion on what a world model predicts of it.

A small network that is trained on real frames (`scd-wm train-success`) and knows nothing of any
world model. Its folder holds

config.json         what it looks at, its sizes, and where it comes from
model.safetensors   weights

Axes: B frames, H height, W width, C channels, D values of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scd_wm.spec import CameraSpec, Spec
from scd_wm.training import files
from scd_wm.training.checkpoint import copy_tensors

FORMAT, FORMAT_VERSION = "scd_wm success classifier", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
COARSEST = 4  # an image is halved for as long as its least side stays this large
MAX_CHANNELS = 64
BATCH = 256  # frames judged at a time, so that memory does not grow with their number

Values = np.ndarray | Tensor


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Sizes of the network.

    Raises:
        ValueError: If a size is below 1.
    """

    channels: int = 16  # of the first convolution; twice as many at each halving, up to 64
    width: int = 128  # of the layers that join cameras and vectors

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


class SuccessNetwork(nn.Module):
    """Maps a frame to the log odds that it is a success.

    Each camera has strided convolutions of its own, whose last features keep their place, since
    success is often a matter of a few pixels. Vectors are normalised by the spec's mean and
    deviation. A perceptron joins them all.

    Args:
        spec: What it looks at: cameras of pixels, and vectors.
        sizes: Of the layers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, sizes: ClassifierConfig) -> None:
        super().__init__()
        self.spec, self.sizes = spec, sizes
        parts = [_convolutions(camera, sizes.channels) for camera in spec.cameras.values()]
        self.cameras = nn.ModuleList(layers for layers, _ in parts)
        num_features = sum(size for _, size in parts) + sum(v.dim for v in spec.vectors.values())
        self.head = nn.Sequential(
            nn.Linear(num_features, sizes.width),
            nn.SiLU(),
            nn.Linear(sizes.width, sizes.width),
            nn.SiLU(),
            nn.Linear(sizes.width, 1),
        )
        for name in ("mean", "std"):
            values = [x for vector in spec.vectors.values() for x in getattr(vector, name)]
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def forward(self, frames: Mapping[str, Tensor]) -> Tensor:
        """Return log odds, (B,).

        Args:
            frames: Cameras, (B, C, H, W) in [-1, 1], and vectors, (B, D) in their own units.
        """
        features = [
            layers(frames[name]).flatten(1)
            for name, layers in zip(self.spec.cameras, self.cameras, strict=True)
        ]
        if self.spec.vectors:
            values = torch.cat([frames[name] for name in self.spec.vectors], dim=1)
            features.append((values - self.mean) / self.std)
        return self.head(torch.cat(features, dim=1)).squeeze(1)


class SuccessClassifier:
    """Judges observations, whether a camera or a world model has seen them.

    Args:
        network: What judges; put into evaluation mode.
    """

    def __init__(self, network: SuccessNetwork) -> None:
        self.network = network.eval().requires_grad_(False)
        self.spec = network.spec

    def check(self, spec: Spec) -> None:
        """Raise unless the frames of a world or data set can be judged.

        It may hold more than is looked at. For a world of latents the decoded pixels are meant.

        Raises:
            ValueError: If something is missing or of another size; names the first.
        """
        wanted, there = self.spec.layout(), spec.pixels.layout()
        for name in wanted:
            if name != "action" and there.get(name) != wanted[name]:
                raise ValueError(
                    f"the success classifier looks at {name} of {wanted[name]}, the world has "
                    f"{there.get(name, 'none')}; train one on data with the world's keys and sizes"
                )

    @torch.inference_mode()
    def __call__(self, observation: Mapping[str, Values]) -> np.ndarray:
        """Return the probability that each frame is a success, (B,) float32.

        Args:
            observation: Cameras (B, H, W, C) uint8 and vectors (B, D) by name; what is not looked
                at is ignored.

        Raises:
            KeyError: If a camera or vector is not there.
            ValueError: If one has another shape.
        """
        values = {name: self._checked(observation, name) for name in self.spec.observation_names}
        count = len(next(iter(values.values())))
        parts = []
        for start in range(0, count, BATCH):
            part = {name: v[start : start + BATCH] for name, v in values.items()}
            parts.append(torch.sigmoid(self.network(network_inputs(part, self.spec))))
        return torch.cat(parts).cpu().numpy() if parts else np.zeros(0, np.float32)

    def _checked(self, observation: Mapping[str, Values], name: str) -> Tensor:
        """Return one entry on the network's device."""
        if name not in observation:
            raise KeyError(f"the success classifier looks at {name!r}; got {sorted(observation)}")
        values = torch.as_tensor(observation[name])
        camera = self.spec.cameras.get(name)
        wanted = (
            (self.spec.vectors[name].dim,)
            if camera is None
            else (camera.height, camera.width, camera.channels)
        )
        if tuple(values.shape[1:]) != wanted:
            shown = ", ".join(map(str, ("B", *wanted)))
            raise ValueError(f"{name!r} must be ({shown}), got {tuple(values.shape)}")
        return values.to(self.network.mean.device)


def network_inputs(observation: Mapping[str, Tensor], spec: Spec) -> dict[str, Tensor]:
    """Return observations as the network takes them.

    Args:
        observation: Cameras (B, H, W, C) uint8 and vectors (B, D) by name.
        spec: Which of them it looks at.
    """
    images = {n: observation[n].permute(0, 3, 1, 2).float() / 127.5 - 1 for n in spec.cameras}
    return images | {n: observation[n].float() for n in spec.vectors}


def save_success_classifier(
    network: SuccessNetwork, folder: Path, extra: Mapping[str, Any]
) -> None:
    """Write a network into an empty folder; the caller sees to it that the folder is whole.

    Args:
        network: What to write.
        folder: Where to.
        extra: More entries of config.json, in JSON types.
    """
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "sizes": asdict(network.sizes),
        "spec": network.spec.to_json(),
        **extra,
    }
    files.write_json(folder / CONFIG, config)
    files.write_tensors(folder / WEIGHTS, network.state_dict())


def load_success_classifier(path: str | Path, device: str = "cpu") -> SuccessClassifier:
    """Load what `scd-wm train-success` wrote.

    Args:
        path: The folder.
        device: Where it judges.

    Raises:
        FileNotFoundError: If there is no such folder, or no weights in it.
        ValueError: If it holds something else, or a file is damaged.
    """
    folder = Path(path)
    if not (folder / CONFIG).is_file():
        what = f"{folder} holds no success classifier" if folder.is_dir() else f"no folder {folder}"
        raise FileNotFoundError(f"{what}; make one with scd-wm train-success")
    config = files.read_json(folder / CONFIG)
    found = config.get("format"), config.get("format_version")
    if found != (FORMAT, FORMAT_VERSION):
        raise ValueError(
            f"{folder / CONFIG} is of {found[0]!r}, version {found[1]!r}; a success classifier is "
            f"of {FORMAT!r}, version {FORMAT_VERSION}"
        )
    try:
        sizes = ClassifierConfig(**config["sizes"])
        network = SuccessNetwork(Spec.from_json(config["spec"]), sizes)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG} does not fit this version: {error}") from None
    copy_tensors(files.read_tensors(folder / WEIGHTS), network.state_dict(), folder / WEIGHTS)
    return SuccessClassifier(network.to(device))


def _convolutions(camera: CameraSpec, first: int) -> tuple[nn.Sequential, int]:
    """Return layers that halve a camera's images again and again, and how many values are left."""
    layers: list[nn.Module] = []
    height, width, before, after = camera.height, camera.width, camera.channels, first
    while min(height, width) >= 2 * COARSEST or not layers:
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
        height, width = (height + 1) // 2, (width + 1) // 2
        before, after = after, min(2 * after, MAX_CHANNELS)
    return nn.Sequential(*layers), before * height * width
