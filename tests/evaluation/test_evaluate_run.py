import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scd_wm.evaluate_run
from scd_wm.clip import Clip
from scd_wm.evaluate_run import evaluate_run, report_on
from scd_wm.evaluation.evaluate import EvaluationConfig
from scd_wm.imagination import Frames, rollout
from scd_wm.imagine_run import ImagineConfig, imagine_run
from scd_wm.report.video import decode_mp4
from scd_wm.training.checkpoint import load_world_model
from scd_wm.training.run_data import open_run_data

CONFIG = EvaluationConfig(num_clips=3, history=2, horizons=(1, 4), num_resamples=50)
IMAGINE = ImagineConfig(num_clips=2, num_futures=2, history=3, horizon=4)


def test_an_evaluation_leaves_a_report_and_its_numbers(
    small_run: Path, robot_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation"
    summary = evaluate_run(small_run, robot_file, out, config=CONFIG, progress=False)
    assert json.loads((out / "summary.json").read_text()) == summary
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert {p.suffix for p in (out / "media").iterdir()} == {".mp4", ".png"}
    assert summary["num_clips"] == 3
    assert summary["horizon"] == 4
    assert math.isfinite(summary["moving_psnr/top"])
    assert set(summary["evaluation"]["metrics"]["psnr/top"]["models"]) == {
        "world_model",
        "copy_last",
        "shuffled_actions",
        "zero_action",
    }
    fidelity = summary["evaluation"]["fidelity"]
    assert "no registered environment" in fidelity["left_out"]["counterfactual divergence"]
    assert fidelity["counterfactual"] is None


def test_only_held_out_episodes_are_evaluated(small_run: Path, robot_file: Path) -> None:
    config = json.loads((small_run / "config.json").read_text())
    report = report_on(small_run, config=CONFIG, progress=False)  # the data of training
    assert {name for name, _ in report.evaluation.clips} == set(config["data"]["held_out"])
    assert report.data["path"] == str(robot_file)
    assert report.facts["training steps"] == "2"


def test_an_evaluation_is_replaced_and_nothing_else_is(
    small_run: Path, robot_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation"
    for _ in range(2):
        evaluate_run(small_run, robot_file, out, config=CONFIG, progress=False)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something other than an scd_wm evaluation"):
        evaluate_run(small_run, robot_file, other, config=CONFIG, progress=False)
    with pytest.raises(FileExistsError, match="something other than an scd_wm imagination"):
        imagine_run(small_run, robot_file, out, config=IMAGINE)
    assert (other / "thesis.txt").read_text() == "mine"


def test_an_evaluation_that_cannot_be_leaves_nothing_and_says_so_before_it_runs(
    small_run: Path, robot_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = EvaluationConfig(history=20)
    with pytest.raises(ValueError, match="no episode has the 21 frames"):
        evaluate_run(small_run, robot_file, tmp_path / "out", config=long, progress=False)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        evaluate_run(tmp_path / "nowhere", robot_file, tmp_path / "out", progress=False)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr(scd_wm.evaluate_run, "evaluate", never)
    with pytest.raises(ValueError, match="'Robot-v9' is no registered environment"):
        evaluate_run(
            small_run, robot_file, tmp_path / "out", config=CONFIG, env="Robot-v9", progress=False
        )
    with pytest.raises(FileNotFoundError, match="no I3D weights at"):
        evaluate_run(small_run, robot_file, tmp_path / "out", i3d=tmp_path / "i3d.pt")
    assert list(tmp_path.iterdir()) == []


def test_imagination_writes_what_the_model_imagines(
    small_run: Path, robot_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "imagined"
    summary = imagine_run(small_run, robot_file, out, config=IMAGINE)
    assert json.loads((out / "summary.json").read_text()) == summary
    with np.load(out / "imagined.npz") as file:
        kept = {name: file[name] for name in file.files}
    assert kept["imagined/top"].shape == (2, 2, 4, 16, 16, 3)
    assert kept["imagined/pos"].shape == (2, 2, 4, 2)
    assert kept["real/pos"].shape == (2, 7, 2)
    assert kept["actions"].shape == (2, 6, 2)
    assert len(decode_mp4((out / "clip_2.mp4").read_bytes())) >= 7
    source = open_run_data(small_run, robot_file)
    place = summary["clips"][1]
    names = [e.name for e in source.episodes]
    clip = source.clip(names.index(place["episode"]), place["start"], 7).map(lambda x: x[None])
    np.testing.assert_array_equal(kept["real/pos"][1], clip.vectors["pos"][0].numpy())
    seeds = torch.randint(2**31, (4,), generator=torch.Generator().manual_seed(0))
    assert summary["num_steps"] >= 4  # with one step the futures would be the same
    assert not np.array_equal(kept["imagined/pos"][:, 0], kept["imagined/pos"][:, 1])
    frames = rollout(
        load_world_model(small_run),
        clip.frames(0, 3),
        clip.actions[:, 2:],
        seeds=seeds[3:],
        num_steps=summary["num_steps"],
    )
    np.testing.assert_allclose(kept["imagined/pos"][1, 1], frames.vectors["pos"][0], atol=1e-5)


def test_imagination_is_under_the_actions_that_followed_the_history(
    small_run: Path, robot_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def echo(history: Clip, actions: torch.Tensor, seeds: torch.Tensor) -> Frames:
        images = history.images["top"][:, -1:].expand(-1, actions.shape[1], -1, -1, -1)
        return Frames({"top": images}, {"pos": actions}, {})

    monkeypatch.setattr("scd_wm.imagine_run.as_imagine", lambda *settings: echo)
    imagine_run(small_run, robot_file, tmp_path / "out", config=IMAGINE)
    with np.load(tmp_path / "out" / "imagined.npz") as file:
        for future in range(2):
            np.testing.assert_array_equal(file["imagined/pos"][:, future], file["actions"][:, 2:])


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="horizon must be 1 or more, got 0"):
        ImagineConfig(horizon=0)
    with pytest.raises(ValueError, match="num_clips must be 1 or more, got 0"):
        EvaluationConfig(num_clips=0)
