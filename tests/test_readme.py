"""What README.md shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from scd_wm.cli import build_parser
from scd_wm.training.recipes import RECIPES

README = Path(__file__).parents[1] / "README.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = _blocks("python")[0]
    exec(compile(code, str(README), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"# (torch\.Size\(.*\))$", code, re.MULTILINE)
    assert promised
    assert printed[: len(promised)] == promised
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 12  # two imports and ten lines


def test_the_imagined_environment_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = next(block for block in _blocks("python") if "scd_wm/Imagined-v0" in block)
    names: dict[str, Any] = {}
    exec(compile(code, str(README), "exec"), names)
    assert capsys.readouterr().out.splitlines() == ["(8, 64, 64, 3)"]
    assert names["futures"].num_envs == 32


def test_every_command_of_the_readme_is_one_that_the_command_line_takes() -> None:
    commands = [
        line for block in _blocks("sh") for line in block.splitlines() if line.startswith("scd-wm")
    ]
    assert {shlex.split(c)[1] for c in commands} == {
        *("bench", "calibrate", "collect", "evaluate", "imagine", "inspect"),
        *("evaluate-policies", "plan", "play", "rollout", "study", "train", "train-policy"),
    }
    for command in commands:
        build_parser().parse_args(shlex.split(command, comments=True)[1:])


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(_blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_every_preset_is_in_the_table_of_the_readme() -> None:
    assert re.findall(r"^\| `(\w+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE) == list(
        RECIPES
    )
