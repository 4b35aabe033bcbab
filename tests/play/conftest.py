"""Worlds that are small enough to play in quickly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scd_wm import testing
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.play.app import App
from scd_wm.play.world import World
from scd_wm.training.checkpoint import save_pretrained
from tests.play.browser_client import Client, serving

LENGTHS = (7, 4)  # actions of the episodes, of which each has a frame more
SEED = 5


def write_data(path: Path) -> Path:
    """Write episodes that fit `testing.image_spec`."""
    spec, rng = testing.image_spec(), np.random.default_rng(0)
    camera = spec.cameras["top"]
    with RobomimicWriter(path, {"env_name": "test", "type": 2, "env_kwargs": {}}) as writer:
        for length in LENGTHS:
            shape = (length + 1, camera.height, camera.width, 3)
            last = np.arange(length) == length - 1
            writer.add_episode(
                {
                    "top": rng.integers(0, 256, shape, np.uint8),
                    "proprio": rng.normal(size=(length + 1, 3)).astype(np.float32),
                },
                rng.uniform(-1, 1, (length, 2)).astype(np.float32),
                rng.uniform(0, 1, length).astype(np.float32),
                last,
                last,
            )
    return path


@pytest.fixture(scope="session")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("play") / "data.hdf5")


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model that imagines something else at every frame."""
    path = tmp_path_factory.mktemp("play") / "small"
    save_pretrained(testing.model(), path, {})
    return path


@pytest.fixture(scope="session")
def data(data_path: Path) -> RobotDataset:
    return open_dataset(data_path)


@pytest.fixture(scope="session")
def world(data: RobotDataset) -> World:
    return World("small", testing.model().eval(), data, history=3)


@pytest.fixture
def app(world: World) -> App:
    return App(world, SEED)


@pytest.fixture
def client(app: App) -> Iterator[Client]:
    with serving(app) as server:
        yield Client(server.server_port)
