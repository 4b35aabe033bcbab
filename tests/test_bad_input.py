"""A mistake of the user: one line naming the thing and what is allowed; status 2; nothing left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from scd_wm.cli import main
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter

Refused = Callable[..., None]


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """Return a function that runs a command and checks how it is refused."""

    def check(*arguments: str | Path, match: str) -> None:
        given = [a for a in arguments if isinstance(a, Path) and a.is_dir()]
        before = files(tmp_path, *given)
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # how the parser refuses
            status = int(str(stop.code))
        out, err = capfd.readouterr()
        assert status == 2
        assert err.count("\n") == 1, err
        assert err.startswith("scd-wm: error: ")
        assert re.search(match, err), f"no {match!r} in {err!r}"
        assert "Traceback" not in out + err
        assert files(tmp_path, *given) == before

    return check


def files(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Return all files and folders, hidden ones too, with size and time of the last change."""
    found = {path: path.stat() for folder in folders for path in folder.rglob("*")}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def damaged(robot_file: Path, tmp_path: Path, change: Callable[[h5py.File], None]) -> Path:
    """Return a copy of the data with a change."""
    path = tmp_path / "damaged.hdf5"
    shutil.copy(robot_file, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


@pytest.fixture
def other_file(tmp_path: Path) -> Path:
    """Data of another robot: no camera, another vector, three action values."""
    path = tmp_path / "other.hdf5"
    with RobomimicWriter(path, {"env_name": "other", "type": 2, "env_kwargs": {}}) as writer:
        for _ in range(2):
            flags = np.zeros(12, bool)
            joints = np.zeros((13, 7), np.float32)
            writer.add_episode(
                {"joints": joints}, np.zeros((12, 3), np.float32), np.zeros(12), flags, flags
            )
    return path


# Commands that read data, with DATA, OUT and RUN (a trained one) to be filled in.
READING = {
    "inspect": ["DATA"],
    "train": ["DATA", "--out", "OUT", "--steps", "1"],
    "imagine": ["RUN", "DATA", "--out", "OUT", "--horizon", "4"],
    "evaluate": ["RUN", "DATA", "--out", "OUT", "--horizons", "1,4"],
}


@pytest.fixture(params=sorted(READING))
def reading(
    request: pytest.FixtureRequest, tmp_path: Path, small_run: Path
) -> Callable[[Path], list[str]]:
    """Return the command line of a command that reads data, given the data's path."""
    name: str = request.param
    places = {"OUT": str(tmp_path / "out"), "RUN": str(small_run)}
    return lambda path: [name, *((places | {"DATA": str(path)}).get(x, x) for x in READING[name])]


def test_a_missing_path(
    refused: Refused, reading: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    refused(*reading(tmp_path / "nothing.hdf5"), match="no data set at .*nothing.hdf5")


def test_an_unknown_format(
    refused: Refused, reading: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a data set")
    refused(*reading(text), match=r"notes.txt is .*14 bytes.*known are .*robomimic")


def test_a_folder_of_an_unknown_format(
    refused: Refused, reading: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(b"")
    refused(*reading(folder), match=r"photos is a folder with .*one.jpg.*known are .*LeRobot")


def test_a_file_cut_in_half(
    refused: Refused, reading: Callable[[Path], list[str]], tmp_path: Path, robot_file: Path
) -> None:
    whole = robot_file.read_bytes()
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(whole[: len(whole) // 2])
    refused(*reading(cut), match=r"cut.hdf5 .*(cut|damaged|truncated)")


def test_nan_in_actions(
    refused: Refused, reading: Callable[[Path], list[str]], tmp_path: Path, robot_file: Path
) -> None:
    def spoil(file: h5py.File) -> None:
        for demo in file["data"].values():
            demo["actions"][5, 1] = np.nan

    path = damaged(robot_file, tmp_path, spoil)
    if reading(path)[0] == "inspect":  # which is there to find such things, and goes on
        assert main(reading(path)) == 0
        return
    refused(*reading(path), match=r"action.*demo_\d.*(row|step) 5.*nan|demo_\d.*action.*5.*nan")


def test_a_camera_that_is_not_there(refused: Refused, tmp_path: Path, robot_file: Path) -> None:
    train = ["train", robot_file, "--out", tmp_path / "run"]
    refused(*train, "--cameras", "wrist", match=r"no camera 'wrist' in .*it has \['top'\]")


def test_a_vector_that_is_not_there(refused: Refused, tmp_path: Path, robot_file: Path) -> None:
    train = ["train", robot_file, "--out", tmp_path / "run"]
    refused(*train, "--vectors", "force", match=r"no vector 'force' in .*it has \['pos'\]")


def test_images_of_two_sizes(refused: Refused, tmp_path: Path, robot_file: Path) -> None:
    def shrink(file: h5py.File) -> None:
        for group in ("obs", "next_obs"):
            images = file["data/demo_1"][group]["top"][:, :8, :8]
            del file["data/demo_1"][group]["top"]
            file["data/demo_1"][group]["top"] = images

    path = damaged(robot_file, tmp_path, shrink)
    train = ["train", path, "--out", tmp_path / "run"]
    refused(*train, match=r"top in .*two sizes: 16x16, and 8x8 in demo_1.*image_size")


def test_a_clip_longer_than_every_episode(
    refused: Refused, tmp_path: Path, robot_file: Path
) -> None:
    train = ["train", robot_file, "--out", tmp_path / "run", "--steps", "1", "num_frames=100"]
    refused(*train, match=r"no episode of .*robot.hdf5 has 100 frames, the longest has 1\d")


def test_weights_of_another_spec(refused: Refused, small_run: Path, other_file: Path) -> None:
    train = ["train", other_file, "--out", other_file.parent / "run", "--init", small_run]
    refused(*train, match=r"no camera 'top' in .*other.hdf5; it has none")


def test_weights_for_another_image_size(
    refused: Refused, tmp_path: Path, small_run: Path, robot_file: Path
) -> None:
    train = ["train", robot_file, "--out", tmp_path / "run", "--init", small_run]
    refused(*train, "--image-size", "32", match=r"camera 'top' is 32x32x3, the model has 16x16x3")


def test_an_initial_run_that_is_not_one(refused: Refused, tmp_path: Path, robot_file: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "one.jpg").write_bytes(b"")
    train = ["train", robot_file, "--out", tmp_path / "run", "--init", tmp_path / "holiday"]
    refused(*train, match=r"holiday is not a run or model folder.*one.jpg")


def test_initial_weights_cut_in_half(
    refused: Refused, tmp_path: Path, small_run: Path, robot_file: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(small_run / "model", model)
    weights = model / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    train = ["train", robot_file, "--out", tmp_path / "run", "--init", model]
    refused(*train, match=r"model.safetensors is damaged")


@pytest.mark.parametrize("command", ["imagine", "evaluate"])
def test_a_run_that_is_not_one(
    refused: Refused, tmp_path: Path, robot_file: Path, command: str
) -> None:
    out = ["--out", tmp_path / "out"]
    refused(command, tmp_path / "none", robot_file, *out, match="no run or model folder .*none")
    refused(command, robot_file, robot_file, *out, match="robot.hdf5 is a file, not a run")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "one.jpg").write_bytes(b"")
    expected = r"holiday is not a run or model folder.*one.jpg"
    refused(command, tmp_path / "holiday", robot_file, *out, match=expected)
    (tmp_path / "holiday" / "config.json").write_text("{}")
    refused(command, tmp_path / "holiday", robot_file, *out, match=r"holiday.*(no weights|model)")


@pytest.mark.parametrize("command", ["imagine", "evaluate"])
def test_data_of_another_spec(
    refused: Refused, small_run: Path, other_file: Path, command: str
) -> None:
    out = ["--out", other_file.parent / "out"]
    refused(command, small_run, other_file, *out, match=r"no camera 'top' in .*other.hdf5; it has")


@pytest.mark.parametrize(
    ("command", "option"), [("imagine", "--horizon"), ("evaluate", "--horizons")]
)
def test_a_horizon_longer_than_every_episode(
    refused: Refused, tmp_path: Path, small_run: Path, command: str, option: str
) -> None:
    out = ["--out", tmp_path / "out"]
    refused(command, small_run, *out, option, "500", match=r"no episode has the 504 frames.*has 13")


@pytest.mark.parametrize("command", ["imagine", "evaluate"])
def test_an_output_folder_that_holds_something_else(
    refused: Refused, tmp_path: Path, small_run: Path, command: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    refused(command, small_run, "--out", tmp_path / "out", match="out holds something other than")


def test_a_wrong_colour(refused: Refused, tmp_path: Path, small_run: Path) -> None:
    evaluate = ["evaluate", small_run, "--out", tmp_path / "out", "--horizons", "1"]
    refused(*evaluate, "--track", "ball=red", match=r"NAME=R,G,B.*got 'ball=red'")


def test_an_output_folder_that_is_not_a_run(
    refused: Refused, tmp_path: Path, robot_file: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    train = ["train", robot_file, "--out", tmp_path / "run"]
    refused(*train, match=r"run is not a run folder; it has thesis.tex; choose another")


def test_training_over_a_run(refused: Refused, small_run: Path, robot_file: Path) -> None:
    refused("train", robot_file, "--out", small_run, match=r"holds a run .*--resume")


def test_resuming_nothing(refused: Refused, tmp_path: Path, robot_file: Path) -> None:
    train = ["train", robot_file, "--out", tmp_path / "run", "--resume"]
    refused(*train, match=r"nothing to resume: no folder .*run")


def test_resuming_with_other_settings(refused: Refused, small_run: Path, robot_file: Path) -> None:
    train = ["train", robot_file, "--out", small_run, "--resume", "--steps", "3", "dim=64"]
    refused(*train, match=r"cannot resume .* with other settings: model.dim was 32 and is 64")


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("widht=3", r"no setting 'widht'; .*there are model: arch, dim"),
        ("dim=wide", r"dim must be int, got 'wide'"),
        ("dim=33", r"num_heads must be a divisor of 33"),
        ("batch_size=0", r"batch_size must be at least 1, got 0"),
    ],
)
def test_a_wrong_override(
    refused: Refused, tmp_path: Path, robot_file: Path, override: str, match: str
) -> None:
    refused("train", robot_file, "--out", tmp_path / "run", override, match=match)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "required: COMMAND"),
        (["trian"], r"invalid choice: 'trian' \(choose from .*train"),
        (["train"], "required: DATA, --out"),
        (["train", "d", "--out", "r", "--prest", "tiny"], "unknown argument '--prest'.*--help"),
        (["train", "d", "--out", "r", "--preset", "huge"], "invalid choice: 'huge'.*'tiny'"),
        (["train", "d", "--out", "r", "--steps", "1", "--minutes", "1"], "not allowed with"),
        (["train", "d", "--out", "r", "--steps", "many"], "--steps: invalid int value: 'many'"),
        (["train", "d", "--out", "r", "--image-size", "big"], "such as 64 or 48x64, got 'big'"),
        (["train", "d", "--out", "r", "--memory-gib", "-1"], "must be GiB, 0 or more, got '-1'"),
        (["train", "d", "--out", "r", "--memory-gib", "nan"], "must be GiB, 0 or more, got 'nan'"),
        (["train", "d", "--out", "r", "--memory-gib", "inf"], "must be GiB, 0 or more, got 'inf'"),
        (["train", "d", "--out", "r", "--rename", "a=b", "--rename", "a=c"], "a key two names"),
        (["train", "d", "--out", "r", *["--crop", "a=center"] * 2], "CAMERA=... once for each"),
        (["evaluate", "r", "--out", "o", "--horizons", "1 4"], "separated by commas, got '1 4'"),
        (["inspect", "d", "cameras=top"], "unknown argument 'cameras=top'.*--help"),
    ],
)
def test_a_wrong_command_line(refused: Refused, arguments: list[str], match: str) -> None:
    refused(*arguments, match=match)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["no_such/Env-v0"], r"no environment 'no_such/Env-v0'; this package has .*PushT-v0"),
        (["scd_wm/PushT-v0", "--episodes", "0"], "episodes must be at least 1, got 0"),
        (["scd_wm/PushT-v0", "--policy", "zero", "--noise", "1"], "'zero' has no option"),
    ],
)
def test_a_recording_that_cannot_be(
    refused: Refused, tmp_path: Path, arguments: list[str], match: str
) -> None:
    refused("collect", *arguments, "--out", tmp_path / "new.hdf5", match=match)


