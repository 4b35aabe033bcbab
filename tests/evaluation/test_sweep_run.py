"""One run at several settings of its sampler."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm.cli import main
from scd_wm.clip import Clip
from scd_wm.evaluation.clips import choose_clips
from scd_wm.evaluation.evaluate import EvaluationConfig, clip_seeds, evaluate, read_clips
from scd_wm.evaluation.metrics import sharpness
from scd_wm.evaluation.world_model import as_imagine
from scd_wm.model.flow import Sampler
from scd_wm.sweep_run import samplers, sweep_run
from scd_wm.training.checkpoint import load_world_model
from scd_wm.training.run_data import open_run_data

CONFIG = EvaluationConfig(num_clips=3, num_futures=2, history=2, horizons=(1, 4), num_resamples=50)
SETTINGS = ((1, None), (3, "euler"), (3, "heun"))  # one step is the same for all solvers


@pytest.fixture(scope="module")
def swept(small_run: Path, robot_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "out"
    sweep_run(
        small_run,
        robot_file,
        out,
        num_steps=(1, 3),
        solvers=("euler", "heun"),
        config=CONFIG,
        progress=False,
    )
    return out


def test_every_setting_is_measured_once_and_its_evaluations_are_counted(swept: Path) -> None:
    settings = json.loads((swept / "summary.json").read_text())["settings"]
    keys = ("solver", "num_steps", "evaluations_per_frame")
    assert [tuple(s[k] for k in keys) for s in settings] == [
        ("euler", 1, 1),
        ("euler", 3, 3),
        ("heun", 3, 5),
    ]
    assert all(s["cpu_s_per_frame"] > 0 and s["wall_s_per_frame"] > 0 for s in settings)


def test_a_setting_scores_as_evaluation_does_on_the_same_clips_and_seeds(
    swept: Path, small_run: Path, robot_file: Path
) -> None:
    model, source = load_world_model(small_run), open_run_data(small_run, robot_file)
    settings = json.loads((swept / "summary.json").read_text())["settings"]
    for setting, (steps, solver) in zip(settings, SETTINGS, strict=True):
        imagine = as_imagine(model, steps, None, solver)
        result = evaluate(imagine, source, model.spec, CONFIG, progress=False)
        for name in ("psnr/top", "moving_psnr/top", "rmse/pos", "energy/pos"):
            own = setting["metrics"][name]["4"]["mean"]
            assert own == pytest.approx(result.mean(name, 4), rel=1e-6)
    places = choose_clips(source, 6, 3, CONFIG.seed)
    clip: Clip = read_clips(source, places, 6)
    frames = as_imagine(model, 1)(clip.frames(0, 2), clip.actions[:, 1:], clip_seeds(3, 0))
    real = clip.images["top"]
    expected = sharpness(frames.images["top"], real[:, 2:], real[:, 1]).mean(0)
    got = [settings[0]["metrics"]["sharpness/top"][str(h)]["mean"] for h in (1, 4)]
    torch.testing.assert_close(torch.tensor(got), expected[[0, 3]].float(), rtol=1e-5, atol=0)


def test_each_setting_reaches_the_sampler_and_what_moved_is_told_by_the_last_frame_given(
    small_run: Path, robot_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has hardly learned: in numbers its solvers do not differ, and all of it moves."""
    asked, given = [], []

    def spy_imagine(model: Any, **given: Any) -> Any:
        asked.append((given["num_steps"], given["solver"], given["guidance"]))
        return as_imagine(model, **given)

    def spy_sharpness(imagined: Tensor, real: Tensor, last: Tensor) -> Tensor:
        given.append((real, last))
        return sharpness(imagined, real, last)

    monkeypatch.setattr("scd_wm.sweep_run.as_imagine", spy_imagine)
    monkeypatch.setattr("scd_wm.sweep_run.metrics.sharpness", spy_sharpness)
    settings: dict[str, Any] = {
        "num_steps": (1, 2),
        "solvers": ("heun",),
        "guidances": (1.5,),
        "config": CONFIG,
        "progress": False,
    }
    sweep_run(small_run, robot_file, tmp_path / "out", **settings)
    assert asked == [(1, "heun", 1.5), (2, "heun", 1.5)]
    source = open_run_data(small_run, robot_file)
    real = read_clips(source, choose_clips(source, 6, 3, CONFIG.seed), 6).images["top"]
    assert torch.equal(given[0][0], real[:, 2:])
    assert torch.equal(given[0][1], real[:, 1])


