"""The world model of a configuration, whatever its architecture."""

from __future__ import annotations

from scd_wm.model.config import WorldModelConfig
from scd_wm.model.entangled import EntangledWorldModel
from scd_wm.model.fed import FedWorldModel
from scd_wm.model.scd import SCDWorldModel
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec


def build_world_model(spec: Spec, config: WorldModelConfig) -> WorldModel:
    """Return a world model with initial weights.

    Raises:
        ValueError: If a camera's sides are not multiples of the patch size.
    """
    if config.arch == "scd" and config.fed_level is not None:
        return FedWorldModel(spec, config)
    kinds = {"scd": SCDWorldModel, "entangled": EntangledWorldModel}
    return kinds[config.arch](spec, config)
