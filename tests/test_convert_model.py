"""`scd-wm convert-model`: a folder that every command takes, or one clear line and none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scd_wm import testing
from scd_wm.cli import main
from scd_wm.convert_model import as_text, convert_model, read_split
from scd_wm.imagination import rollout
from scd_wm.training.checkpoint import from_pretrained, load_world_model, save_pretrained


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An exported causal diffuser of four layers."""
    data = {"data": {"path": "/data/push.hdf5"}, "steps": 7}
    return save_pretrained(testing.entangled(), tmp_path / "run", data)


def test_a_converted_model_is_saved_loaded_and_imagines(run: Path, tmp_path: Path) -> None:
    summary = convert_model(run, tmp_path / "scd", encoder=(0, 1, 2), decoder=(0, 3))
    model = from_pretrained(tmp_path / "scd")
    assert model.config.arch == "scd"
    assert (model.config.encoder_layers, model.config.decoder_layers) == (3, 2)
    assert (model.config.fed_level, model.config.resume_layer) == (0.8, 1)
    written = json.loads((tmp_path / "scd" / "config.json").read_text())
    assert written["split"] == {"encoder": [0, 1, 2], "decoder": [0, 3]} == summary["split"]
    assert written["data"] == {"path": "/data/push.hdf5"}
    assert written["init"] == str(run)
    assert "steps" not in written  # of this model there have been none
    assert summary["parameters"] == sum(p.numel() for p in model.parameters())
    assert summary["new"] == 0
    clip, actions = testing.clip(model.spec, 2, 3), torch.zeros(2, 5, 2)
    frames = rollout(model, clip, actions)
    fast = rollout(load_world_model(tmp_path / "scd", engine="auto"), clip, actions)
    for name, vector in frames.vectors.items():
        assert vector.isfinite().all()
        torch.testing.assert_close(fast.vectors[name], vector, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        ["--split", "3+2"],
        ["--encoder", "0-2", "--decoder", "0,3"],
        ["--split", "FOLDER"],
        ["--split", "FOLDER/summary.json"],
    ],
)
def test_a_split_can_be_told_in_four_ways(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    split = {"encoder": [0, 1, 2], "decoder": [0, 3]}
    (tmp_path / "summary.json").write_text(json.dumps({"split": split, "other": 1}))
    options = [option.replace("FOLDER", str(tmp_path)) for option in options]
    assert main(["convert-model", str(run), "--out", str(tmp_path / "scd"), *options]) == 0
    assert json.loads((tmp_path / "scd" / "config.json").read_text())["split"] == split
    assert "encoder       0-2\n  decoder       0,3\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say how to split: either split, or both encoder and decoder"),
        (["--split", "3+2", "--encoder", "0"], "say how to split"),
        (["--decoder", "0"], "say how to split"),
        (["--split", "8+4"], "a split of 8+4 needs more layers than there are, 4"),
        (["--split", "0+2"], "the encoder has no layers"),
        (["--encoder", "none", "--decoder", "1"], "the encoder has no layers"),
        (["--encoder", "0-9", "--decoder", "1"], "no layer 9 for the encoder"),
        (["--encoder", "0-1", "--decoder", "4"], "no layer 4 for the decoder"),
        (["--encoder", "1,0", "--decoder", "1"], "in rising order"),
        (["--split", "missing.json"], "got 'missing.json'"),
        (["--split", "3+2", "--fed-level", "none"], 'context_mode must be "resume" only where'),
    ],
)
def test_what_cannot_be_split_is_said_in_one_line_and_nothing_written(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["convert-model", str(run), "--out", str(tmp_path / "scd"), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("scd-wm: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("value", ["0-", "a", "0-1-2", "-3"])
def test_layers_that_are_none_are_refused_by_the_command_line(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["convert-model", "run", "--out", "o", f"--encoder={value}", "--decoder", "0"])
    assert f"must be layers counted from 0 such as 0-5,7, got '{value}'" in capsys.readouterr().err


def test_a_model_that_is_scd_already_and_a_folder_that_is_there_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pretrained(testing.model(), tmp_path / "already")
    for source, out, message in (
        (tmp_path / "already", tmp_path / "scd", "the model is SCD already"),
        (run, tmp_path / "already", "is there already; choose another folder"),
        (tmp_path / "nowhere", tmp_path / "scd", "no run or model folder"),
    ):
        assert main(["convert-model", str(source), "--out", str(out), "--split", "2+1"]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "scd").exists()
    assert from_pretrained(tmp_path / "already").config.fed_level is None


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"split": [1, 2]}',
        '{"split": {"encoder": [0]}}',
        '{"split": {"encoder": "01", "decoder": [1]}}',
        '{"split": {"encoder": [0], "decoder": [1.7]}}',
    ],
)
def test_a_file_without_a_split_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(ValueError, match='has no "split"'):
        read_split(path)


def test_a_probe_that_found_no_encoder_is_said_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text('{"split": {"encoder": [], "decoder": [0, 1]}}')
    with pytest.raises(ValueError, match=r"summary.json suggests no split, its encoder has no"):
        read_split(path)


def test_layers_are_told_as_they_are_given() -> None:
    assert as_text((0, 1, 2, 5, 7, 8)) == "0-2,5,7-8"
    assert as_text((3,)) == "3"
