"""A world of latents of two cameras, small enough for seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scd_wm.autoencoder.conv import ConvAutoencoder, ConvConfig
from scd_wm.cli import main
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter

CHANNELS, DOWNSCALE = 4, 4
MODEL = ("dim=32", "num_heads=2", "encoder_layers=1", "decoder_layers=1", "window=3")
SMALL = (*MODEL, "batch_size=2", "num_frames=6", "eval_batches=1")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep latents of tests out of the user's cache."""
    monkeypatch.setenv("SCD_WM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def autoencoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random autoencoder of ours."""
    folder = tmp_path_factory.mktemp("autoencoder")
    torch.manual_seed(0)
    ConvAutoencoder(ConvConfig(channels=CHANNELS, downscale=DOWNSCALE, width=8)).write(folder)
    return folder


@pytest.fixture(scope="session")
def two_cameras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes of 20 steps, not all of a multiple of a chunk, with two cameras."""
    path, rng = tmp_path_factory.mktemp("data") / "two.hdf5", np.random.default_rng(0)
    with RobomimicWriter(path, {"env_name": "test", "type": 2, "env_kwargs": {}}) as writer:
        for length in (20, 21, 22, 23):
            shape = (length + 1, 16, 16, 3)
            writer.add_episode(
                {
                    "front": rng.integers(0, 256, shape, np.uint8),
                    "wrist": rng.integers(0, 256, shape, np.uint8),
                    "pos": rng.normal(size=(length + 1, 2)).astype(np.float32),
                },
                rng.uniform(-1, 1, (length, 2)).astype(np.float32),
                np.zeros(length, np.float32),
                np.arange(length) == length - 1,
                np.arange(length) == length - 1,
            )
    return path


@pytest.fixture(scope="session")
def latent_run(
    two_cameras: Path, autoencoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two steps on latents."""
    run = tmp_path_factory.mktemp("runs") / "latent"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCD_WM_CACHE", str(tmp_path_factory.mktemp("cache")))
        arguments = ["train", str(two_cameras), "--out", str(run), "--steps", "2", *SMALL]
        assert main([*arguments, "--autoencoder", str(autoencoder_folder)]) == 0
    return run


def write_other(folder: Path) -> Path:
    """Write another autoencoder of the same sizes."""
    folder.mkdir()
    torch.manual_seed(1)
    ConvAutoencoder(ConvConfig(channels=CHANNELS, downscale=DOWNSCALE, width=8)).write(folder)
    return folder
