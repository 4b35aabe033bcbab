"""Distillation as a stage of training: from `--init`, resumed, exported."""

from pathlib import Path

import pytest

from scd_wm.model.few_steps import LEAST_VISIBLE
from scd_wm.training import files
from scd_wm.training.checkpoint import load_world_model
from scd_wm.training.config import TrainConfig
from scd_wm.training.run import train_run
from scd_wm.training.run_log import read_log

from .conftest import Train
from .test_run import same, weights

FEW = ("distill_steps=2", "distill_teacher_steps=4", "log_every=1")


@pytest.mark.parametrize("arch", ["scd", "entangled"])
def test_a_distilled_run_resumes_exactly_and_samples_in_as_many_steps(
    train_small: Train, data: Path, tmp_path: Path, arch: str
) -> None:
    first = tmp_path / "first"
    train_small(first, 2, (f"arch={arch}", "num_steps=7", "solver=heun"))
    own = (*FEW, "least_visible=0.3")
    train_small(tmp_path / "whole", 5, own, init=first)
    train_small(tmp_path / "parts", 2, own, init=first)
    train_run(data, tmp_path / "parts", steps=4, resume=True)  # it knows its teacher
    train_small(tmp_path / "parts", 5, own, init=first, resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    config = load_world_model(tmp_path / "whole").config
    assert (config.num_steps, config.solver, config.least_visible) == (2, "euler", 0.3)
    lines = read_log(tmp_path / "parts")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(line["few_steps_vector"] > 0 for line in lines)
    train_small(tmp_path / "plain", 5, ("log_every=1",), init=first)
    assert not same(weights(tmp_path / "whole"), weights(tmp_path / "plain"))
    assert "few_steps_vector" not in read_log(tmp_path / "plain")[0]


def test_a_distilled_run_does_not_go_on_with_another_teacher(
    train_small: Train, tmp_path: Path
) -> None:
    first, run = tmp_path / "first", tmp_path / "run"
    train_small(first, 2)
    train_small(run, 2, FEW, init=first)
    assert load_world_model(run).config.least_visible == LEAST_VISIBLE
    teacher = files.read_json(run / "config.json")["teacher"]
    train_small(first, 3, resume=True)
    with pytest.raises(ValueError, match=f"teacher was '{teacher}' and is "):
        train_small(run, 4, FEW, init=first, resume=True)


def test_a_model_that_was_distilled_does_not_teach_itself_again(
    train_small: Train, tmp_path: Path
) -> None:
    train_small(tmp_path / "first", 2)
    train_small(tmp_path / "second", 2, FEW, init=tmp_path / "first")
    train_small(tmp_path / "third", 2, ("log_every=1",), init=tmp_path / "second")
    assert "few_steps_vector" not in read_log(tmp_path / "third")[0]


def test_distillation_needs_a_teacher_and_steps_that_fit(
    train_small: Train, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"distill_steps=2 learns from .*; name it with --init"):
        train_small(tmp_path / "run", overrides=FEW)
    train_small(tmp_path / "first", 1)
    with pytest.raises(ValueError, match=r"distill_steps needs vector_noise=value, as .*first"):
        train_small(tmp_path / "run", 1, (*FEW, "vector_noise=change"), init=tmp_path / "first")
    with pytest.raises(ValueError, match=r"multiple of distill_steps and more.*got 16 and 3"):
        TrainConfig(steps=1, distill_steps=3)
    with pytest.raises(ValueError, match="distill_weight must be at least 0, got -1"):
        TrainConfig(steps=1, distill_weight=-1)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
