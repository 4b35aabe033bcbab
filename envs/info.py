"""What environments say beside an observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_success(info: Mapping[str, Any]) -> bool:
    """Return whether an environment says that its task is solved."""
    return bool(info.get("success", info.get("is_success", False)))
