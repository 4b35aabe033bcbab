"""Training by two processes at once, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scd_wm.training import files
from scd_wm.training.run_log import read_log

from .conftest import SMALL, Train

SCRIPT = """
import sys
from scd_wm.training.run import train_run

data, out, *overrides = sys.argv[1:]
train_run(data, out, preset="state", steps=6, overrides=overrides)
"""
OVERRIDES = ("log_every=1", "eval_every=3")


@pytest.mark.slow
def test_two_processes_train_like_one(data: Path, train_small: Train, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    launch += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(script)]
    subprocess.run(
        [*launch, str(data), str(tmp_path / "two"), *SMALL, *OVERRIDES],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    train_small(tmp_path / "one", overrides=OVERRIDES)
    assert files.read_json(tmp_path / "two" / "summary.json")["processes"] == 2
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert [line["step"] for line in two] == [1, 2, 3, 4, 5, 6]
    # Each process weighs its own valid entries, so the means are not exactly those of all clips.
    for single, joint in zip(one, two, strict=True):
        assert joint["vector"] == pytest.approx(single["vector"], rel=0.05)
        assert joint["grad_norm"] == pytest.approx(single["grad_norm"], rel=0.2)
    assert two[5]["val_loss"] == pytest.approx(one[5]["val_loss"], rel=0.05)
