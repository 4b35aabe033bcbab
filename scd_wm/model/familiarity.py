"""How unlike its training data what a world model imagines from is: ignorance, not chance.

What is compared are the model's own context features of the history and of the action at its last
frame. Distance is to the nearest of what the model was trained on (Sun et al. 2022,
arXiv:2204.06507), after whitening, as in the Mahalanobis distance of Lee et al. 2018
(arXiv:1807.03888). How futures spread under other noise tells of chance, which more data does not
take away; this tells of what was never seen.

Axes: n contexts, N tokens in a frame, D width, E pooled features, K whitened directions,
R references, C calibration distances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TAIL = 0.1  # share of the greatest calibration distances that says how they go on beyond
FEWEST = 20  # calibration contexts without which quantiles are guesses
LEAST_VARIANCE = 1e-6  # of a direction, over the mean: numbers of lower ones are rounding
AT_ONCE = 4096  # contexts whose distances are taken together


@dataclass(frozen=True, kw_only=True)
class FamiliarityConfig:
    """What is kept of the data.

    Raises:
        ValueError: If a number is below 1.
    """

    references: int = 1000  # contexts R of training that distances are to, drawn at random
    neighbours: int = 5  # the distance is to the one at this place among the nearest
    directions: int = 128  # K of greatest variance that are compared, at most
    calibration: int = 1000  # distances C of held-out contexts that are kept, at most

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")


class Familiarity(nn.Module):
    """Maps context features to uncertainty in [0, 1], calibrated on data that was held out.

    Uncertainty is the share of held-out frames whose contexts are nearer to the training data: 0.5
    is ordinary, above 0.99 is off the data. Beyond the farthest held-out frame the share of those
    farther still falls off exponentially, by the mean excess of the farthest tenth.

    Its tensors move with the model, and are not among its weights.

    Args:
        tensors: As `tensors` gives them: "centre" (E,), "whitening" (E, K), "references" (R, K)
            and "distances" (C,) ascending.
        group_sizes: Tokens of each camera and vector; features are means over each.
        neighbours: As in `FamiliarityConfig`.
        origin: What else is worth knowing of it, of JSON types.

    Raises:
        ValueError: If the tensors do not fit each other.
    """

    centre: Tensor
    whitening: Tensor
    references: Tensor
    distances: Tensor

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        group_sizes: Sequence[int],
        neighbours: int,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.origin = dict(origin or {})
        self.group_sizes, self.neighbours = tuple(group_sizes), neighbours
        for name in NAMES:
            if name not in tensors:
                raise ValueError(f"familiarity lacks {name!r}; it has {sorted(tensors)}")
            self.register_buffer(name, tensors[name].clone(), persistent=False)
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        (width, directions), num_references = self.whitening.shape, len(self.references)
        wanted = {
            "centre": (width,),
            "whitening": (width, directions),
            "references": (num_references, directions),
            "distances": (len(self.distances),),
        }
        if shapes != wanted or num_references < neighbours or len(self.distances) < FEWEST:
            raise ValueError(f"tensors of a familiarity do not fit each other: {shapes}")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What it consists of, to be written."""
        return {name: getattr(self, name) for name in NAMES}

    def forward(self, context: Tensor) -> Tensor:
        """Return the uncertainty, (...,) in [0, 1], of context features, (..., N, D)."""
        return self.uncertainty(self.distance(pool(context, self.group_sizes)))

    def distance(self, features: Tensor) -> Tensor:
        """Return the distance of pooled features, (..., E), from the training data, (...,)."""
        rows = (features.flatten(0, -2) - self.centre) @ self.whitening
        return nearest(rows, self.references, self.neighbours).reshape(features.shape[:-1])

    def uncertainty(self, distance: Tensor) -> Tensor:
        """Return the share of held-out contexts that are nearer than `distance`, (...,)."""
        known = self.distances
        count = len(known)
        after = torch.searchsorted(known, distance.contiguous()).clamp(1, count - 1)
        low, high = known[after - 1], known[after]
        part = ((distance - low) / (high - low).clamp(min=torch.finfo(known.dtype).tiny)).clamp(
            0, 1
        )
        inside = (after + part) / (count + 1)
        inside = torch.where(distance < known[0], distance / known[0] / (count + 1), inside)
        scale = self._mean_excess()
        beyond = ((distance - known[-1]) / scale).clamp(min=0)
        return torch.where(distance > known[-1], 1 - torch.exp(-beyond) / (count + 1), inside)

    def _mean_excess(self) -> Tensor:
        """Return by how much the farthest distances exceed the least of them, on average."""
        tail = self.distances[-max(2, round(TAIL * len(self.distances))) :]
        return (tail - tail[0]).mean().clamp(min=torch.finfo(tail.dtype).eps)


