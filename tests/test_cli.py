"""The command line as a user meets it: help, the commands one after the other, Ctrl-C."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scd_wm import console
from scd_wm.calibrate_run import CalibrationConfig
from scd_wm.cli import build_parser, main
from scd_wm.cloning.config import PolicyConfig
from scd_wm.commands import data
from scd_wm.commands.training import PRESETS as PRESET_NAMES
from scd_wm.convert_model import convert_model
from scd_wm.demo import demo
from scd_wm.evaluation.evaluate import EvaluationConfig
from scd_wm.imagine_run import ImagineConfig
from scd_wm.planning.run import PlanConfig
from scd_wm.play.run import PlayConfig
from scd_wm.policies.mpc import MPCConfig
from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
from scd_wm.probe.config import ProbeConfig
from scd_wm.rollouts.run import RolloutConfig

ROOT = Path(__file__).parents[1]
NAMES = (
    "collect",
    "inspect",
    "convert",
    "train",
    "train-autoencoder",
    "train-success",
    "convert-model",
    "calibrate",
    "imagine",
    "evaluate",
    "probe",
    "train-policy",
    "rollout",
    "evaluate-policies",
    "plan",
    "play",
    "bench",
    "study",
    "demo",
)


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert re.findall(r"^    ([\w-]+)(?:  |\n)", text, flags=re.MULTILINE) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_shows_every_default(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(name, capsys)
    subparsers = build_parser()._subparsers
    assert subparsers is not None
    (group,) = subparsers._group_actions
    parser = group.choices[name]  # type: ignore[index]  # of argparse, declared Iterable
    for action in parser._actions:
        assert action.help
        is_off = action.default is None or action.default is False or action.default == []
        if not is_off and action.dest != "help":
            assert f"(default: {action.default})" in text


def test_help_needs_neither_torch_nor_any_other_large_library() -> None:
    large = ["torch", "mujoco", "h5py", "matplotlib", "av", "zarr", "accelerate"]
    code = (
        "import sys\nfrom scd_wm.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {large} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.stderr == "[]\n"


def test_the_choices_are_all_that_there_are() -> None:
    from scd_wm.model.presets import PRESETS
    from scd_wm.training.recipes import RECIPES

    assert PRESET_NAMES == tuple(PRESETS) == tuple(RECIPES)


def test_the_defaults_are_those_of_the_functions() -> None:
    imagine = vars(build_parser().parse_args(["imagine", "run", "--out", "out"]))
    evaluate = vars(build_parser().parse_args(["evaluate", "run", "--out", "out"]))
    expected = vars(ImagineConfig())
    names = {"num_clips": "clips", "num_futures": "futures"}
    assert {name: imagine[names.get(name, name)] for name in expected} == expected
    given = ("history", "horizons", "seed")
    expected = {name: getattr(EvaluationConfig(), name) for name in given}
    assert {name: evaluate[name] for name in given} == expected
    assert evaluate["clips"] == EvaluationConfig().num_clips
    play = vars(build_parser().parse_args(["play", "run"]))
    expected = vars(PlayConfig())
    assert {name: play[{"open_browser": "open"}.get(name, name)] for name in expected} == expected
    _same_defaults(["plan", "run", "env", "--out", "o"], PlanConfig(), planners="planner")
    _same_defaults(["plan", "run", "env", "--out", "o"], MPCConfig())
    _same_defaults(["rollout", "p", "world", "--out", "o"], RolloutConfig())
    command = ["evaluate-policies", "run", "env", "--policies", "p", "q", "--out", "o"]
    _same_defaults(command, PolicyEvaluationConfig())
    _same_defaults(["train-policy", "data", "--out", "o"], PolicyConfig(), crop="random_crop")
    _same_defaults(["calibrate", "run"], CalibrationConfig())
    _same_defaults(["probe", "run", "--out", "o"], ProbeConfig())
    shared = ("split", "encoder", "decoder", "context_mode", "fed_level")
    defaults = inspect.signature(convert_model).parameters
    converted = vars(build_parser().parse_args(["convert-model", "run", "--out", "o"]))
    assert {n: converted[n] for n in shared} == {n: defaults[n].default for n in shared}
    minutes = inspect.signature(demo).parameters["minutes"].default
    assert build_parser().parse_args(["demo"]).minutes == minutes


def _same_defaults(arguments: list[str], config: Any, **options: str) -> None:
    """Check what a command and a configuration both have; `options` have other names there."""
    given = vars(build_parser().parse_args(arguments))
    shared = [name for name in vars(config) if options.get(name, name) in given]
    assert len(shared) >= 3
    assert {n: given[options.get(n, n)] for n in shared} == {n: getattr(config, n) for n in shared}


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert re.fullmatch(r"scd-wm \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_collect_records_episodes_and_sums_up_beside_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "push.hdf5"
    arguments = ["--episodes", "2", "--max-steps", "5", "--noise", "0.5", "--seed", "7"]
    env = ["scd_wm/PushT-v0", "disturbance=0.02", "observation=state"]
    assert main(["collect", *env, "--out", str(path), *arguments]) == 0
    with h5py.File(path) as file:
        kwargs = json.loads(file["data"].attrs["env_args"])["env_kwargs"]
        assert (kwargs["disturbance"], kwargs["observation"]) == (0.02, "state")
        assert [len(demo["actions"]) for demo in file["data"].values()] == [5, 5]
    summary = json.loads((tmp_path / "new" / "push.summary.json").read_text())
    assert (summary["episodes"], summary["steps"]) == (2, 10)
    assert re.search(r"\n  episodes +2\n  steps +10\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("disturbance", "say key=value, such as disturbance=0.01, not 'disturbance'"),
        ("speed=3", "cannot be made with {'speed': 3}"),
    ],
)
def test_collect_refuses_arguments_that_the_environment_does_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    arguments = ["collect", "scd_wm/PushTState-v0", argument, "--out", str(tmp_path / "a.hdf5")]
    with contextlib.suppress(SystemExit):  # argparse ends so, other errors return
        assert main(arguments) != 0
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_inspect_shows_what_is_there(
    tmp_path: Path, robot_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(robot_file), "--out", str(tmp_path / "look")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"episodes +4\n", out)
    assert re.search(r"camera top +16x16x3 uint8\n", out)
    summary = json.loads((tmp_path / "look" / "summary.json").read_text())
    assert summary["num_steps"] == 48
    assert {f["code"] for f in summary["findings"]} >= {"lag_unknown", "coverage"}
    page = (tmp_path / "look" / "report.html").read_text()
    assert all(finding["what"] in page for finding in summary["findings"])
    assert re.search(r"\n  scd-wm train \S+robot.hdf5 --out ", out)


def test_inspect_fails_on_warnings_only_if_told_to(
    tmp_path: Path, robot_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(robot_file), "--strict"]) == 0
    spoilt = tmp_path / "spoilt.hdf5"
    spoilt.write_bytes(robot_file.read_bytes())
    with h5py.File(spoilt, "r+") as file:
        file["data/demo_2/obs/pos"][3, 0] = np.nan
    assert main(["inspect", str(spoilt)]) == 0
    assert re.search(
        r"\n  error +pos is NaN .* in 1 row of 1 episode \(demo_2\)\n", capsys.readouterr().out
    )
    with pytest.raises(SystemExit, match="1"):
        main(["inspect", str(spoilt), "--strict", "--images", "0", "--seconds", "1"])


def test_train_leaves_a_run_that_can_be_loaded(small_run: Path) -> None:
    import scd_wm

    summary = json.loads((small_run / "summary.json").read_text())
    assert (summary["steps"], summary["finished"]) == (2, True)
    assert tuple(scd_wm.load_world_model(small_run).spec.cameras) == ("top",)


def test_imagine_writes_videos_arrays_and_a_summary(
    tmp_path: Path, small_run: Path, robot_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "imagined"
    options = ["--clips", "2", "--futures", "1", "--horizon", "5", "--num-steps", "1"]
    assert main(["imagine", str(small_run), str(robot_file), "--out", str(out), *options]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"clip_1.mp4", "clip_2.mp4", "imagined.npz", "summary.json"}
    assert np.load(out / "imagined.npz")["imagined/top"].shape == (2, 1, 5, 16, 16, 3)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["horizon"], summary["num_steps"], summary["history"]) == (5, 1, 4)
    assert re.search(r"\n  horizon +5\n", capsys.readouterr().out)


def test_evaluate_writes_a_report_and_a_summary(
    tmp_path: Path, small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "evaluated"
    options = ["--clips", "2", "--horizons", "1,4", "--seed", "3", "--track", "ball=250,0,0"]
    assert main(["evaluate", str(small_run), "--out", str(out), *options]) == 0
    evaluation = json.loads((out / "summary.json").read_text())["evaluation"]
    assert (evaluation["horizons"], evaluation["seed"]) == ([1, 4], 3)
    page = (out / "report.html").read_text()
    assert "<html" in page
    assert "The doctor found nothing to warn of" in page
    shown = capsys.readouterr().out
    assert "ball: share of frames found" in shown
    assert re.search(r"\n  report +\S+report.html\n", shown)


def test_overrides_may_stand_anywhere(
    tmp_path: Path, robot_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--out", str(tmp_path / "run"), "--dry-run"]
    assert main(["train", str(robot_file), "dim=64", *where, "num_heads=4", "--seed", "9"]) == 0
    out = capsys.readouterr().out
    assert all(setting in out for setting in ("dim=64", "num_heads=4", "seed=9"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "cameras", "vectors"),
    [
        (["--cameras", "none"], "[]", "['pos']"),
        (["--vectors", "none"], "['top']", "[]"),
        (["--cameras", "top", "--vectors", "pos"], "['top']", "['pos']"),
    ],
)
def test_cameras_and_vectors_are_chosen_by_name(
    robot_file: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    cameras: str,
    vectors: str,
) -> None:
    assert main(["train", str(robot_file), "--out", "run", "--dry-run", *options]) == 0
    assert f"cameras={cameras} vectors={vectors}" in capsys.readouterr().out


def test_image_size_is_a_side_or_height_and_width(
    robot_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, size in (("32", "[32, 32]"), ("32x64", "[32, 64]")):
        arguments = ["--out", "run", "--dry-run", "--image-size", text]
        assert main(["train", str(robot_file), *arguments]) == 0
        assert f"{{'top': {size}}}" in capsys.readouterr().out


@pytest.fixture
def training(tmp_path: Path, robot_file: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that trains, with its first checkpoint written."""
    small = ["dim=32", "num_heads=2", "encoder_layers=1", "decoder_layers=1", "window=3"]
    settings = [*small, "batch_size=2", "num_frames=6", "eval_batches=1", "checkpoint_every=1"]
    command = [sys.executable, "-m", "scd_wm", "train", str(robot_file), "--out", "run", *settings]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--steps", "100000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        deadline = time.monotonic() + 240
        while not list((tmp_path / "run" / "checkpoints").glob("step_*")):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline, "no checkpoint after four minutes"
            time.sleep(0.05)
        yield process
        process.kill()


