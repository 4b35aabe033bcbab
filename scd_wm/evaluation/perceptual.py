"""ST-LPIPS: a learned perceptual distance between images that forgives shifts of a pixel or two.

Ghildyal and Liu 2022, "Shift-tolerant Perceptual Similarity Metric" (arXiv:2207.13686), on LPIPS
(Zhang et al. 2018, arXiv:1801.03924) and blurred downsampling (Zhang 2019, arXiv:1904.11486). It is
not LPIPS, and its numbers are not comparable with LPIPS's. The network is written anew here; only
its trained weights come from the package stlpips-pytorch, read as tensors. The package itself is
never imported: it wants IPython, torchsummary and torchvision.

Axes: B clips, T frames, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

PACKAGE = "stlpips_pytorch"
WEIGHTS = "weights/vST0.0/alex_shift_tolerant.pth"
MISSING = "stlpips-pytorch is not installed; pip install 'scd-wm[perceptual]'"
NAME = "ST-LPIPS (AlexNet)"
FEATURES = "ST-LPIPS AlexNet features of single frames"  # motion is not in them
SMALLEST = 32  # pixels along a side that the network needs
AT_ONCE = 64  # images; bounds memory


class PerceptualNetwork(nn.Module):
    """AlexNet with blurred downsampling, and the weights of its channels for a distance."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 11, padding=2)
        self.conv2 = nn.Conv2d(64, 192, 5, padding=2)
        self.conv3 = nn.Conv2d(192, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 256, 3, padding=1)
        self.conv5 = nn.Conv2d(256, 256, 3, padding=1)
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        self.channel_weights = nn.ParameterList(
            nn.Parameter(torch.zeros(1, n, 1, 1)) for n in (64, 192, 384, 256, 256)
        )

    @classmethod
    def installed(cls) -> Self | None:
        """Return the network with the weights of the installed package, None without it."""
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            return None
        stored = torch.load(Path(spec.origin).parent / WEIGHTS, "cpu", weights_only=True)
        network = cls()
        names = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
        own = {"shift": stored["scaling_layer.shift"], "scale": stored["scaling_layer.scale"]}
        for i, name in enumerate(names):
            own |= {f"conv{i + 1}.{k}": stored[f"net.{name}.{k}"] for k in ("weight", "bias")}
            own[f"channel_weights.{i}"] = stored[f"lin{i}.model.1.weight"]
        network.load_state_dict(own)
        return network.eval().requires_grad_(False)

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return the five layers that count, (N, C, H, W) each.

        Args:
            images: (N, 3, H, W), -1 to 1; sides of `SMALLEST` or more.
        """
        x = (images - self.shift) / self.scale
        first = F.relu(_blur(self.conv1(x)))
        second = F.relu(self.conv2(_pool(first)))
        third = F.relu(self.conv3(_pool(second)))
        fourth = F.relu(self.conv4(third))
        return [first, second, third, fourth, F.relu(self.conv5(fourth))]

    def distance(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        """Return the distance between images by their layers, (N,)."""
        total = torch.zeros(len(one[0]))
        for a, b, weight in zip(one, other, self.channel_weights, strict=True):
            apart = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square()
            total = total + (apart * weight).sum(dim=1).mean(dim=(1, 2))
        return total


def perceive(
    network: PerceptualNetwork, imagined: Mapping[str, Tensor], real: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Measure images of several models against the real ones.

    Args:
        network: Of the distance.
        imagined: Model to images, (B, T, H, W, 3) uint8.
        real: (B, T, H, W, 3) uint8.

    Returns:
        Distances, (B, T) for each model, and means over the picture of the last layer, (B, T, C)
        for each model and, under "", of the real images.
    """
    distances: dict[str, list[Tensor]] = {name: [] for name in imagined}
    features: dict[str, list[Tensor]] = {name: [] for name in ("", *imagined)}
    flat = {name: rearrange(x, "b t h w c -> (b t) c h w") for name, x in imagined.items()}
    pictures = rearrange(real, "b t h w c -> (b t) c h w")
    for start in range(0, len(pictures), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        target = network.layers(_signed(pictures[rows]))
        features[""].append(target[-1].mean(dim=(2, 3)))
        for name, images in flat.items():
            layers = network.layers(_signed(images[rows]))
            distances[name].append(network.distance(layers, target))
            features[name].append(layers[-1].mean(dim=(2, 3)))
    shape = {"b": real.shape[0], "t": real.shape[1]}
    return (
        {k: rearrange(torch.cat(v), "(b t) -> b t", **shape) for k, v in distances.items()},
        {k: rearrange(torch.cat(v), "(b t) c -> b t c", **shape) for k, v in features.items()},
    )


def _signed(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def _pool(x: Tensor) -> Tensor:
    return _blur(F.max_pool2d(x, 3, stride=1))


def _blur(x: Tensor) -> Tensor:
    """Halve the size after a blur by the binomial filter 1 2 1, mirrored two pixels at a border."""
    line = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])
