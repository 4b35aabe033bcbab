"""The scripts that compare runs, as they are called."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


def _output(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_losses_are_those_of_the_same_clips_and_noise(
    robot_file: Path, small_run: Path, spoilt_run: Path
) -> None:
    settings = ("--clips", "3", "--frames", "4")
    text = _output("compare_losses.py", robot_file, small_run, small_run, spoilt_run, *settings)
    assert text.startswith("3 clips of 4 frames, of 1 episodes\n")  # those held out
    found = re.findall(r"(\S+)  ([+-]\S+) % \((\S+) to (\S+)\)\n", text)
    same, again, spoilt = [[float(x) for x in line] for line in found]
    assert same == again
    assert same[1:] == [0, 0, 0]
    assert spoilt[0] == pytest.approx(same[0] * (1 + spoilt[1] / 100), rel=0.01)
    assert spoilt[1] > 10


def test_rollouts_are_those_of_the_same_clips(
    robot_file: Path, small_run: Path, spoilt_run: Path
) -> None:
    settings = ("--clips", "3", "--horizons", "1,4")
    text = _output("compare_runs.py", robot_file, small_run, spoilt_run, *settings)
    assert text.startswith("3 clips of 1 episodes\n")
    rows = text[text.index("moving_psnr/top") :].splitlines()[1:5]
    values = [[float(x) for x in re.findall(r"(\S+) \(\S+ to", row)] for row in rows]
    first, spoilt, difference, copied = values
    assert difference == pytest.approx(
        [b - a for a, b in zip(first, spoilt, strict=True)], abs=0.05
    )
    assert max(difference) < -0.5
    assert max(abs(a - b) for a, b in zip(first, copied, strict=True)) < 1  # it has hardly learned
