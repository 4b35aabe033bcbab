"""Fitting an autoencoder of ours: the command, what it leaves, and going on after a stop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm.autoencoder.conv import ConvAutoencoder, ConvConfig
from scd_wm.autoencoder.load import load_autoencoder
from scd_wm.cli import main
from scd_wm.fit_autoencoder import fit_autoencoder, resized, scores
from scd_wm.training import autoencoder_trainer, files
from scd_wm.training.autoencoder_trainer import FitConfig, fit, loss_parts

from .conftest import MeanColour

SMALL = ConvConfig(channels=4, downscale=4, width=8)


def small_autoencoder() -> ConvAutoencoder:
    torch.manual_seed(0)
    return ConvAutoencoder(SMALL)


def draw(step: int) -> Tensor:
    """Return images of a bright square on a dark ground, at a place that the step decides."""
    images = torch.full((4, 16, 16, 3), 40, dtype=torch.uint8)
    random = np.random.default_rng(step)
    for image in images:
        row, column = random.integers(0, 12, 2)
        image[row : row + 4, column : column + 4] = torch.tensor([220, 60, 90])
    return images


def test_the_command_leaves_an_autoencoder_that_loads(
    robot_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ae"
    arguments = ["train-autoencoder", str(robot_file), "--out", str(out), "--steps", "2"]
    assert main([*arguments, "--channels", "4", "--downscale", "4", "--width", "8"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["finished"]
    assert summary["steps"] == 2
    assert {"psnr", "psnr (mean image)", "psnr (resized to as many values)"} < set(summary)
    assert (out / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert "psnr" in capsys.readouterr().out
    autoencoder = load_autoencoder(out)
    assert (autoencoder.channels, autoencoder.downscale) == (4, 4)


def test_it_learns(tmp_path: Path) -> None:
    autoencoder = small_autoencoder()
    fit(autoencoder, draw, FitConfig(steps=300, log_every=100), tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [100, 200, 300]
    images = draw(1000)
    error = (autoencoder.decode(autoencoder.encode(images)).float() - images).square().mean()
    blank = (images.float().mean(dim=(0, 1, 2)) - images).square().mean()
    assert error < blank / 2


def test_a_stopped_fit_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = small_autoencoder(), small_autoencoder()
    config = FitConfig(steps=6)
    fit(whole, draw, config, tmp_path / "whole")

    class StopAfterTwo:
        def __enter__(self) -> StopAfterTwo:
            self.count = 0
            return self

        def __exit__(self, *error: object) -> None: ...

        @property
        def is_set(self) -> bool:
            self.count += 1
            return self.count > 2

    with monkeypatch.context() as patch:
        patch.setattr(autoencoder_trainer, "StopRequest", StopAfterTwo)
        assert fit(parts, draw, config, tmp_path / "parts").step == 2
    again = small_autoencoder()
    assert fit(again, draw, config, tmp_path / "parts").step == 6
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_fit_that_dies_while_it_writes_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    autoencoder = small_autoencoder()
    fit(autoencoder, draw, FitConfig(steps=1), tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.rglob("*.safetensors")}

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", die)
        with pytest.raises(KeyboardInterrupt):
            fit(small_autoencoder(), draw, FitConfig(steps=2), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("*.safetensors")} == before


def test_a_fit_from_before_a_setting_existed_goes_on_with_its_default(
    robot_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ae"
    fit_autoencoder(robot_file, out, sizes=SMALL, config=FitConfig(steps=1))
    config = files.read_json(out / "config.json")
    assert config["fit"].pop("warmup_steps") == 50
    files.write_json(out / "config.json", config)
    one_more = FitConfig(steps=2)
    assert fit_autoencoder(robot_file, out, sizes=SMALL, config=one_more, resume=True)["steps"] == 2


def test_the_loss_is_the_error_through_noise_and_a_penalty() -> None:
    autoencoder, images = small_autoencoder(), draw(0).permute(0, 3, 1, 2) / 255
    latents = autoencoder.to_latents(images)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    loss, error = loss_parts(autoencoder, images, noise, penalty=0.5)
    apart = autoencoder.to_images(latents + noise) - images
    expected = apart.abs().mean() + 10 * apart.square().mean() + 0.5 * latents.square().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(error, apart.square().mean())


def test_scores_stand_beside_what_needs_no_learning() -> None:
    images, autoencoder = draw(0), MeanColour(4)
    mean = images.float().mean(dim=0).to(torch.uint8)
    found = scores(autoencoder, [images], [mean])
    error = (images.float() - mean).square().mean(dim=(1, 2, 3))
    expected = (10 * torch.log10(255**2 / error)).mean()
    assert found["psnr (mean image)"] == pytest.approx(float(expected), abs=1e-3)
    assert found["values of an image in one of a latent"] == 16
    assert resized(images, autoencoder).shape == images.shape


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    autoencoder = small_autoencoder()
    with torch.no_grad():
        next(autoencoder.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="loss is nan at step 1"):
        fit(autoencoder, draw, FitConfig(steps=2), tmp_path)


def test_mistakes_are_told_before_anything_is_written(robot_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "ae"
    with pytest.raises(ValueError, match=r"images of 'top' of 16x16 pixels .* multiples of 32"):
        fit_autoencoder(robot_file, out, sizes=ConvConfig(downscale=32))
    with pytest.raises(ValueError, match="no camera and no vector chosen of"):
        fit_autoencoder(robot_file, out, cameras=())
    with pytest.raises(ValueError, match="steps or minutes must be above 0, got 0"):
        FitConfig(steps=0)
    with pytest.raises(ValueError, match="give either steps or minutes"):
        FitConfig()
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        fit_autoencoder(robot_file, out, resume=True)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="something other than an autoencoder"):
        fit_autoencoder(robot_file, out, sizes=SMALL, config=FitConfig(steps=1))
    shutil.rmtree(out)
    fit_autoencoder(robot_file, out, sizes=SMALL, config=FitConfig(steps=1))
    with pytest.raises(FileExistsError, match="holds an autoencoder; resume it"):
        fit_autoencoder(robot_file, out, sizes=SMALL, config=FitConfig(steps=1))
    with pytest.raises(ValueError, match=r"cannot resume .* other settings: sizes was"):
        fit_autoencoder(robot_file, out, sizes=ConvConfig(), config=FitConfig(steps=2), resume=True)
    more = fit_autoencoder(robot_file, out, sizes=SMALL, config=FitConfig(steps=2), resume=True)
    assert more["steps"] == 2
