"""Tests of environments that other packages simulate: they are skipped where those are missing."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import pytest

from scd_wm.envs.registration import NEEDS


def needed_package(env_id: str) -> pytest.MarkDecorator:
    """Return the mark of a test that makes a registered environment."""
    needed = [package for name, package in NEEDS.items() if f"/{name}" in env_id]
    missing = [package for package in needed if find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {missing}: make test-sims")


def env_params(env_ids: Iterable[str]) -> list[Any]:
    """Return registered environments as parameters of a test."""
    return [pytest.param(env_id, marks=needed_package(env_id)) for env_id in sorted(env_ids)]
