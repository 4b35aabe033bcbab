"""The spec of a frame: JSON and errors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scd_wm import testing
from scd_wm.spec import CameraSpec, Spec, VectorSpec


def test_a_spec_survives_json() -> None:
    for spec in (testing.image_spec(), testing.state_spec()):
        assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_specs_that_differ_are_told_apart_by_name_and_size() -> None:
    spec = testing.image_spec()
    spec.check_same_layout(replace(spec, outcomes=()), "data set x")
    larger = replace(spec, cameras={"top": CameraSpec(height=32, width=24)})
    with pytest.raises(
        ValueError,
        match="data set x does not fit the model: camera 'top' is 32x24x3, the model has 16x24x3",
    ):
        spec.check_same_layout(larger, "data set x")
    with pytest.raises(ValueError, match="vector 'proprio' is absent, the model has 3 values"):
        spec.check_same_layout(replace(spec, vectors={}), "data set x")
    more = replace(spec, vectors={**spec.vectors, "force": VectorSpec.unit(6)})
    with pytest.raises(ValueError, match="vector 'force' is 6 values, the model has none"):
        spec.check_same_layout(more, "data set x")


def test_bad_specs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one camera or vector"):
        Spec(action=VectorSpec.unit(1))
    with pytest.raises(ValueError, match="std must be above 0"):
        VectorSpec(dim=1, mean=(0,), std=(0,), delta_std=(1,))
    with pytest.raises(ValueError, match="mean has 1 values for a vector of 2"):
        VectorSpec(dim=2, mean=(0,), std=(1, 1), delta_std=(1, 1))
    with pytest.raises(ValueError, match="positive sizes, got 0x8x3"):
        CameraSpec(height=0, width=8)
    with pytest.raises(ValueError, match="names used for a camera and a vector"):
        Spec(
            cameras={"a": CameraSpec(height=8, width=8)},
            vectors={"a": VectorSpec.unit(1)},
            action=VectorSpec.unit(1),
        )
    spec = testing.image_spec()
    with pytest.raises(ValueError, match=r"unknown outcomes \['sucess'\]; allowed are"):
        replace(spec, outcomes=("reward", "sucess"))
    with pytest.raises(ValueError, match=r"no camera or vector may be called \['action'\]"):
        replace(spec, vectors={"action": VectorSpec.unit(2)})
    with pytest.raises(ValueError, match=r"no camera or vector may be called \['success'\]"):
        replace(spec, vectors={"success": VectorSpec.unit(1)})
    with pytest.raises(ValueError, match="reward_std must be above 0, got 0"):
        replace(spec, reward_std=0.0)


def test_outcomes_are_kept_in_one_order() -> None:
    spec = replace(testing.image_spec(), outcomes=("success", "reward"))
    assert spec.outcomes == ("reward", "success")
