"""What metrics are called."""

from __future__ import annotations

import pytest

from scd_wm.evaluation.locate import TrackedColour
from scd_wm.evaluation.scores import Scorer, short_name
from scd_wm.spec import CameraSpec, Spec, VectorSpec


def labels(*cameras: str) -> list[str]:
    shown = {name: CameraSpec(height=16, width=16) for name in cameras}
    action = VectorSpec(dim=1, mean=(0.0,), std=(1.0,), delta_std=(1.0,))
    spec = Spec(cameras=shown, action=action)
    scorer = Scorer(spec=spec, tracked_colours={"cube": TrackedColour((200, 0, 0))})
    return [info.label for info in scorer.describe().values()]


def test_metrics_of_one_camera_do_not_name_it() -> None:
    assert "cube: position error" in labels("front_image")
    assert "SSIM" in labels("front_image")


def test_metrics_of_several_cameras_name_each_briefly() -> None:
    found = labels("front_image", "wrist_image")
    assert len(set(found)) == len(found)
    for label in ("cube (front): position error", "cube (wrist): position error", "SSIM (wrist)"):
        assert label in found


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("robot0_eye_in_hand_image", "robot0_eye_in_hand"),
        ("observation.images.top", "top"),
        ("top", "top"),
    ],
)
def test_cameras_are_named_without_what_formats_add(name: str, short: str) -> None:
    assert short_name(name) == short
