"""Training by two processes at once, as torchrun starts them and as accelerate does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scd_wm.training import files
from scd_wm.training.checkpoint import latest_checkpoint
from scd_wm.training.processes import check_launch
from scd_wm.training.run_log import read_log

from .conftest import SMALL, Train

SCRIPT = """
import sys
from scd_wm.training.run import train_run

data, out, *overrides = sys.argv[1:]
for arch in ("scd", "entangled"):
    arguments = [*overrides, f"arch={arch}"]
    train_run(data, f"{out}/{arch}", preset="state", steps=20, overrides=arguments)
"""
OVERRIDES = ("log_every=1", "eval_every=10", "draws=2", "self_rollouts=1")
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of both architectures by two processes."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*launch, str(script), str(data), str(folder), *SMALL, *OVERRIDES],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=180,
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["scd", "entangled"])
def test_two_processes_train_as_one_does_on_all_of_the_batch(
    arch: str, two: Path, train_small: Train, tmp_path: Path
) -> None:
    """Though clips with a start frame have fewer outcomes, and fall to one process or the other."""
    assert files.read_json(two / arch / "summary.json")["processes"] == 2
    train_small(tmp_path, steps=20, overrides=(*OVERRIDES, f"arch={arch}"))
    one, joint = read_log(tmp_path), read_log(two / arch)
    assert [line["step"] for line in joint] == list(range(1, 21))
    names = [name for name in one[-1] if not name.endswith("_s")]
    assert {"loss", "vector", "reward", "success", "grad_norm", "val_loss"} <= {*names}
    for single, double in zip(one, joint, strict=True):
        for name in single.keys() & {*names}:
            assert double[name] == pytest.approx(single[name], rel=1e-4), (name, single["step"])
    weights, averages = (_tensors(tmp_path, f"{kind}.safetensors") for kind in ("model", "ema"))
    torch.testing.assert_close(_tensors(two / arch, "model.safetensors"), weights, **TOLERANCE)
    torch.testing.assert_close(_tensors(two / arch, "ema.safetensors"), averages, **TOLERANCE)


def _tensors(run: Path, name: str) -> dict[str, torch.Tensor]:
    folder = latest_checkpoint(run)
    assert folder is not None
    return load_file(folder / name)


@pytest.mark.slow
def test_accelerate_launch_on_cpus_is_told_from_two_processes(data: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes"]
    command = ["-m", "scd_wm", "train", str(data), "--out", str(tmp_path / "run"), "--dry-run"]
    alone = {name: v for name, v in os.environ.items() if name not in ("MASTER_ADDR", "WORLD_SIZE")}

    def status_and_errors(processes: str) -> tuple[int, str]:
        run = subprocess.run(
            [*launch, processes, *command], env=alone, capture_output=True, text=True, timeout=120
        )
        return run.returncode, run.stderr

    status, errors = status_and_errors("2")
    assert status != 0
    (line,) = [line for line in errors.splitlines() if line.startswith("scd-wm: error")]
    assert "started only this one" in line
    assert f"torchrun --standalone --nproc-per-node 2 {' '.join(command)}" in line
    status, errors = status_and_errors("1")
    assert status == 0, errors


def test_only_a_world_that_did_not_come_up_is_an_error() -> None:
    lonely = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}
    command = ["python", "train me.py", "--fast"]
    with pytest.raises(ValueError, match=r"ACCELERATE_USE_CPU=true torchrun .* 2 'train me.py' --"):
        check_launch(lonely, command)
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"):
        check_launch({**lonely, name: "2"}, command)
    for name in lonely:
        check_launch({k: v for k, v in lonely.items() if k != name}, command)