def test_each_guidance_scores_as_an_evaluation_with_it_does(
    spoilt_run: Path, robot_file: Path, tmp_path: Path
) -> None:
    """The small run has learned too little for its contexts to matter."""
    arguments = [
        str(spoilt_run),
        str(robot_file),
        "--clips",
        "3",
        "--history",
        "2",
        "--horizons",
        "1,4",
    ]
    for name, options in (
        ("sweep", ["--sweep-steps", "2", "--sweep-guidance", "1,2.5"]),
        ("plain", ["--num-steps", "2"]),
        ("guided", ["--num-steps", "2", "--guidance", "2.5"]),
    ):
        assert main(["evaluate", *arguments, "--out", str(tmp_path / name), *options]) == 0
    settings = json.loads((tmp_path / "sweep" / "summary.json").read_text())["settings"]
    assert [(s["guidance"], s["evaluations_per_frame"]) for s in settings] == [(1.0, 2), (2.5, 4)]
    found = [s["metrics"]["rmse/pos"]["4"]["mean"] for s in settings]
    assert abs(found[0] - found[1]) > 1e-3
    for value, name in zip(found, ("plain", "guided"), strict=True):
        whole = json.loads((tmp_path / name / "summary.json").read_text())["evaluation"]
        scored = whole["metrics"]["rmse/pos"]["models"]["world_model"]["4"]["mean"]
        assert value == pytest.approx(scored, rel=1e-5)


def test_what_is_not_given_is_the_models_own(
    small_run: Path, robot_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    stored = json.loads((run / "config.json").read_text())
    stored["model"] |= {"solver": "heun", "guidance": 1.5}
    (run / "config.json").write_text(json.dumps(stored))
    arguments = ["evaluate", str(run), str(robot_file), "--out", str(tmp_path / "out")]
    arguments += ["--clips", "2", "--history", "2", "--horizons", "1", "--sweep-steps", "2"]
    assert main(arguments) == 0
    (setting,) = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert (setting["solver"], setting["guidance"]) == ("heun", 1.5)
    assert setting["evaluations_per_frame"] == 6


def test_the_command_prints_one_table_of_all_settings(
    small_run: Path, robot_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", str(small_run), str(robot_file), "--out", str(out), "--clips", "2"]
    arguments += ["--horizons", "1,2"]
    assert main([*arguments, "--sweep-steps", "1,2", "--sweep-solvers", "euler,heun"]) == 0
    text = capsys.readouterr().out
    assert re.search(
        r"guidance +solver +T +evaluations +CPU ms +moving_psnr/top +sharpness/top", text
    )
    assert re.search(r"\n +1 +euler +1 +1 .*\n +1 +euler +2 +2 .*\n +1 +heun +2 +3 ", text)
    assert "2 frames ahead" in text
    before = (out / "summary.json").read_text()
    for wrong, message in (
        (["--sweep-steps", "0"], "num_steps must be at least 1, got 0"),
        (["--sweep-steps", "1", "--num-steps", "2"], "take the place of --num-steps, --solver"),
        (["--sweep-guidance", "2", "--guidance", "2", "--sweep-steps", "1"], "take the place of"),
        (["--sweep-guidance", "2", "--guidance", "0", "--sweep-steps", "1"], "take the place of"),
        (
            ["--sweep-steps", "1", "--sweep-guidance", "nan"],
            "guidance must be 1, .* got nan",
        ),
        (["--sweep-solvers", "heun"], "--sweep-guidance go with --sweep-steps"),
        (["--sweep-guidance", "2"], "--sweep-guidance go with --sweep-steps"),
        (["--sweep-steps", "1", "--sweep-guidance", "0.5"], "guidance must be 1, or above"),
        (["--sweep-steps", "1", "--sweep-solvers", "rk4"], "solver must be one of .* got 'rk4'"),
        ([], "holds something other than an scd_wm evaluation"),
    ):
        assert main([*arguments, *wrong]) != 0
        assert re.search(message, capsys.readouterr().err)
    assert (out / "summary.json").read_text() == before


def test_settings_are_every_pair_and_one_step_is_the_same_for_all_solvers() -> None:
    assert samplers((2, 1), ("heun", "euler"), (1.0, 1.5)) == [
        Sampler(2, "heun"),
        Sampler(1, "heun"),
        Sampler(2, "euler"),
        Sampler(2, "heun", 1.5),
        Sampler(1, "heun", 1.5),
        Sampler(2, "euler", 1.5),
    ]
    with pytest.raises(ValueError, match="give sampler steps, solvers and guidances"):
        samplers((), ("euler",))
