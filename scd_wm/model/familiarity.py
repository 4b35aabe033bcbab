"""How unlike its training data what a world model imagines from is: ignorance, not chance.

What is compared are the model's own context features of the history and of the action at its last
frame, by their Mahalanobis distance from those of the training data, as of Lee et al. 2018
(arXiv:1807.03888). Nearest neighbours (Sun et al. 2022, arXiv:2204.06507) in the same whitened
features told no more (docs/log.md) and take more. How futures spread under other noise tells of
chance, which more data does not take away; this tells of what was never seen.

Axes: n contexts, N tokens in a frame, D width, E pooled features, C calibration distances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

TAIL = 0.1  # share of the greatest calibration distances that says how they go on beyond
FEWEST = 20  # contexts without which quantiles are guesses
MOST = 1000  # calibration distances that are kept
LEAST_VARIANCE = 1e-6  # of a direction, over the mean: numbers of lower ones are rounding
NAMES = ("centre", "whitening", "distances")


class Familiarity(nn.Module):
    """Maps context features to uncertainty in [0, 1], calibrated on data that was held out.

    Uncertainty is the share of held-out frames whose contexts are nearer to the training data: 0.5
    is ordinary, above 0.99 only one real frame in a hundred is. Beyond the farthest held-out
    frame the share of those farther still falls off exponentially, by the mean excess of the
    farthest tenth.

    Its tensors move with the model, and are not among its weights.

    Args:
        tensors: As `tensors` gives them: "centre" (E,), "whitening" (E, E) and "distances" (C,)
            ascending.
        origin: What else is worth knowing of it, of JSON types.

    Raises:
        ValueError: If the tensors do not fit each other.
    """

    centre: Tensor
    whitening: Tensor
    distances: Tensor

    def __init__(
        self, tensors: Mapping[str, Tensor], origin: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.origin = dict(origin or {})
        for name in NAMES:
            if name not in tensors:
                raise ValueError(f"familiarity lacks {name!r}; it has {sorted(tensors)}")
            self.register_buffer(name, tensors[name].clone(), persistent=False)
        shapes = [tuple(tensor.shape) for tensor in self.tensors.values()]
        width, count = self.centre.numel(), self.distances.numel()
        if shapes != [(width,), (width, width), (count,)] or count < FEWEST:
            raise ValueError(f"tensors of a familiarity do not fit each other: {shapes}")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What it consists of, to be written."""
        return {name: getattr(self, name) for name in NAMES}

    def forward(self, context: Tensor) -> Tensor:
        """Return the uncertainty, (...,) in [0, 1], of context features, (..., N, D)."""
        return self.uncertainty(self.distance(pool(context)))

    def distance(self, features: Tensor) -> Tensor:
        """Return the distance of pooled features, (..., E), from the training data, (...,)."""
        return torch.linalg.vector_norm((features - self.centre) @ self.whitening, dim=-1)

    def uncertainty(self, distance: Tensor) -> Tensor:
        """Return the share of held-out contexts that are nearer than `distance`, (...,)."""
        known, count = self.distances, len(self.distances)
        after = torch.searchsorted(known, distance.contiguous()).clamp(1, count - 1)
        low, high = known[after - 1], known[after]
        gap = (high - low).clamp(min=torch.finfo(known.dtype).tiny)
        inside = (after + ((distance - low) / gap).clamp(0, 1)) / (count + 1)
        inside = torch.where(distance < known[0], distance / known[0] / (count + 1), inside)
        beyond = ((distance - known[-1]) / self._mean_excess()).clamp(min=0)
        return torch.where(distance > known[-1], 1 - torch.exp(-beyond) / (count + 1), inside)

    def _mean_excess(self) -> Tensor:
        """Return by how much the farthest distances exceed the least of them, on average."""
        tail = self.distances[-max(2, round(TAIL * len(self.distances))) :]
        return (tail - tail[0]).mean().clamp(min=torch.finfo(tail.dtype).eps)


def fit(trained: Tensor, held_out: Tensor, origin: Mapping[str, Any] | None = None) -> Familiarity:
    """Fit to what a model was trained on, and calibrate on what it was not.

    Args:
        trained: Pooled features of training data, (n, E).
        held_out: Pooled features of data held out, (m, E).
        origin: As in `Familiarity`.

    Raises:
        ValueError: If there are too few contexts, or features are not finite.
    """
    if min(len(trained), len(held_out)) < FEWEST:
        raise ValueError(
            f"to know its data a model needs {FEWEST} contexts of training and as many held out, "
            f"got {len(trained)} and {len(held_out)}: give more or longer clips"
        )
    if not bool(torch.isfinite(trained).all() and torch.isfinite(held_out).all()):
        raise ValueError("context features are not finite: the model or its data is damaged")
    centre, whitening = whiten(trained)
    distances = torch.linalg.vector_norm((held_out - centre) @ whitening, dim=-1).sort().values
    if len(distances) > MOST:
        distances = _thinned(distances, MOST)
    tensors = {"centre": centre, "whitening": whitening, "distances": distances}
    return Familiarity(tensors, origin)


def pool(context: Tensor) -> Tensor:
    """Return mean and greatest of each feature over the tokens: (..., N, D) to (..., E), E = 2 D.

    The mean tells of the whole scene and of the action; the greatest of one strange thing in it.
    """
    return torch.cat([context.mean(dim=-2), context.amax(dim=-2)], dim=-1)


def whiten(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centre, (E,), and what gives features, (n, E), unit covariance, (E, E).

    The covariance is shrunk towards a multiple of the identity as far as so few samples advise
    (Chen et al. 2010, "Shrinkage Algorithms for MMSE Covariance Estimation", OAS), so that
    directions that hardly vary do not outweigh all others.
    """
    centre, (count, dim) = features.mean(dim=0), features.shape
    covariance = torch.cov(features.T.double()).reshape(dim, dim)
    mean_variance = covariance.trace() / dim
    square, scale = covariance.square().mean(), mean_variance.square()
    least = torch.finfo(torch.float64).tiny
    share = (square + scale) / ((count + 1) * (square - scale / dim)).clamp(min=least)
    share = share.clamp(max=1.0)
    shrunk = (1 - share) * covariance + share * mean_variance * torch.eye(dim).to(covariance)
    variance, basis = torch.linalg.eigh(shrunk)
    floor = LEAST_VARIANCE * mean_variance.item()
    variance = variance.clamp(min=floor if floor > 0 else 1.0)  # features may be constant
    return centre, (basis * variance.rsqrt()).to(features.dtype)


def _thinned(ascending: Tensor, count: int) -> Tensor:
    """Return `count` of many sorted values: their quantiles, the greatest among them."""
    place = torch.linspace(0, len(ascending) - 1, count).round().long()
    return ascending[place.to(ascending.device)]
