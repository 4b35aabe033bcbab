"""Every metric of a batch of imagined clips, by name, with what each name means.

Axes: B clips, T imagined frames, A values of an action. Names are "<metric>/<what>", such as
"psnr/top", "position_px/top/pusher" or "rmse/agent_pos".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation import metrics
from scd_wm.evaluation.locate import TrackedColour, found, last_known, locate, typical_mass
from scd_wm.imagination import Frames
from scd_wm.spec import Spec

NAN = float("nan")


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is called, measured in, and which way is better."""

    label: str
    unit: str  # "" for a number without unit
    better: Literal["higher", "lower"]
    kind: Literal["position", "image", "vector", "outcome"]
    bounds: tuple[float, float] | None = None  # of its axis in a plot; None fits the values


@dataclass(frozen=True)
class Points:
    """Where something is in imagined and real frames, so that their distance is an error."""

    imagined: Tensor  # (B, T, D)
    real: Tensor  # (B, T, D)
    counts: Tensor  # (B, T) bool: frames in which the real one is known

    def apart(self, other: Tensor) -> Tensor:
        """Return how far other points are from the imagined ones, (B, T) float64, NaN if unknown.

        Args:
            other: (B, T, D).
        """
        distance = (self.imagined.double() - other.double()).norm(dim=-1)
        return _where(self.counts, distance)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Computes all metrics that a spec allows.

    Args:
        spec: What a frame holds.
        tracked_colours: Objects to find by colour in every camera; empty leaves that part out.
        position_vectors: Vectors that begin with a position, and how many values that is.

    Raises:
        KeyError: If `position_vectors` names a vector that the spec has not.
        ValueError: If a position would have more values than its vector.
    """

    spec: Spec
    tracked_colours: Mapping[str, TrackedColour] = field(default_factory=dict)
    position_vectors: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, count in self.position_vectors.items():
            if name not in self.spec.vectors:
                raise KeyError(f"no vector {name!r}; there are {sorted(self.spec.vectors)}")
            if not 1 <= count <= self.spec.vectors[name].dim:
                dim = self.spec.vectors[name].dim
                raise ValueError(
                    f"vector {name!r} has {dim} values, a position of {count} is asked for"
                )

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose images are pixels; latents have no metric of their own."""
        return tuple(n for n, camera in self.spec.cameras.items() if camera.kind == "pixels")

    @property
    def outcome_metrics(self) -> dict[str, str]:
        """Metrics of outcomes and the outcome that each is about."""
        return {key: name for name in self.spec.outcomes for key in _outcome_infos(name)}

    def score(self, imagined: Frames, clip: Clip) -> dict[str, Tensor]:
        """Compare imagined frames with the real ones.

        Args:
            imagined: T frames.
            clip: The whole real clip, batched: the history and then the T frames that really
                followed.

        Returns:
            (B, T) float64 for each metric; NaN where it does not apply, as where the data holds no
            valid entry.
        """
        num_imagined = _num_frames(imagined)
        real = clip.frames(clip.num_frames - num_imagined, clip.num_frames)
        scores: dict[str, Tensor] = {}
        for name in self.cameras:
            if name in imagined.images:
                scores |= dict(self._images(name, imagined.images[name], clip))
        for name in self.spec.vectors:
            if name in imagined.vectors:
                scores |= dict(self._vectors(name, imagined.vectors[name], real))
        for name in self.spec.outcomes:
            if name in imagined.outcome and name in real.outcome:
                values = outcome_scores(name, imagined.outcome[name], real.outcome[name])
                scores |= {k: _where(real.valid[name], v) for k, v in values.items()}
        return scores

    def _images(self, name: str, imagined: Tensor, clip: Clip) -> Iterator[tuple[str, Tensor]]:
        start = clip.num_frames - imagined.shape[1]
        every, valid = clip.images[name], clip.valid[name]
        real = every[:, start:]
        moving = metrics.moving_region(real, every[:, start - 1])
        yield f"psnr/{name}", _where(valid[:, start:], metrics.psnr(imagined, real))
        yield f"moving_psnr/{name}", _where(valid[:, start:], metrics.psnr(imagined, real, moving))
        yield f"ssim/{name}", _where(valid[:, start:], metrics.ssim(imagined, real))
        for thing, colour in self.tracked_colours.items():
            points, seen = _follow(imagined, every, valid, colour)
            yield f"position_px/{name}/{thing}", points.apart(points.real)
            yield f"found/{name}/{thing}", _where(points.counts, seen.double())

    def _vectors(self, name: str, imagined: Tensor, real: Clip) -> Iterator[tuple[str, Tensor]]:
        target, valid = real.vectors[name], real.valid[name]
        if name in self.position_vectors:
            apart = metrics.distance(imagined, target, self.position_vectors[name])
            yield f"position/{name}", _where(valid, apart)
        yield f"rmse/{name}", _where(valid, metrics.rmse(imagined, target))
        yield f"mae/{name}", _where(valid, metrics.mean_abs_error(imagined, target))

    def points(self, imagined: Frames, clip: Clip) -> dict[str, Points]:
        """Return all in imagined frames whose distance from the real frames is an error.

        Args:
            imagined: T frames.
            clip: The whole real clip, as in `score`.

        Returns:
            By "px/CAMERA/THING" the middle of a tracked object, in pixels; by the name of a vector
            its position or, if it is none, the whole of it over the root of its length.
        """
        real = clip.frames(clip.num_frames - _num_frames(imagined), clip.num_frames)
        found: dict[str, Points] = {}
        for camera in [name for name in self.cameras if name in imagined.images]:
            for thing, colour in self.tracked_colours.items():
                shown, every = imagined.images[camera], clip.images[camera]
                points, _ = _follow(shown, every, clip.valid[camera], colour)
                found[f"px/{camera}/{thing}"] = points
        for name in [name for name in self.spec.vectors if name in imagined.vectors]:
            dim = self.spec.vectors[name].dim
            count = self.position_vectors.get(name)
            scale = 1.0 if count else dim**-0.5
            own, true = (x[name][..., :count] * scale for x in (imagined.vectors, real.vectors))
            found[name] = Points(own, true, real.valid[name])
        return found

    def describe(self) -> dict[str, MetricInfo]:
        """Return what each metric means, most telling first."""
        infos: dict[str, MetricInfo] = {}
        for camera in self.cameras:
            view = view_label(camera, self.cameras)
            infos |= _position_infos(camera, view, self.tracked_colours)
        for name in self.position_vectors:
            label = f"{name}: position error"
            infos[f"position/{name}"] = MetricInfo(label, "", "lower", "position")
        for camera in self.cameras:
            infos |= _image_infos(camera, view_label(camera, self.cameras))
        for name in self.spec.vectors:
            infos[f"rmse/{name}"] = MetricInfo(f"{name}: RMS error", "", "lower", "vector")
            infos[f"mae/{name}"] = MetricInfo(f"{name}: mean absolute error", "", "lower", "vector")
        for name in self.spec.outcomes:
            infos |= _outcome_infos(name)
        return infos


