"""A small state-only world that does something, without training, and its simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from scd_wm import testing
from scd_wm.collect import collect
from scd_wm.datasets.dataset import open_dataset
from scd_wm.training.checkpoint import save_pretrained

ENV = "scd_wm/PushTState-v0"


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short episodes of PushT's states."""
    path = tmp_path_factory.mktemp("recording") / "data.hdf5"
    collect(ENV, "scripted", 4, path, max_steps=6)
    return path


@pytest.fixture(scope="session")
def dreamer(recording: Path) -> Path:
    """A model of random weights: what it imagines is wild, and depends on the actions."""
    model = testing.model(open_dataset(recording).spec())
    save_pretrained(model, recording.parent / "model")
    return recording.parent / "model"
