"""A run learns to know its data: by command, on disk, and what follows for those who load it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import scd_wm
from scd_wm import testing
from scd_wm.calibrate_run import CalibrationConfig, calibrate_run
from scd_wm.cli import main
from scd_wm.evaluate_run import evaluate_run
from scd_wm.evaluation.evaluate import EvaluationConfig
from scd_wm.evaluation.scores import MetricInfo
from scd_wm.evaluation.uncertainty import compare, mean_by_frame, rank_correlation
from scd_wm.model.world_model import WorldModel
from scd_wm.training import files
from scd_wm.training.checkpoint import (
    from_pretrained,
    latest_checkpoint,
    load_world_model,
    save_pretrained,
)
from tests.familiar import calibrated

CONFIG = CalibrationConfig(clips=6, held_out_clips=4, clip_len=8)


@pytest.fixture(scope="module")
def known_run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run that knows its data."""
    run = tmp_path_factory.mktemp("runs") / "known"
    shutil.copytree(small_run, run)
    calibrate_run(run, config=CONFIG, progress=False)
    return run


def uncertainty(model: WorldModel) -> torch.Tensor:
    history, actions = testing.clip(model.spec, 2, 3), torch.ones(2, 4, model.spec.action.dim) / 2
    found = scd_wm.rollout(model, history, actions).uncertainty
    assert found is not None
    return found


def test_a_run_that_was_calibrated_says_how_sure_it_is(known_run: Path, small_run: Path) -> None:
    loaded, exported = load_world_model(known_run), from_pretrained(known_run / "model")
    assert torch.equal(uncertainty(loaded), uncertainty(exported))
    assert load_world_model(small_run).familiarity is None
    assert loaded.familiarity is not None
    origin = loaded.familiarity.origin
    assert origin["data"] == "robot.hdf5"
    assert (origin["episodes"], origin["held_out_episodes"]) == (3, 1)
    assert origin["held_out_is_unseen"]
    assert origin["contexts"] == 6 * 7


