"""What a frame of a world holds: cameras, vectors, outcome; the action; and how each is normalised.

A spec is made from data (`scd_wm.datasets.dataset.RobotDataset.spec`), travels inside every
checkpoint as JSON, and is all that the model knows about the robot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

DEFAULT_FPS = 10.0  # frames a second of what is shown, where the data does not say
OUTCOMES = ("reward", "terminated", "success")  # the only names an outcome may have, in this order


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """One camera. Pixels are uint8 and become [-1, 1].

    Latents are float, in the units of their autoencoder; each channel becomes mean 0 and deviation
    1. Without `mean` and `std` they are taken as they are.
    """

    height: int  # pixels, or latent cells
    width: int  # pixels, or latent cells
    channels: int = 3
    kind: Literal["pixels", "latent"] = "pixels"
    delta_std: float = 1.0  # RMS change between consecutive frames, in the model's range
    mean: tuple[float, ...] = ()  # (channels,) of latents
    std: tuple[float, ...] = ()  # (channels,) of latents, above 0
    downscale: int = 1  # pixels along a side of a latent cell

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = tuple(float(x) for x in getattr(self, name))
            object.__setattr__(self, name, values)
            if values and (self.kind != "latent" or len(values) != self.channels):
                raise ValueError(
                    f"{name} is for latents, a value a channel: got {len(values)} values for "
                    f"{self.channels} channels of kind {self.kind!r}"
                )
        if not all(x > 0 for x in self.std):
            raise ValueError(f"camera std must be above 0 everywhere, got {self.std}")
        if self.downscale < 1 or (self.kind == "pixels" and self.downscale > 1):
            raise ValueError(
                f"downscale must be 1 for pixels and at least 1 for latents, got {self.downscale}"
            )
        if min(self.height, self.width, self.channels) < 1:
            raise ValueError(
                f"a camera needs positive sizes, got {self.height}x{self.width}x{self.channels}"
            )
        if self.kind not in ("pixels", "latent"):
            raise ValueError(f"camera kind must be 'pixels' or 'latent', got {self.kind!r}")
        if not self.delta_std > 0:
            raise ValueError(f"camera delta_std must be above 0, got {self.delta_std}")

    @property
    def pixels(self) -> CameraSpec:
        """The camera as it is before encoding and after decoding."""
        if self.kind == "pixels":
            return self
        return CameraSpec(height=self.height * self.downscale, width=self.width * self.downscale)

    def to_json(self) -> dict[str, Any]:
        """Return the camera as plain JSON types; what is said of latents only where it is one."""
        of_latents = ("mean", "std", "downscale")
        return {
            k: v
            for k, v in asdict(self).items()
            if v != () and (self.kind == "latent" or k not in of_latents)
        }


@dataclass(frozen=True, kw_only=True)
class VectorSpec:
    """A vector of `dim` numbers; its mean and deviations in the data are in its own units."""

    dim: int
    mean: tuple[float, ...]  # (dim,)
    std: tuple[float, ...]  # (dim,), above 0
    delta_std: tuple[float, ...]  # (dim,) RMS change between consecutive frames, above 0

    def __post_init__(self) -> None:
        for name in ("mean", "std", "delta_std"):
            values = tuple(float(x) for x in getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != self.dim:
                raise ValueError(f"{name} has {len(values)} values for a vector of {self.dim}")
            if name != "mean" and not all(x > 0 for x in values):
                raise ValueError(f"{name} must be above 0 everywhere, got {values}")

    @classmethod
    def unit(cls, dim: int) -> VectorSpec:
        """Return a vector that needs no normalisation: mean 0, deviation 1."""
        return cls(dim=dim, mean=(0.0,) * dim, std=(1.0,) * dim, delta_std=(1.0,) * dim)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything a world model must know of its data.

    Raises:
        ValueError: If a frame would hold nothing, an outcome has an unknown name, two entries share
            a name, or `reward_std` is not above 0.
    """

    cameras: Mapping[str, CameraSpec] = field(default_factory=dict)
    vectors: Mapping[str, VectorSpec] = field(default_factory=dict)
    action: VectorSpec
    outcomes: tuple[str, ...] = ()  # a subset of OUTCOMES
    reward_mean: float = 0.0
    reward_std: float = 1.0
    fps: float | None = None  # frames a second after frame skip; None where the data does not say

    def __post_init__(self) -> None:
        unknown = sorted(set(self.outcomes) - set(OUTCOMES))
        if unknown:
            raise ValueError(f"unknown outcomes {unknown}; allowed are {OUTCOMES}")
        object.__setattr__(self, "outcomes", tuple(n for n in OUTCOMES if n in self.outcomes))
        if not self.cameras and not self.vectors:
            raise ValueError("a frame must hold at least one camera or vector, got none")
        shared = set(self.cameras) & set(self.vectors)
        if shared:
            raise ValueError(f"names used for a camera and a vector: {sorted(shared)}")
        reserved = {"action", *self.outcomes} & {*self.cameras, *self.vectors}
        if reserved:
            raise ValueError(f"no camera or vector may be called {sorted(reserved)}; leave it out")
        if not self.reward_std > 0:
            raise ValueError(f"reward_std must be above 0, got {self.reward_std}")

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Cameras first, then vectors, each in the order given: the order of tokens in a frame."""
        return (*self.cameras, *self.vectors)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON types; `from_json` is its inverse."""
        return asdict(self) | {"cameras": {k: c.to_json() for k, c in self.cameras.items()}}

    @property
    def pixels(self) -> Spec:
        """The same world with every camera's images as pixels."""
        return replace(self, cameras={k: c.pixels for k, c in self.cameras.items()})

    @property
    def has_latents(self) -> bool:
        """Whether a camera's images are latents, so that seeing them takes an autoencoder."""
        return any(camera.kind == "latent" for camera in self.cameras.values())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """Rebuild a spec from `to_json`.

        Raises:
            KeyError: If "cameras", "vectors" or "action" is missing.
            TypeError: If a field of theirs is missing or a field is unknown.
        """
        rest = {k: v for k, v in data.items() if k not in ("cameras", "vectors", "action")}
        return cls(
            cameras={k: CameraSpec(**v) for k, v in data["cameras"].items()},
            vectors={k: VectorSpec(**v) for k, v in data["vectors"].items()},
            action=VectorSpec(**data["action"]),
            **rest,
        )

    def check_same_layout(self, other: Spec, what: str) -> None:
        """Raise unless `other` has the same cameras, vectors and action, by name and size.

        Statistics and outcomes may differ: a model keeps its own.

        Args:
            other: The spec to compare with.
            what: What `other` belongs to, for the message, such as "data set /data/x.hdf5".

        Raises:
            ValueError: Naming the first difference, both values, and what to do.
        """
        mine, theirs = self.layout(), other.layout()
        for name in [*mine, *(n for n in theirs if n not in mine)]:
            if mine.get(name) != theirs.get(name):
                raise ValueError(
                    f"{what} does not fit the model: {name} is {theirs.get(name, 'absent')}, "
                    f"the model has {mine.get(name, 'none')}; choose keys and image size to match"
                )

    def layout(self) -> dict[str, str]:
        """Return each entry of a frame and the action with its size, as readable text."""
        cameras = {
            f"camera {n!r}": f"{c.height}x{c.width}x{c.channels}" for n, c in self.cameras.items()
        }
        vectors = {f"vector {n!r}": f"{v.dim} values" for n, v in self.vectors.items()}
        return cameras | vectors | {"action": f"{self.action.dim} values"}