def test_recording_over_a_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "old.hdf5").write_text("years of work")
    collect = ["collect", "scd_wm/PushT-v0", "--out", tmp_path / "old.hdf5"]
    refused(*collect, match="old.hdf5 exists")


def test_a_real_process_says_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scd_wm", "train", "nothing.hdf5", "--out", "run"]
    environment = {k: v for k, v in os.environ.items() if k != "SCD_WM_DEBUG"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    expected = "scd-wm: error: no data set at nothing.hdf5: there is no such file or folder\n"
    assert (ran.returncode, ran.stderr) == (2, expected)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        main(["inspect", str(tmp_path / "nothing"), "--debug"])
    monkeypatch.setenv("SCD_WM_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["inspect", str(tmp_path / "nothing")])


@pytest.mark.parametrize("initial", [False, True])
def test_an_action_that_is_nan_is_refused_wherever_it_is(
    refused: Refused, robot_file: Path, small_run: Path, tmp_path: Path, initial: bool
) -> None:
    """In held-out episodes too, and when statistics come from the model to start from."""
    with h5py.File(robot_file) as file:
        names = list(file["data"])
    init = ["--init", small_run] if initial else []
    for name in names:

        def spoil(file: h5py.File, name: str = name) -> None:
            file[f"data/{name}/actions"][3, 1] = np.nan

        path = damaged(robot_file, tmp_path, spoil)
        refused("train", path, "--out", tmp_path / "run", *init, match=rf"{name}.* 3.*nan")
