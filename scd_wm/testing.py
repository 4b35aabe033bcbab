"""What to test extensions of the package with: small specs, clips and models, `check_reader`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from scd_wm.clip import Clip
from scd_wm.datasets.check_reader import check_reader as check_reader  # public here
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.entangled import EntangledWorldModel
from scd_wm.model.fed import FedWorldModel
from scd_wm.model.scd import SCDWorldModel
from scd_wm.spec import CameraSpec, Spec, VectorSpec

M = TypeVar("M", bound=nn.Module)


def image_spec() -> Spec:
    """A camera, a vector, an action of two values and every outcome."""
    proprio = VectorSpec(
        dim=3, mean=(1.0, 2.0, 3.0), std=(0.5, 1.0, 2.0), delta_std=(0.1, 0.2, 0.3)
    )
    return Spec(
        cameras={"top": CameraSpec(height=16, width=24, delta_std=0.2)},
        vectors={"proprio": proprio},
        action=VectorSpec(dim=2, mean=(0.1, -0.1), std=(0.5, 0.7), delta_std=(1.0, 1.0)),
        outcomes=("reward", "terminated", "success"),
        reward_mean=0.3,
        reward_std=0.4,
    )


def state_spec() -> Spec:
    """A world without cameras."""
    return Spec(
        vectors={"a": VectorSpec.unit(2), "b": VectorSpec.unit(4)}, action=VectorSpec.unit(2)
    )


def config(**changes: Any) -> WorldModelConfig:
    """A model of two encoder and two decoder layers with a window of three frames."""
    small = WorldModelConfig(dim=32, num_heads=2, encoder_layers=2, decoder_layers=2, window=3)
    return replace(small, **changes)


def clip(spec: Spec, batch: int, num_frames: int, seed: int = 0) -> Clip:
    """Return random clips that fit `spec`, all valid."""
    random, frames = torch.Generator().manual_seed(seed), (batch, num_frames)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    def image(c: CameraSpec) -> Tensor:
        shape = (*frames, c.height, c.width, c.channels)
        if c.kind == "latent":
            return normal(*shape)
        return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)

    images = {name: image(c) for name, c in spec.cameras.items()}
    vectors = {name: normal(*frames, v.dim) for name, v in spec.vectors.items()}
    outcome = {name: (normal(*frames) > 0).float() for name in spec.outcomes}
    return Clip(
        images=images,
        vectors=vectors,
        outcome=outcome,
        actions=normal(batch, num_frames - 1, spec.action.dim),
        valid={k: torch.ones(frames, dtype=torch.bool) for k in [*images, *vectors, *outcome]},
        action_valid=torch.ones(batch, num_frames - 1, dtype=torch.bool),
        episodes=tuple(f"episode {i}" for i in range(batch)),
    )


def double(c: Clip) -> Clip:
    """Return the clip with its floats in float64."""
    return c.map(lambda x: x.double() if x.is_floating_point() else x)


def untied(model: M, seed: int = 0) -> M:
    """Fill every parameter with noise: a fresh model is the identity and would hide mistakes."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.15, generator=random)
    return model


def model(spec: Spec | None = None, **changes: Any) -> SCDWorldModel:
    """Return a small model with random parameters everywhere."""
    return untied(SCDWorldModel(spec or image_spec(), config(**changes)))


def entangled(spec: Spec | None = None, **changes: Any) -> EntangledWorldModel:
    """Return a small model of the rival architecture, with random parameters everywhere."""
    return untied(EntangledWorldModel(spec or image_spec(), config(arch="entangled", **changes)))


def fed(spec: Spec | None = None, **changes: Any) -> FedWorldModel:
    """Return a small model whose encoder is fed, with random parameters everywhere."""
    kept = {"fed_level": 0.8, "context_mode": "resume", "resume_layer": 1, **changes}
    return untied(FedWorldModel(spec or image_spec(), config(**kept)))
