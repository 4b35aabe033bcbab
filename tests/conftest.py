"""What many tests share: a small data set and a small run, made once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# The models of tests are so small that threads would only wait for each other. Set before torch is
# loaded, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scd_wm.cli import main
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.torchvision_shim import declare_torchvision_operators

declare_torchvision_operators()  # robomimic and torchmetrics import torchvision

SMALL_MODEL = ("dim=32", "num_heads=2", "encoder_layers=1", "decoder_layers=1", "window=3")
SMALL_TRAINING = ("batch_size=2", "num_frames=6", "eval_batches=1")


def write_data(path: Path, num_episodes: int = 4, size: int = 16, num_steps: int = 12) -> Path:
    """Write a robomimic file of a camera `top`, a vector `pos` and actions of two values."""
    rng = np.random.default_rng(0)
    env_args = {"env_name": "test", "type": 2, "env_kwargs": {"control_freq": 10}}
    with RobomimicWriter(path, env_args) as writer:
        for _ in range(num_episodes):
            shape = (num_steps + 1, size, size, 3)
            writer.add_episode(
                {
                    "top": rng.integers(0, 256, shape, np.uint8),
                    "pos": rng.normal(size=(num_steps + 1, 2)).astype(np.float32),
                },
                rng.uniform(-1, 1, (num_steps, 2)).astype(np.float32),
                rng.uniform(0, 1, num_steps).astype(np.float32),
                np.arange(num_steps) == num_steps - 1,
                np.arange(num_steps) == num_steps - 1,
            )
    return path


@pytest.fixture(scope="session")
def robot_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes of 12 steps with a camera `top` of 16 x 16 pixels and a vector `pos`."""
    return write_data(tmp_path_factory.mktemp("data") / "robot.hdf5")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, robot_file: Path) -> Path:
    """A run of two steps on `robot_file`."""
    run = tmp_path_factory.mktemp("runs") / "small"
    status = main(
        ["train", str(robot_file), "--out", str(run), "--steps", "2", *SMALL_MODEL, *SMALL_TRAINING]
    )
    assert status == 0
    return run


@pytest.fixture(scope="session")
def spoilt_run(tmp_path_factory: pytest.TempPathFactory, small_run: Path) -> Path:
    """The small run with noise on its weights: it imagines something else, and worse."""
    run = tmp_path_factory.mktemp("runs") / "spoilt"
    shutil.copytree(small_run, run)
    random = torch.Generator().manual_seed(0)
    for path in run.glob("checkpoints/*/[em]*.safetensors"):
        weights = load_file(path)
        noisy = {k: v + 0.1 * torch.randn(v.shape, generator=random) for k, v in weights.items()}
        save_file(noisy, path)
    return run
