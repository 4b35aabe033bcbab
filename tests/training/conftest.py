"""A robot that moves where its action points, recorded in a small file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.training.run import train_run

SMALL = (
    "dim=32", "num_heads=2", "encoder_layers=1", "decoder_layers=1", "window=2",
    "batch_size=4", "num_frames=5", "warmup_steps=5",
)  # fmt: skip

Train = Callable[..., dict[str, Any]]


def write_data(path: Path, seed: int = 0, num_episodes: int = 8, side: int = 16) -> Path:
    """Write episodes of 12 steps with a position, an image of `side` pixels and a reward."""
    random = np.random.default_rng(seed)
    with RobomimicWriter(path, {"env_name": "Point", "type": 2, "env_kwargs": {}}) as writer:
        for _ in range(num_episodes):
            actions = random.uniform(-1, 1, (12, 2)).astype(np.float32)
            position = np.concatenate([np.zeros((1, 2)), actions.cumsum(0) / 4]).astype(np.float32)
            images = random.integers(0, 256, (13, side, side, 3), dtype=np.uint8)
            ends = np.arange(12) == 11
            writer.add_episode(
                {"position": position, "top": images}, actions, position[1:, 0], ends, ends
            )
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 8 episodes."""
    return write_data(tmp_path_factory.mktemp("data") / "point.hdf5")


@pytest.fixture
def train_small(data: Path) -> Train:
    """Train a very small state-only world; arguments go to `train_run`."""

    def run(out: Path, steps: int = 6, overrides: tuple[str, ...] = (), **rest: Any) -> Any:
        arguments = {"preset": "state", "steps": steps, "overrides": (*SMALL, *overrides), **rest}
        return train_run(arguments.pop("data", data), out, **arguments)

    return run
