"""The demo, on a few episodes and seconds."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from scd_wm.assets import SHIPPED
from scd_wm.demo import demo, worlds
from scd_wm.training.checkpoint import from_pretrained

LARGEST_MB = 10


def test_the_demo_leaves_a_report_of_three_worlds_and_takes_up_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    small = partial(demo, out, minutes=0.005, episodes=4, state_episodes=4, num_clips=2)
    summary = small()
    assert json.loads((out / "summary.json").read_text())["report"] == summary["report"]
    page = (out / "report.html").read_text()
    for world in worlds(0.005):
        assert world.title in page
        assert any((out / "media" / world.name).iterdir()) or world.preset == "state"
    made = {p: p.stat().st_mtime_ns for p in (out / "data").glob("*.hdf5")}
    capsys.readouterr()
    small()
    assert {p: p.stat().st_mtime_ns for p in (out / "data").glob("*.hdf5")} == made
    assert capsys.readouterr().out.count("is trained already") == 3


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something other than"):
        demo(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_impossible_numbers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="minutes must be above 0, got 0"):
        demo(tmp_path / "demo", minutes=0)
    with pytest.raises(ValueError, match="4 episodes or more, got 3"):
        demo(tmp_path / "demo", episodes=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_loads_and_is_small_enough_for_a_package(name: str) -> None:
    folder = SHIPPED[name]
    assert sum(p.stat().st_size for p in folder.iterdir()) <= LARGEST_MB * 1e6
    assert sum(p.numel() for p in from_pretrained(folder).parameters()) >= 2_000_000