def test_ctrl_c_ends_training_and_says_how_to_go_on(
    training: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training.send_signal(signal.SIGINT)
    _, err = training.communicate(timeout=120)
    last = err.splitlines()[-1]
    assert training.returncode == 130
    assert last.startswith("scd-wm: interrupted; go on with: scd-wm train ")
    assert "Traceback" not in err

    steps = json.loads((tmp_path / "run" / "summary.json").read_text())["steps"]
    again = last.split("scd-wm ")[-1].replace(" run ", f" {tmp_path / 'run'} ").split()
    again[again.index("--steps") + 1] = str(steps + 1)
    assert main(again) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == steps + 1


def test_a_missing_optional_package_names_its_extra(
    robot_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> None:
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr(data, "run_inspect", run)
    assert main(["inspect", str(robot_file)]) == 2
    expected = "this needs pyarrow, which is not installed; pip install 'scd-wm[lerobot]'\n"
    assert capfd.readouterr().err == f"scd-wm: error: {expected}"


def test_a_fault_of_ours_shows_its_traceback(
    robot_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: object) -> None:
        raise AssertionError("cannot be")

    monkeypatch.setattr(data, "run_inspect", run)
    with pytest.raises(AssertionError, match="cannot be"):
        main(["inspect", str(robot_file)])


def test_a_summary_is_json_whatever_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "summary.json"
    console.write_summary(path, {"psnr": [1.0, float("nan")], "best": float("inf"), "n": 3})
    assert json.loads(path.read_text()) == {"psnr": [1.0, None], "best": None, "n": 3}
    assert [p.name for p in path.parent.iterdir()] == ["summary.json"]


def test_a_reader_that_has_seen_enough_is_no_error(robot_file: Path) -> None:
    command = f"{sys.executable} -m scd_wm inspect {robot_file} | true; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (ran.stdout, ran.stderr) == ("141\n", "")