NAMES = ("centre", "whitening", "references", "distances")


def fit(
    trained: Tensor,
    held_out: Tensor,
    group_sizes: Sequence[int],
    config: FamiliarityConfig,
    seed: int = 0,
) -> Familiarity:
    """Fit to what a model was trained on, and calibrate on what it was not.

    Args:
        trained: Pooled features of training data, (n, E).
        held_out: Pooled features of data held out, (m, E).
        group_sizes: As in `Familiarity`.
        config: What to keep.
        seed: Of the choice of references.

    Raises:
        ValueError: If there are too few contexts, or features are not finite.
    """
    least = max(2, config.neighbours)
    if len(trained) < least or len(held_out) < FEWEST:
        raise ValueError(
            f"to know its data a model needs {least} contexts of training and {FEWEST} held out, "
            f"got {len(trained)} and {len(held_out)}"
        )
    if not bool(torch.isfinite(trained).all() and torch.isfinite(held_out).all()):
        raise ValueError("context features are not finite: the model or its data is damaged")
    centre, whitening = whiten(trained, config.directions)
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(trained), generator=random)[: config.references]
    references = (trained[chosen.to(trained.device)] - centre) @ whitening
    rows = (held_out - centre) @ whitening
    distances = nearest(rows, references, config.neighbours).sort().values
    if len(distances) > config.calibration:
        distances = _thinned(distances, config.calibration)
    tensors = {
        "centre": centre,
        "whitening": whitening,
        "references": references,
        "distances": distances,
    }
    return Familiarity(tensors, group_sizes, config.neighbours)


def pool(context: Tensor, group_sizes: Sequence[int]) -> Tensor:
    """Return the mean token of each camera and vector side by side: (..., N, D) to (..., E)."""
    groups = context.split(list(group_sizes), dim=-2)
    return torch.cat([group.mean(dim=-2) for group in groups], dim=-1)


def whiten(features: Tensor, directions: int) -> tuple[Tensor, Tensor]:
    """Return the centre, (E,), and what gives directions unit variance, (E, K).

    The covariance is shrunk towards a multiple of the identity as far as so few samples advise
    (Chen et al. 2010, "Shrinkage Algorithms for MMSE Covariance Estimation", OAS), so that
    directions that hardly vary do not outweigh all others.
    """
    centre = features.mean(dim=0)
    covariance = torch.atleast_2d(torch.cov(features.T.double()))
    count, dim = features.shape
    mean_variance = covariance.trace() / dim
    square, scale = covariance.square().mean(), mean_variance.square()
    least = torch.finfo(torch.float64).tiny
    share = (square + scale) / ((count + 1) * (square - scale / dim)).clamp(min=least)
    share = share.clamp(max=1.0)
    shrunk = (1 - share) * covariance + share * mean_variance * torch.eye(dim).to(covariance)
    variance, basis = torch.linalg.eigh(shrunk)  # ascending
    kept = slice(max(0, dim - directions), dim)
    floor = LEAST_VARIANCE * mean_variance.item()
    variance = variance[kept].clamp(min=floor if floor > 0 else 1.0)  # features may be constant
    return centre, (basis[:, kept] * variance.rsqrt()).to(features.dtype)


def nearest(rows: Tensor, references: Tensor, neighbours: int) -> Tensor:
    """Return the distance of rows, (n, K), from the k-th nearest of references, (R, K): (n,)."""
    each = [
        torch.cdist(part, references).topk(neighbours, dim=1, largest=False).values[:, -1]
        for part in rows.split(AT_ONCE)
    ]
    return torch.cat(each) if each else rows.new_zeros(0)


def _thinned(ascending: Tensor, count: int) -> Tensor:
    """Return `count` of many sorted values: their quantiles, the greatest among them."""
    place = torch.linspace(0, len(ascending) - 1, count).round().long()
    return ascending[place.to(ascending.device)]