def short_name(camera: str) -> str:
    """Return a camera's name for captions, without what robomimic and LeRobot add to every one."""
    return camera.removeprefix("observation.images.").removesuffix("_image")


def view_label(camera: str, cameras: Sequence[str]) -> str:
    """Return what tells a camera's captions from the others': " (front)", or "" if it is alone."""
    return f" ({short_name(camera)})" if len(cameras) > 1 else ""


def default_position_vectors(spec: Spec) -> dict[str, int]:
    """Guess which vectors begin with a position, by name.

    Names that end in "_pos" with 1 to 3 values are positions, unless they speak of joints. Names
    that end in "_pose" begin with one: 3 values where there are 6 or more (a pose in space), else 2
    (in the plane).

    Returns:
        Vector name to number of leading values.
    """
    positions = {}
    for name, vector in spec.vectors.items():
        if name.endswith("_pos") and "joint" not in name and vector.dim <= 3:
            positions[name] = vector.dim
        elif name.endswith("_pose") and vector.dim >= 2:
            positions[name] = 3 if vector.dim >= 6 else 2
    return positions


def outcome_scores(name: str, predicted: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Errors of predicted outcomes.

    Args:
        name: "reward", or one of the events "terminated" and "success".
        predicted: Rewards, or probabilities of the event, (B, T).
        real: Rewards, or 0 and 1, (B, T).

    Returns:
        (B, T) for each metric.
    """
    if name == "reward":
        return {"reward_error": (predicted.double() - real.double()).abs()}
    return {
        f"brier/{name}": metrics.brier_score(predicted, real),
        f"log_loss/{name}": metrics.log_loss(predicted, real),
    }


def _follow(
    imagined: Tensor, every: Tensor, valid: Tensor, colour: TrackedColour
) -> tuple[Points, Tensor]:
    """Find an object in imagined frames: where it is or was last seen, and whether it is found.

    Somebody who watches would believe a thing that fades away to be where it was; so every frame
    counts, and a model gains nothing by losing what it cannot place.

    Args:
        imagined: Images of the last T frames, (B, T, H, W, 3).
        every: Real images, of the history too, (B, H + T, H, W, 3).
        valid: Whether there is one, (B, H + T) bool.
        colour: Of the object.

    Returns:
        Points of the T frames, and whether the object is found in the imagined ones, (B, T).
    """
    start = every.shape[1] - imagined.shape[1]
    shown = torch.cat([every[:, :start], imagined], dim=1)
    sighting, truth = locate(shown, colour), locate(every, colour)
    typical = typical_mass(truth)
    seen = found(sighting, typical)
    place, counts = last_known(sighting.position, seen), found(truth, typical) & valid
    points = (x[:, start:] for x in (place, truth.position, counts))
    return Points(*points), seen[:, start:]


def _position_infos(
    camera: str, view: str, colours: Mapping[str, TrackedColour]
) -> dict[str, MetricInfo]:
    infos = {}
    for thing in colours:
        error = MetricInfo(f"{thing}{view}: position error", "px", "lower", "position")
        label = f"{thing}{view}: share of frames found"
        share = MetricInfo(label, "", "higher", "position", bounds=(0, 1.04))
        infos[f"position_px/{camera}/{thing}"] = error
        infos[f"found/{camera}/{thing}"] = share
    return infos


def _image_infos(camera: str, view: str) -> dict[str, MetricInfo]:
    return {
        f"moving_psnr/{camera}": MetricInfo(f"PSNR, moving region{view}", "dB", "higher", "image"),
        f"psnr/{camera}": MetricInfo(f"PSNR, whole image{view}", "dB", "higher", "image"),
        f"ssim/{camera}": MetricInfo(f"SSIM{view}", "", "higher", "image"),
    }


def _outcome_infos(name: str) -> dict[str, MetricInfo]:
    if name == "reward":
        return {"reward_error": MetricInfo("reward: absolute error", "", "lower", "outcome")}
    return {
        f"brier/{name}": MetricInfo(f"{name}: Brier score", "", "lower", "outcome"),
        f"log_loss/{name}": MetricInfo(f"{name}: log loss", "nats", "lower", "outcome"),
    }


def _num_frames(frames: Frames) -> int:
    for group in (frames.images, frames.vectors, frames.outcome):
        for values in group.values():
            return values.shape[1]
    raise AssertionError("imagined frames hold nothing")


def _where(applies: Tensor, values: Tensor) -> Tensor:
    """Return the values with NaN where `applies` is False; both (B, T)."""
    return torch.where(applies, values.double(), NAN)
