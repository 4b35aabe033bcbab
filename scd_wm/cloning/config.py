"""What `train-policy` trains, and the configuration of robomimic that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scd_wm.datasets.dataset import RobotDataset
from scd_wm.envs.names import flat_name

Algo = Literal["bc", "bc-rnn", "bc-transformer"]

BACKBONES = {"shallow": "ShallowConv", "resnet18": "ResNet18Conv"}
STEPS: dict[Algo, int] = {"bc": 3000, "bc-rnn": 2000, "bc-transformer": 2000}
CONTEXT = 10  # steps that an RNN or a transformer looks back
POSITIVE = (
    "steps",
    "epochs",
    "minutes",
    "episodes",
    "batch_size",
    "learning_rate",
    "hidden",
    "crop",
)
NUM_KEYPOINTS = 32  # of the spatial softmax behind a backbone
FEATURES = 64  # of an image


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """What to train and for how long; defaults take minutes on one core.

    Raises:
        ValueError: If a name is unknown, a number is not positive, or time is limited twice.
    """

    algo: Algo = "bc"
    gmm: bool = False  # a mixture of Gaussians in place of one action
    steps: int | None = None  # None: by the algorithm, unless another is given
    epochs: float | None = None  # times through the data, in place of steps
    minutes: float | None = None  # in place of steps
    episodes: int | None = None  # the first so many of the data; None is all
    held_out: float = 0.0  # share of these that the loss is measured on and not trained on
    batch_size: int = 100
    learning_rate: float = 1e-3  # at the first step; falls to 0 at the last
    hidden: int = 400  # width of the MLP's two layers or of the RNN
    backbone: str = "shallow"  # of images, see BACKBONES
    crop: int | None = None  # side of random crops of images in training; None is none
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("algo", self.algo, STEPS),
            ("backbone", self.backbone, BACKBONES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {sorted(known)}, got {value!r}")
        limits = {"steps": self.steps, "epochs": self.epochs, "minutes": self.minutes}
        if len(given := [name for name, value in limits.items() if value is not None]) > 1:
            raise ValueError(f"give one of {sorted(limits)}, got {given}")
        for name in POSITIVE:
            number = getattr(self, name)
            if number is not None and not number > 0:
                raise ValueError(f"{name} must be above 0, got {number}")

        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out must be 0 or more and below 1, got {self.held_out}")

    def num_steps(self, num_batches: int) -> int | None:
        """Return the steps of training, with so many batches in the data; None: by time."""
        if self.minutes is not None:
            return None
        if self.epochs is not None:
            return max(1, round(self.epochs * num_batches))
        return STEPS[self.algo] if self.steps is None else self.steps


def robomimic_config(config: PolicyConfig, dataset: RobotDataset, data: str | Path) -> Any:
    """Return robomimic's configuration, locked.

    Args:
        config: What to train.
        dataset: What is observed in it.
        data: Path that the configuration names.
    """
    from robomimic.config import config_factory

    settings = config_factory("bc")
    with settings.values_unlocked():
        settings.experiment.name = "scd_wm"
        settings.experiment.rollout.enabled = False
        train = settings.train
        train.data, train.output_dir = str(data), ""
        train.batch_size, train.seed, train.cuda = config.batch_size, config.seed, False
        train.hdf5_normalize_obs = config.algo != "bc-transformer"  # it cannot act so in 0.3
        settings.algo.optim_params.policy.learning_rate.initial = config.learning_rate
        settings.algo.gmm.enabled = config.gmm
        _set_network(settings, config)
        settings.observation.modalities.obs.low_dim = [flat_name(n) for n in dataset.vectors]
        settings.observation.modalities.obs.rgb = [flat_name(n) for n in dataset.cameras]
        _set_encoder(settings.observation.encoder.rgb, config, dataset.cameras)
    settings.lock()
    return settings


def _set_network(settings: Any, config: PolicyConfig) -> None:
    algo, train = settings.algo, settings.train
    algo.actor_layer_dims = (config.hidden, config.hidden)
    if config.algo == "bc-rnn":
        algo.actor_layer_dims = ()
        algo.rnn.enabled, algo.rnn.horizon, algo.rnn.hidden_dim = True, CONTEXT, config.hidden
        train.seq_length = CONTEXT
    elif config.algo == "bc-transformer":
        transformer = algo.transformer
        transformer.enabled, transformer.context_length = True, CONTEXT
        transformer.embed_dim, transformer.num_layers, transformer.num_heads = 128, 3, 4
        train.frame_stack = CONTEXT


def _set_encoder(rgb: Any, config: PolicyConfig, cameras: Sequence[str]) -> None:
    backbone = BACKBONES[config.backbone]
    is_resnet = config.backbone == "resnet18"
    rgb.core_kwargs.feature_dimension = FEATURES
    rgb.core_kwargs.backbone_class = backbone
    rgb.core_kwargs.backbone_kwargs = (
        {"pretrained": False, "input_coord_conv": False} if is_resnet else {}
    )
    rgb.core_kwargs.pool_class = "SpatialSoftmax"
    rgb.core_kwargs.pool_kwargs = {
        "num_kp": NUM_KEYPOINTS,
        "learnable_temperature": False,
        "temperature": 1.0,
        "noise_std": 0.0,
        "output_variance": False,
    }
    if config.crop is not None and cameras:
        rgb.obs_randomizer_class = "CropRandomizer"
        rgb.obs_randomizer_kwargs = {
            "crop_height": config.crop,
            "crop_width": config.crop,
            "num_crops": 1,
            "pos_enc": False,
        }
