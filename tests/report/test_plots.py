"""Names in plots of paths can be read."""

from __future__ import annotations

import re

import numpy as np
import pytest

from scd_wm.report.plots import View, paths


def height(svg: str, text: str) -> float:
    """Return how far down a text is written, in the units of the plot."""
    found = re.search(rf'y="([\d.]+)"[^>]*>{text}<', svg)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("y", [(0.0, 63.0), (63.0, 0.0)])
@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_names_of_things_that_begin_near_each_other_do_not_overlap(
    y: tuple[float, float], shift: float
) -> None:
    one = np.full((4, 2), 20.0)
    other = one + np.array([0, shift])
    svg = paths([{"cube": (one, one), "gripper": (other, other)}], ["clip"], View((0, 63), y))
    below = (shift > 0) != (y[1] > y[0])  # is the gripper below the cube on the page
    assert (height(svg, "gripper") - height(svg, "cube") > 10) == below
    assert abs(height(svg, "gripper") - height(svg, "cube")) > 10


def test_a_thing_that_is_not_seen_at_first_has_no_name() -> None:
    real = np.full((4, 2), 20.0)
    real[0] = np.nan
    svg = paths([{"cube": (real, real)}], ["clip"], View((0, 63), (0, 63)))
    assert ">cube<" not in svg
