"""Real processes, killed and started again."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from scd_wm.training.checkpoint import checkpoint_step, latest_checkpoint, load_world_model
from scd_wm.training.run import train_run

from .conftest import SMALL

STEPS = 40
WAIT_S = 60.0  # for a process to get somewhere
FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors")


def start(data: Path, out: Path, steps: int = STEPS, resume: bool = False) -> BaseProcess:
    """Train in a new process, with a checkpoint after every second step."""
    context = multiprocessing.get_context("forkserver")  # its server imports torch only once
    context.set_forkserver_preload(["scd_wm.training.run"])
    settings: dict[str, Any] = {
        "data": data,
        "out": out,
        "preset": "state",
        "steps": steps,
        "resume": resume,
        "overrides": (*SMALL, "self_rollouts=1", "checkpoint_every=2", "log_every=1"),
    }
    process = context.Process(target=train_run, kwargs=settings)
    process.start()
    return process


def steps_done(out: Path) -> int:
    newest = latest_checkpoint(out)
    return 0 if newest is None else checkpoint_step(newest)


def is_writing(out: Path) -> bool:
    return any((out / "checkpoints").glob(".*.partial"))


def waiting(process: BaseProcess) -> Iterator[None]:
    """Yield again and again while the process lives."""
    end = time.monotonic() + WAIT_S
    while process.is_alive():
        assert time.monotonic() < end, f"nothing happened for {WAIT_S} s"
        yield


def finish(process: BaseProcess) -> None:
    process.join(WAIT_S)
    assert process.exitcode == 0


def assert_same_end(one: Path, two: Path) -> None:
    assert steps_done(one) == steps_done(two) == STEPS
    for name in FILES:
        path = Path("checkpoints") / f"step_{STEPS:08d}" / name
        assert (one / path).read_bytes() == (two / path).read_bytes(), name
    path = Path("model") / "model.safetensors"
    assert (one / path).read_bytes() == (two / path).read_bytes()


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(start(data, out))
    return out


def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    moments, out, reached = random.Random(0), tmp_path / "run", []
    for kill in range(4):
        process = start(data, out, resume=out.exists())
        before, in_a_write = steps_done(out), kill % 2 == 0
        for _ in waiting(process):
            if steps_done(out) > before and (not in_a_write or is_writing(out)):
                break
            time.sleep(0 if in_a_write else 0.005)
        time.sleep(0 if in_a_write else moments.uniform(0, 0.2))
        process.kill()
        process.join()
        reached.append(steps_done(out))
        if process.exitcode == 0:
            break
        load_world_model(out)  # what is on disk is whole at any time
    assert len(reached) >= 3, "the runs were over before they could be killed"
    finish(start(data, out, resume=True))
    assert_same_end(whole, out)


def test_a_run_that_is_killed_before_its_first_checkpoint_starts_again(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(data, out)
    for _ in waiting(process):
        if (out / "config.json").exists():
            break
    process.kill()
    process.join()
    finish(start(data, out, resume=True))
    assert_same_end(whole, out)


def test_a_run_that_is_asked_to_stop_keeps_all_its_steps(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(data, out)
    for _ in waiting(process):
        if steps_done(out) >= 4:
            break
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    finish(process)
    assert 4 <= steps_done(out) < STEPS
    assert (out / "model" / "model.safetensors").exists()
    assert len((out / "log.jsonl").read_text().splitlines()) == steps_done(out)
    finish(start(data, out, resume=True))
    assert_same_end(whole, out)
