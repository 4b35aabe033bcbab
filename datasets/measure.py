"""Measure what the model needs to know of a data set's numbers.

Axes: N rows of all episodes, D values of a vector or an action, H height, W width, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scd_wm.spec import Spec, VectorSpec

if TYPE_CHECKING:
    from scd_wm.datasets.dataset import RobotDataset

CONSTANT_STD = 1e-6  # a value that varies less counts as constant and is not scaled
MIN_DELTA = 0.01  # least change between frames, in standard deviations, that is told from none
MIN_IMAGE_DELTA = 0.02  # the same for pixels, in [-1, 1]: 2.5 of 255 grey levels
IMAGE_PAIRS = 256  # pairs of consecutive images that a camera's change is measured on


class Moments:
    """Mean, deviation and change of rows that come episode by episode.

    Deviations are summed about the running mean (Chan et al. 1979), since summing squares loses
    all digits where the mean is large.

    Args:
        dim: Values D of a row.
    """

    def __init__(self, dim: int) -> None:
        self.count, self.num_pairs = 0, 0
        self.mean, self.squares = np.zeros(dim), np.zeros(dim)
        self.pair_squares = np.zeros(dim)
        self.low, self.high = np.full(dim, np.inf), np.full(dim, -np.inf)

    def add(self, rows: np.ndarray) -> None:
        """Count the consecutive rows, (T, D), of one episode."""
        if len(rows) == 0:
            return
        rows = rows.astype(np.float64)
        mean, total = rows.mean(axis=0), self.count + len(rows)
        shift = mean - self.mean
        self.squares += ((rows - mean) ** 2).sum(axis=0)
        self.squares += shift**2 * (self.count * len(rows) / total)
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total
        self.pair_squares += (np.diff(rows, axis=0) ** 2).sum(axis=0)
        self.num_pairs += len(rows) - 1
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))

    @property
    def std(self) -> np.ndarray:
        """Standard deviation, (D,)."""
        return np.sqrt(self.squares / max(self.count, 1))

    def vector_spec(self) -> VectorSpec:
        """Return the statistics with values that do not vary given a deviation of 1."""
        std = np.where(self.std < CONSTANT_STD, 1.0, self.std)
        delta = np.sqrt(self.pair_squares / max(self.num_pairs, 1))
        return VectorSpec(
            dim=len(std),
            mean=tuple(self.mean.tolist()),
            std=tuple(std.tolist()),
            delta_std=tuple(np.maximum(delta, MIN_DELTA * std).tolist()),
        )


def data_spec(dataset: RobotDataset) -> Spec:
    """Measure a data set; see `RobotDataset.spec`."""
    moments = measure(dataset)
    reward = moments.get("reward")
    varies = reward is not None and reward.std[0] >= CONSTANT_STD
    return Spec(
        cameras={name: dataset.camera_spec(name) for name in dataset.cameras},
        vectors={name: moments[name].vector_spec() for name in dataset.vectors},
        action=moments["action"].vector_spec(),
        outcomes=dataset.outcomes,
        reward_mean=0.0 if reward is None else float(reward.mean[0]),
        reward_std=float(reward.std[0]) if reward is not None and varies else 1.0,
        fps=dataset.fps,
    )


def measure(dataset: RobotDataset) -> dict[str, Moments]:
    """Return the moments of every vector, of "action" and, if there is one, of "reward"."""
    moments: dict[str, Moments] = {}
    for index in range(len(dataset.episodes)):
        arrays = dataset.arrays(index)
        rows = {**arrays.vectors, "action": arrays.actions}
        if "reward" in arrays.outcome:
            rows["reward"] = arrays.outcome["reward"][:, None]
        for key, values in rows.items():
            moments.setdefault(key, Moments(values.shape[1])).add(values)
    return moments


def image_delta(dataset: RobotDataset, camera: str) -> float:
    """Return the RMS change between consecutive images in [-1, 1], over pairs spread evenly."""
    ends = np.cumsum([max(e.num_observations - 1, 0) for e in dataset.episodes])
    num_pairs = int(ends[-1]) if len(ends) else 0
    if num_pairs == 0:
        return MIN_IMAGE_DELTA
    pairs = np.unique(np.linspace(0, num_pairs - 1, IMAGE_PAIRS).round().astype(int))
    total = 0.0
    for pair in pairs:
        episode = int(np.searchsorted(ends, pair, side="right"))
        start = int(pair - (ends[episode - 1] if episode else 0))
        first, second = dataset.images(episode, camera, start, start + 2).astype(np.float64) / 127.5
        total += float(((second - first) ** 2).mean())
    return max(float(np.sqrt(total / len(pairs))), MIN_IMAGE_DELTA)
