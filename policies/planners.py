"""Planners by name, for the command line and for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scd_wm.policies.cem import CEM
from scd_wm.policies.icem import ICEM
from scd_wm.policies.mppi import MPPI
from scd_wm.policies.planner import Planner

PLANNERS: dict[str, Callable[..., Planner]] = {"cem": CEM, "icem": ICEM, "mppi": MPPI}


def make_planner(name: str, **kwargs: Any) -> Planner:
    """Return a planner.

    Args:
        name: A key of `PLANNERS`.
        **kwargs: Its settings.

    Raises:
        ValueError: If there is none of this name, or a setting is unknown or out of range.
    """
    if name not in PLANNERS:
        raise ValueError(f"unknown planner {name!r}; there are {sorted(PLANNERS)}")
    try:
        return PLANNERS[name](**kwargs)
    except TypeError as error:
        raise ValueError(f"planner {name!r}: {error}") from None
