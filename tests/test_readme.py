"""What README.md and the documents show works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scd_wm.cli import parse
from scd_wm.rollouts.policies import load_policy
from scd_wm.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(language: str, page: Path = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


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


def test_the_policy_of_the_documents_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (c for c in _blocks("python", ROOT / "docs" / "extending.md") if c.startswith("def "))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "policy_of_the_documents.py").write_text(code)
    policy = load_policy("policy_of_the_documents:back_to_the_middle", "cpu")
    assert policy is not None
    policy.reset(0)
    actions = policy.act({"pusher_pos": np.array([[0.25, -0.5]], np.float32)})
    assert actions.tolist() == [[-0.25, 0.5]]


def _commands(page: Path) -> list[list[str]]:
    blocks = [block.replace("\\\n", " ") for block in _blocks("sh", page)]
    lines = [line for block in blocks for line in block.splitlines()]
    starts = ("scd-wm ", ".venv-sims/bin/scd-wm ")
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(starts)]


def test_the_readme_shows_the_commands_of_every_stage() -> None:
    assert {command[0] for command in _commands(README)} == {
        *("calibrate", "collect", "evaluate", "imagine", "inspect"),
        *("evaluate-policies", "plan", "play", "rollout", "study", "train", "train-policy"),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one_that_the_command_line_takes(page: Path) -> None:
    for command in _commands(page):
        parse(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, target


def _anchor(heading: str) -> str:
    """Return what GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(_blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_every_preset_is_in_the_table_of_the_documents() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(RECIPES)
