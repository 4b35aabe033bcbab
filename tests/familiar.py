"""Small models that know random clips as their data."""

from __future__ import annotations

from scd_wm import imagination, testing
from scd_wm.model.familiarity import FamiliarityConfig, fit, pool
from scd_wm.model.world_model import WorldModel


def calibrated(model: WorldModel) -> WorldModel:
    """Return the model with a familiarity with `testing.clip`'s frames and actions."""
    sizes = [segment.num_tokens for segment in model.layout.segments]
    parts = []
    for seed in (100, 101):
        clip = testing.clip(model.spec, 30, 6, seed=seed)
        parts.append(pool(imagination.contexts(model, clip), sizes).flatten(0, 1))
    model.familiarity = fit(parts[0], parts[1], sizes, FamiliarityConfig(references=100))
    return model
