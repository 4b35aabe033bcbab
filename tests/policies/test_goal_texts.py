"""Goals as text."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scd_wm import testing
from scd_wm.imagination import Frames
from scd_wm.policies.goal_texts import parse_goal
from scd_wm.policies.goals import ImageGoal, OutcomeGoal

SPEC = testing.image_spec()
FRAMES = Frames(
    {"top": torch.zeros(1, 16, 24, 3, dtype=torch.uint8)},
    {"proprio": torch.tensor([[1.0, 2.0, 2.0]])},
    {"success": torch.tensor([0.25]), "reward": torch.tensor([3.0])},
)


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("success", 0.75),
        ("reward", -3.0),
        ("proprio=0,0,0", 3.0),
        ("proprio[1:3]=2,-1.0", 3.0),
        ("2*success + proprio[0:1]=1e0", 1.5),
        ("0.5*reward + success + proprio=1,2,2", -0.75),
    ],
)
def test_texts_mean_goals(text: str, cost: float) -> None:
    assert float(parse_goal(text, SPEC)(FRAMES)) == pytest.approx(cost)


def test_a_picture_and_a_function_are_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "goal.png"
    Image.fromarray(np.full((16, 24, 3), 255, np.uint8)).save(path)
    goal = parse_goal(f"top={path}", SPEC)
    assert isinstance(goal, ImageGoal)
    assert float(goal(FRAMES)) == 1
    (tmp_path / "my_goals.py").write_text("def far(frames):\n    return frames.outcome['reward']\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert float(parse_goal("my_goals:far", SPEC)(FRAMES)) == 3
    assert isinstance(parse_goal("success", SPEC), OutcomeGoal)


def test_a_function_is_found_in_the_folder_that_a_console_script_is_called_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "goal_of_this_folder.py").write_text("def near(frames):\n    return 7\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    assert parse_goal("goal_of_this_folder:near", SPEC)(FRAMES) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("glory", "no goal 'glory'; a goal is one of"),
        ("arm=1,2", "no vector 'arm'"),
        ("proprio=1,2", "gives each a number"),
        ("proprio=1,,2", "are not numbers"),
        ("no.such:goal", "goal 'no.such:goal': No module named"),
        ("math:goal", "goal 'math:goal': .*no attribute 'goal'"),
    ],
)
def test_what_is_no_goal_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_goal(text, SPEC)


def test_a_picture_of_another_size_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"must be \(16, 24, 3\) pixels, got \(8, 8, 3\)"):
        parse_goal(f"top={tmp_path / 'small.png'}", SPEC)
    with pytest.raises(FileNotFoundError, match="no goal picture"):
        parse_goal(f"top={tmp_path / 'none.png'}", SPEC)
    with pytest.raises(ValueError, match="does not predict 'success'"):
        parse_goal("success", testing.state_spec())