def test_the_command_says_what_it_did(
    small_run: Path, tmp_path: Path, robot_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    options = ["--clips", "6", "--held-out-clips", "6"]
    assert main(["calibrate", str(run), str(robot_file), *options]) == 0
    shown = capsys.readouterr().out
    for text in (f"calibrated {run}", "familiarity.safetensors", "held_out_contexts"):
        assert text in shown
    assert main(["calibrate", str(run), str(tmp_path / "nowhere")]) == 2
    assert main(["calibrate", str(run), "--clips", "0"]) == 2
    assert "clips must be 1 or more, got 0" in capsys.readouterr().err


def test_familiarity_goes_with_its_weights(known_run: Path, tmp_path: Path) -> None:
    """A newer checkpoint has none: what is known of other weights says nothing of these."""
    run = tmp_path / "run"
    shutil.copytree(known_run, run)
    newest = latest_checkpoint(run)
    assert newest is not None
    newer = newest.with_name("step_00000009")
    shutil.copytree(newest, newer, ignore=shutil.ignore_patterns("familiarity.*"))
    assert load_world_model(run).familiarity is None
    weights = files.read_tensors(newer / "ema.safetensors")
    files.replace_tensors(newer / "ema.safetensors", {k: v + 1 for k, v in weights.items()})
    calibrate_run(run, config=CONFIG, progress=False)  # the export holds the older weights
    before = files.read_tensors(known_run / "model" / "familiarity.safetensors")["centre"]
    after = files.read_tensors(run / "model" / "familiarity.safetensors")["centre"]
    assert torch.equal(before, after)
    assert not torch.equal(files.read_tensors(newer / "familiarity.safetensors")["centre"], before)


def test_saving_and_loading_keeps_every_bit(tmp_path: Path) -> None:
    model = calibrated(testing.model().eval())
    folder = save_pretrained(model, tmp_path / "model")
    loaded = from_pretrained(folder)
    assert loaded.familiarity is not None
    assert model.familiarity is not None
    for name, tensor in model.familiarity.tensors.items():
        assert torch.equal(tensor, loaded.familiarity.tensors[name])
    # Not to the bit: a product may be summed in another order where its weights lie elsewhere.
    torch.testing.assert_close(uncertainty(loaded), uncertainty(model), rtol=1e-5, atol=1e-6)
    weights = {k: v.detach() for k, v in model.named_parameters()}
    other = save_pretrained(model, tmp_path / "averaged", weights=weights)
    assert from_pretrained(other).familiarity is None  # of other weights it would be wrong


def test_a_familiarity_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = save_pretrained(calibrated(testing.model().eval()), tmp_path / "model")
    description = files.read_json(folder / "familiarity.json")
    tensors = folder / "familiarity.safetensors"
    whole = tensors.read_bytes()
    files.write_json(folder / "familiarity.json", {**description, "format_version": 99})
    with pytest.raises(ValueError, match=r"format 99, this version reads .*: run scd-wm calibrate"):
        from_pretrained(folder)
    files.write_json(folder / "familiarity.json", description)
    tensors.write_bytes(whole[:-50])
    with pytest.raises(ValueError, match=r"familiarity.safetensors is damaged"):
        from_pretrained(folder)
    tensors.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*familiarity.safetensors"):
        from_pretrained(folder)
    other = save_pretrained(calibrated(testing.model(testing.state_spec()).eval()), tmp_path / "b")
    for name in ("familiarity.json", "familiarity.safetensors"):
        shutil.copy(other / name, folder / name)
    with pytest.raises(ValueError, match="is of other weights: run scd-wm calibrate again"):
        from_pretrained(folder)


def test_an_evaluation_tells_how_uncertainty_and_error_go_together(
    known_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EvaluationConfig(num_clips=5, history=2, horizons=(1, 4), num_resamples=50)
    summary = evaluate_run(known_run, None, tmp_path / "out", config=config, progress=False)
    found = summary["evaluation"]["uncertainty"]
    assert [x["error"] for x in found] == ["moving_psnr/top", "rmse/pos"]
    assert len(found[0]["mean_uncertainty"]) == 4
    assert -1 <= found[0]["rank_correlation"]["value"] <= 1
    assert "uncertainty against PSNR, moving region: rank correlation" in capsys.readouterr().out
    assert "Does it know when it does not know?" in (tmp_path / "out" / "report.html").read_text()


def test_rank_correlation_is_spearman_s() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    b = np.array([2.0, 1.0, 4.0, 3.0, 5.0])  # 1 - 6 * 4 / (5 * 24)
    assert rank_correlation(a, b) == pytest.approx(0.8)
    assert rank_correlation(a, np.where(a == 3, np.nan, a)) == pytest.approx(1)
    ties = rank_correlation(a, np.array([1.0, 1.0, 2.0, 2.0, 3.0]))
    assert ties == pytest.approx(np.corrcoef([0, 1, 2, 3, 4], [0.5, 0.5, 2.5, 2.5, 4])[0, 1])
    assert np.isnan(rank_correlation(a, np.ones(5)))
    assert np.isnan(rank_correlation(a[:3], a[:3]))


def test_time_alone_makes_no_correlation_among_frames_equally_far_ahead() -> None:
    random = np.random.default_rng(1)
    time = np.arange(20.0)
    u, error = (time + random.normal(size=(40, 20)) for _ in range(2))
    result = compare(
        "x", MetricInfo("x", "", "lower", "position"), u, error, list(range(40)), seed=0
    )
    assert result.overall.value > 0.9
    assert result.of_time > 0.9
    assert result.among_equals.low < 0 < result.among_equals.high
    assert abs(mean_by_frame(u, error)) < 0.1
    better = compare("x", MetricInfo("x", "", "higher", "image"), u, u, list(range(40)), seed=0)
    assert better.overall.value == pytest.approx(-1)


@pytest.mark.parametrize("changes", [{"format_version": 99}, {"weights": "others"}])
def test_calibrating_again_mends_what_does_not_fit(
    changes: dict[str, object], known_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(known_run, run)
    found = latest_checkpoint(run)
    assert found is not None
    path = found / "familiarity.json"
    files.write_json(path, {**files.read_json(path), **changes})
    with pytest.raises(ValueError, match="run scd-wm calibrate again"):
        load_world_model(run)
    calibrate_run(run, config=CONFIG, progress=False)
    assert torch.equal(uncertainty(load_world_model(run)), uncertainty(load_world_model(known_run)))
