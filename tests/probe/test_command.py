"""`scd-wm probe` on a run and on a model of the user's: what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from scd_wm.cli import main
from scd_wm.probe.config import ProbeConfig
from scd_wm.probe.measure import middle_layers, probe
from scd_wm.probe.protocol import check_diffuser
from scd_wm.probe.watch import read_batches
from tests.conftest import SMALL_MODEL, SMALL_TRAINING

from .toy import GAINS, Toy, clips

FEW = ("--clips", "5", "--frames", "2", "--num-steps", "3", "--levels", "1,0.5")
TOY = "tests.probe.toy:toy"


@pytest.fixture(scope="module")
def entangled_run(tmp_path_factory: pytest.TempPathFactory, robot_file: Path) -> Path:
    """A run of two steps of the entangled model on `robot_file`."""
    run = tmp_path_factory.mktemp("runs") / "entangled"
    settings = (*SMALL_MODEL, *SMALL_TRAINING, "arch=entangled", "encoder_layers=2", "patch_size=8")
    arguments = ["train", str(robot_file), "--out", str(run), "--steps", "2", *settings]
    assert main(arguments) == 0
    return run


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return the one line by which a command is refused."""
    assert main(["probe", *map(str, arguments)]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.split("\n") if line.startswith("scd-wm: error: ")]
    assert len(lines) == 1, err
    return lines[0]


def test_a_run_is_probed_on_its_held_out_episodes(
    entangled_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "probed"
    assert main(["probe", str(entangled_run), "--out", str(out), *FEW]) == 0
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert sorted({*summary["split"]["encoder"], *summary["split"]["decoder"]}) == [0, 1, 2]
    assert [x["layer"] for x in summary["layers"]] == [0, 1, 2]
    assert (summary["num_clips"], summary["num_episodes"], summary["num_frames"]) == (5, 1, 10)
    assert summary["history"] == 3
    # 3 frames of 5 tokens, and the frame itself with its outcome query
    assert summary["uniform_past_mass"] == pytest.approx(15 / 21)
    for sentence in summary["why"]:
        assert sentence in printed
    page = (out / "report.html").read_text()
    assert "http" not in page
    assert page.count("<svg") == 6
    assert page.count("<img") == 2  # the features of two frames
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len({*ids})
    again = tmp_path / "again"
    assert main(["probe", str(entangled_run), "--out", str(again), *FEW]) == 0
    assert json.loads((again / "summary.json").read_text())["layers"] == summary["layers"]


def test_a_model_of_ones_own_is_probed_by_its_name(tmp_path: Path, robot_file: Path) -> None:
    out = tmp_path / "toy"
    assert main(["probe", TOY, str(robot_file), "--out", str(out), *FEW]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["layers"]) == 3
    assert summary["uniform_past_mass"] == pytest.approx(0.5)
    assert "<img" not in (out / "report.html").read_text()


def test_losses_of_the_toy_are_those_worked_by_hand() -> None:
    """At level 1 its blocks add 1.2 in all to the noise that is its prediction's start."""
    config = ProbeConfig(clips=6, frames=2, num_steps=4, levels=(1.0,))
    diffuser, given = Toy(mixes=False), clips(3)
    found = probe(diffuser, given, config)
    for table, added in ((found.losses.full, sum(GAINS)), (found.losses.skipped[1], 0.7)):
        expected = []
        for _, frames, eps in read_batches(diffuser, given, config):
            expected.append((eps + added - frames.target).square().mean(1, keepdim=True))
        np.testing.assert_allclose(table, torch.cat(expected).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.losses.blind, np.stack([found.losses.full] * 3))
    assert found.groups.tolist() == np.arange(6).repeat(2).tolist()


def test_the_middle_is_half_of_the_layers_unless_told() -> None:
    assert list(middle_layers(8, ProbeConfig())) == [2, 3, 4, 5]
    assert list(middle_layers(2, ProbeConfig())) == [1]
    assert list(middle_layers(8, ProbeConfig(middle=(1, 3)))) == [1, 2, 3]
    with pytest.raises(ValueError, match="middle must be layers from 0 to 7, got 3:8"):
        middle_layers(8, ProbeConfig(middle=(3, 8)))


def test_what_cannot_be_probed_is_refused_in_one_line(
    tmp_path: Path,
    robot_file: Path,
    small_run: Path,
    entangled_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ("--out", tmp_path / "out")
    said = refused(capsys, small_run, robot_file, *out)
    assert "is a model of arch='scd', which is split already" in said
    assert "arch=entangled" in said
    said = refused(capsys, "tests.probe.toy:a_number", robot_file, *out)
    assert "gives is a int without blocks, tokens, grid, history, read" in said
    assert "no_function" in refused(capsys, "tests.probe.toy:no_function", robot_file, *out)
    assert "No module" in refused(capsys, "no_module_of_ours:toy", robot_file, *out)
    assert "name the data set" in refused(capsys, TOY, *out)
    assert "clips must be 5 or more, got 4" in refused(capsys, entangled_run, *out, "--clips", "4")
    assert re.search(
        r"has no episode of 30 frames, .* the longest has 13",
        refused(capsys, entangled_run, *out, "--frames", "27"),
    )
    assert re.search(
        r"4 clips of 10 frames in .*; the probes need 5 or more",
        refused(capsys, entangled_run, *out, "--frames", "7"),
    )
    assert "levels must be" in refused(capsys, entangled_run, *out, "--levels", "1,0")
    assert "no run or model folder" in refused(capsys, tmp_path / "nothing", *out)
    other = tmp_path / "other.hdf5"
    _write_other(other)
    assert re.search("top", refused(capsys, entangled_run, other, *out))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "holds something other" in refused(capsys, entangled_run, *out)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def _write_other(path: Path) -> None:
    from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter

    with RobomimicWriter(path, {"env_name": "x", "type": 2, "env_kwargs": {}}) as writer:
        writer.add_episode(
            {"pos": np.zeros((13, 2), np.float32)},
            np.zeros((12, 2), np.float32),
            np.zeros(12, np.float32),
            np.zeros(12, bool),
            np.zeros(12, bool),
        )


def test_a_model_with_other_blocks_than_it_says_is_refused() -> None:
    diffuser = Toy()
    diffuser.read = Toy().read  # type: ignore[method-assign]  # runs blocks of another
    with pytest.raises(ValueError, match="the model ran blocks 0 times in 2 steps of 3 blocks"):
        probe(diffuser, clips(3), ProbeConfig(clips=6, frames=2, num_steps=2))


def test_what_is_checked_of_a_model_of_ones_own() -> None:
    class Flat(Toy):
        history = 0

    with pytest.raises(ValueError, match="a history of 1 frame or more, it has 3 and 0"):
        check_diffuser(Flat(), "Flat")
    with pytest.raises(ValueError, match="4 clips given; the probes need 5 or more"):
        probe(Toy(), clips(3, batches=2, size=2), ProbeConfig())
    with pytest.raises(ValueError, match="2 frames or more after 1 of history, got 1"):
        probe(Toy(), clips(2), ProbeConfig())
