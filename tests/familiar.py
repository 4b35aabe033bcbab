"""Small models that know random clips as their data."""

from __future__ import annotations

from scd_wm import imagination, testing
from scd_wm.model.familiarity import fit, pool
from scd_wm.model.world_model import WorldModel


def calibrated(model: WorldModel) -> WorldModel:
    """Return the model with a familiarity with `testing.clip`'s frames and actions."""
    parts = []
    for seed in (100, 101):
        clip = testing.clip(model.spec, 40, 6, seed=seed)
        parts.append(pool(imagination.contexts(model, clip)).flatten(0, 1))
    model.familiarity = fit(parts[0], parts[1])
    return model
