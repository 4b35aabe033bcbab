"""Checkpoints of robomimic with tiny untrained networks, as its own functions write them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scd_wm.robomimic_setup import ObsRegistry, load_robomimic, quiet

HORIZON = 3  # of the RNN, and frames that the transformer sees
KINDS = ("bc", "bc-gaussian", "bc-gmm", "bc-rnn", "bc-rnn-gmm", "bc-transformer", "transformer-gmm")

needs_robomimic = [
    pytest.mark.skipif(
        importlib.util.find_spec("robomimic") is None,
        reason="robomimic is not installed; it is the extra `robomimic`",
    ),
    pytest.mark.filterwarnings("ignore"),  # of robomimic's and its dependencies' own
]


def settings_of(
    kind: str, vectors: Mapping[str, int], cameras: Mapping[str, tuple[int, int]], modes: int
) -> Any:
    """Return robomimic's configuration of a tiny policy."""
    load_robomimic("robomimic.config")
    from robomimic.config import config_factory

    settings = config_factory("bc")
    with settings.values_unlocked():
        algo, train = settings.algo, settings.train
        algo.actor_layer_dims = (16,)
        algo.gmm.enabled, algo.gmm.num_modes = "gmm" in kind, modes
        algo.gaussian.enabled = "gaussian" in kind
        algo.gaussian.low_noise_eval = False
        algo.rnn.enabled, algo.rnn.horizon, algo.rnn.hidden_dim = "rnn" in kind, HORIZON, 8
        transformer = algo.transformer
        transformer.enabled, transformer.context_length = "transformer" in kind, HORIZON
        transformer.embed_dim, transformer.num_layers, transformer.num_heads = 16, 1, 2
        train.frame_stack = HORIZON if transformer.enabled else 1
        train.cuda = False
        modalities = settings.observation.modalities.obs
        modalities.low_dim, modalities.rgb = list(vectors), list(cameras)
        core = settings.observation.encoder.rgb.core_kwargs
        core.feature_dimension, core.backbone_class = 8, "ShallowConv"
        core.backbone_kwargs = {}
        core.pool_class, core.pool_kwargs = "SpatialSoftmax", {"num_kp": 4}
    return settings


def write_checkpoint(
    path: Path,
    kind: str = "bc",
    *,
    vectors: Mapping[str, int] | None = None,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    action_dim: int = 2,
    normalised: bool = False,
    modes: int = 4,
    seed: int = 0,
) -> Path:
    """Write a checkpoint; `cameras` are heights and widths by name."""
    vectors = {"a": 2, "b": 4} if vectors is None else vectors
    settings, cameras = settings_of(kind, vectors, cameras or {}, modes), cameras or {}
    load_robomimic("robomimic.algo", "robomimic.utils.train_utils")
    from robomimic.algo import algo_factory
    from robomimic.utils import train_utils

    shapes: dict[str, list[int]] = {name: [dim] for name, dim in vectors.items()}
    shapes |= {name: [3, *size] for name, size in cameras.items()}
    if normalised:
        settings.train.hdf5_normalize_obs = True
    random = np.random.default_rng(seed)
    stats = {
        name: {"mean": random.normal(size=(1, *shape)), "std": random.uniform(1, 2, (1, *shape))}
        for name, shape in shapes.items()
    }
    with ObsRegistry.of(settings).active(), quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        algo = algo_factory("bc", settings, shapes, action_dim, torch.device("cpu"))
        for parameter in algo.nets.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        meta = {"ac_dim": action_dim, "all_shapes": shapes, "all_obs_keys": [*shapes]}
        env = {"env_name": "test", "type": 2, "env_kwargs": {}}
        meta["use_images"] = bool(cameras)
        train_utils.save_model(algo, settings, env, meta, str(path), stats if normalised else None)
    return path


def observations(
    count: int, batch: int, vectors: Mapping[str, int], cameras: Mapping[str, tuple[int, int]]
) -> list[dict[str, np.ndarray]]:
    """Return random observations of `count` moments, as environments show them."""
    random = np.random.default_rng(1)

    def one() -> dict[str, np.ndarray]:
        images = {k: random.integers(0, 256, (batch, *s, 3), np.uint8) for k, s in cameras.items()}
        values = {k: random.normal(size=(batch, d)).astype(np.float32) for k, d in vectors.items()}
        return {**images, **values}

    return [one() for _ in range(count)]
