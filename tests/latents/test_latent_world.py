"""Worlds of latents: train, resume, load, imagine, evaluate, and the model inside."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.autoencoder import load
from scd_wm.autoencoder.frames import decode_frames, encode_clip, on_pixels, round_trip
from scd_wm.autoencoder.load import load_autoencoder
from scd_wm.cli import main
from scd_wm.clip import collate
from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.latents import LatentDataset
from scd_wm.evaluate_run import evaluate_run
from scd_wm.evaluation.evaluate import EvaluationConfig
from scd_wm.evaluation.metrics import psnr
from scd_wm.evaluation.world_model import as_imagine
from scd_wm.imagination import begin, rollout, rollout_policy, start_frame, step
from scd_wm.imagine_run import ImagineConfig, imagine_run
from scd_wm.model.layout import FrameLayout
from scd_wm.model.scd import SCDWorldModel
from scd_wm.spec import CameraSpec, Spec, VectorSpec
from scd_wm.training.checkpoint import (
    from_pretrained,
    load_world_autoencoder,
    load_world_model,
    save_pretrained,
)
from scd_wm.training.run import train_run
from scd_wm.training.run_data import open_run_data

from .conftest import SMALL, write_other

CONFIG = EvaluationConfig(num_clips=3, history=2, horizons=(1, 4), num_resamples=50)


def latent_spec() -> Spec:
    camera = CameraSpec(
        height=4,
        width=6,
        channels=3,
        kind="latent",
        delta_std=0.3,
        mean=(1.0, -2.0, 0.5),
        std=(2.0, 0.5, 3.0),
        downscale=8,
    )
    return Spec(cameras={"top": camera}, action=VectorSpec.unit(2))


# The model


def test_latents_are_normalised_inside_and_come_out_in_their_own_units() -> None:
    spec = latent_spec()
    layout, clip = FrameLayout(spec, patch_size=2), testing.clip(spec, 2, 3)
    packed = layout.pack(clip)
    mean, std = (torch.tensor(x) for x in (spec.cameras["top"].mean, spec.cameras["top"].std))
    expected = (clip.images["top"] - mean) / std
    raw = replace(spec, cameras={"top": replace(spec.cameras["top"], mean=(), std=())})
    plain = FrameLayout(raw, patch_size=2).unpack_images(packed)["top"]
    torch.testing.assert_close(plain, expected)
    torch.testing.assert_close(layout.unpack_images(packed)["top"], clip.images["top"])


def test_an_untrained_world_of_latents_copies_the_last_frame() -> None:
    spec = latent_spec()
    model = SCDWorldModel(spec, testing.config(patch_size=2))
    history = testing.clip(spec, 2, 3)
    frames = rollout(model, history, torch.zeros(2, 5, 2)).images["top"]
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, history.images["top"][:, -1:].expand_as(frames))


@pytest.mark.parametrize("refine_channels", [0, 4])
def test_the_convolutional_head_works_on_latents_too(refine_channels: int) -> None:
    spec = latent_spec()
    model = SCDWorldModel(spec, testing.config(patch_size=2, refine_channels=refine_channels))
    loss, _ = model(testing.clip(spec, 2, 5), torch.tensor([1, 2]))
    torch.autograd.backward(loss)
    assert loss.isfinite()


def test_a_world_of_latents_can_begin_from_nothing() -> None:
    model = testing.model(latent_spec(), patch_size=2)
    frame = step(model, begin(model, start_frame(model.spec, 2)), torch.zeros(2, 2))
    assert frame.images["top"].isfinite().all()


def test_the_spec_of_latents_is_read_back_and_that_of_pixels_is_as_before() -> None:
    spec = latent_spec()
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    pixels = testing.image_spec().to_json()["cameras"]["top"]
    assert set(pixels) == {"height", "width", "channels", "kind", "delta_std"}
    assert spec.pixels.cameras["top"] == CameraSpec(height=32, width=48)
    assert spec.has_latents
    assert not spec.pixels.has_latents


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": (1.0, 0.0, 1.0)}, "std must be above 0"),
        ({"mean": (1.0,)}, "got 1 values for 3 channels of kind 'latent'"),
        ({"kind": "pixels", "downscale": 1, "std": ()}, "got 3 values for 3 channels of kind 'pix"),
        ({"downscale": 0}, "downscale must be 1 for pixels and at least 1"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(changes: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(latent_spec().cameras["top"], **changes)  # type: ignore[arg-type]  # on purpose


# Encoding and decoding


def test_clips_and_frames_change_between_pixels_and_latents(
    two_cameras: Path, latent_run: Path
) -> None:
    autoencoder = load_world_autoencoder(latent_run)
    assert autoencoder is not None
    spec, data = load_world_model(latent_run).spec, open_dataset(two_cameras)
    clip = collate([data.clip(0, 0, 3), data.clip(1, 2, 3)])
    latents = encode_clip(clip, autoencoder, spec)
    expected = autoencoder.encode(clip.images["wrist"][1])
    torch.testing.assert_close(latents.images["wrist"][1], expected)
    shown = round_trip(clip, autoencoder, spec)
    assert shown.images["wrist"].shape == clip.images["wrist"].shape
    assert torch.equal(shown.images["wrist"][1], autoencoder.decode(expected))
    frames = rollout(load_world_model(latent_run), latents, torch.zeros(2, 2, 2))
    pictures = decode_frames(frames, autoencoder, spec)
    assert pictures.images["front"].dtype == torch.uint8
    assert pictures.vectors is frames.vectors
    one = replace(frames, images={name: x[:, 1] for name, x in frames.images.items()})
    step = decode_frames(one, autoencoder, spec)  # without an axis T
    assert torch.equal(step.images["front"], pictures.images["front"][:, 1])
    imagined = as_imagine(load_world_model(latent_run), None, autoencoder)(
        clip, torch.zeros(2, 2, 2), torch.arange(2)
    )
    assert torch.equal(imagined.images["front"], pictures.images["front"])


def test_a_policy_that_needs_pixels_sees_pixels(latent_run: Path, two_cameras: Path) -> None:
    autoencoder, model = load_world_autoencoder(latent_run), load_world_model(latent_run)
    assert autoencoder is not None
    data = LatentDataset(open_dataset(two_cameras), autoencoder)
    history, seen = collate([data.clip(0, 0, 2), data.clip(1, 0, 2)]), []

    def policy(observation: dict[str, Tensor]) -> Tensor:
        seen.append(observation)
        return torch.zeros(2, 2)

    frames, _ = rollout_policy(model, history, on_pixels(policy, autoencoder, model.spec), 2)
    assert torch.equal(seen[0]["front"], autoencoder.decode(history.images["front"][:, -1]))
    assert torch.equal(seen[1]["wrist"], autoencoder.decode(frames.images["wrist"][:, 0]))
    assert torch.equal(seen[1]["pos"], frames.vectors["pos"][:, 0])


# Runs


def test_a_run_holds_its_autoencoder_and_says_what_it_is(
    latent_run: Path, autoencoder_folder: Path
) -> None:
    config = json.loads((latent_run / "config.json").read_text())
    identity = load_autoencoder(autoencoder_folder).identity
    assert config["autoencoder"]["identity"] == identity
    assert config["model"]["patch_size"] == 4
    assert config["model"]["refine_channels"] == 64
    camera = config["spec"]["cameras"]["wrist"]
    assert (camera["kind"], camera["height"], camera["downscale"]) == ("latent", 4, 4)
    assert config["data"]["image_sizes"] == {"front": [16, 16], "wrist": [16, 16]}
    for folder in (latent_run, latent_run / "model"):
        autoencoder = load_world_autoencoder(folder)
        assert autoencoder is not None
        assert autoencoder.identity == identity


def test_it_evaluates_against_real_pixels_beside_the_round_trip(
    latent_run: Path, two_cameras: Path, tmp_path: Path
) -> None:
    summary = evaluate_run(latent_run, two_cameras, tmp_path / "out", config=CONFIG, progress=False)
    metric = summary["evaluation"]["metrics"]["psnr/front"]
    others = {"copy_last", "shuffled_actions", "zero_action", "round_trip"}
    assert set(metric["models"]) == {"world_model"} | others
    assert "round_trip" not in summary["evaluation"]["metrics"]["rmse/pos"]["models"]
    assert "autoencoder round trip" in (tmp_path / "out" / "report.html").read_text()
    data = open_run_data(latent_run, two_cameras)
    names = [episode.name for episode in data.episodes]
    autoencoder = load_world_autoencoder(latent_run)
    assert autoencoder is not None
    copied, limit = [], []
    for place in summary["evaluation"]["clips"]:
        clip = data.clip(names.index(place["episode"]), place["start"], 6)
        real = clip.images["front"]
        again = autoencoder.decode(autoencoder.encode(real[5:6]))
        copied.append(float(psnr(real[None, 1:2], real[None, 5:6])))
        limit.append(float(psnr(again[None], real[None, 5:6])))
    assert metric["models"]["copy_last"]["4"]["mean"] == pytest.approx(np.mean(copied))
    assert metric["models"]["round_trip"]["4"]["mean"] == pytest.approx(np.mean(limit), abs=1e-3)


def test_it_imagines_pictures(latent_run: Path, two_cameras: Path, tmp_path: Path) -> None:
    config = ImagineConfig(num_clips=1, num_futures=2, history=3, horizon=4)
    imagine_run(latent_run, two_cameras, tmp_path / "out", config=config)
    with np.load(tmp_path / "out" / "imagined.npz") as kept:
        assert kept["imagined/wrist"].shape == (1, 2, 4, 16, 16, 3)
        assert kept["imagined/wrist"].dtype == np.uint8
    assert (tmp_path / "out" / "clip_1.mp4").is_file()


def test_a_resumed_run_is_the_uninterrupted_one(
    two_cameras: Path, autoencoder_folder: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_run(two_cameras, whole, steps=4, overrides=SMALL, autoencoder=autoencoder_folder)
    train_run(two_cameras, parts, steps=2, overrides=SMALL, autoencoder=autoencoder_folder)
    train_run(two_cameras, parts, steps=4, overrides=SMALL, resume=True)  # takes its own
    files = [run / "model" / "model.safetensors" for run in (whole, parts)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_resumed_run_may_not_change_its_autoencoder(
    two_cameras: Path, autoencoder_folder: Path, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", write_other(tmp_path / "other")
    train_run(two_cameras, run, steps=1, overrides=SMALL, autoencoder=autoencoder_folder)
    with pytest.raises(ValueError, match=r"cannot resume .* autoencoder\.identity was|spec\."):
        train_run(two_cameras, run, steps=2, overrides=SMALL, autoencoder=other, resume=True)


def test_training_goes_on_from_a_world_of_latents(
    latent_run: Path, two_cameras: Path, tmp_path: Path, small_run: Path
) -> None:
    out, settings = tmp_path / "out", [o for o in SMALL if o.startswith(("batch", "num_f", "eval"))]
    train_run(two_cameras, out, steps=1, init=latent_run, overrides=settings)
    assert load_world_autoencoder(out) is not None
    other = write_other(tmp_path / "other")
    with pytest.raises(ValueError, match="is a world of other latents; start from it with its own"):
        train_run(two_cameras, tmp_path / "x", steps=1, init=latent_run, autoencoder=other)
    with pytest.raises(ValueError, match="is a world of pixels; start from it without"):
        train_run(two_cameras, tmp_path / "x", steps=1, init=small_run, autoencoder=other)


def test_a_model_is_exported_with_its_autoencoder(
    latent_run: Path, autoencoder_folder: Path, tmp_path: Path
) -> None:
    model = load_world_model(latent_run)
    moved = tmp_path / "moved"
    shutil.copytree(latent_run / "model", moved)
    again = from_pretrained(moved)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    bare = save_pretrained(model, tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match="a world of latents without its autoencoder"):
        load_world_autoencoder(bare)
    shutil.rmtree(moved / "autoencoder")
    write_other(moved / "autoencoder")
    with pytest.raises(ValueError, match="is not the autoencoder that"):
        load_world_autoencoder(moved)


def test_a_run_with_a_large_autoencoder_refers_to_it(
    two_cameras: Path,
    autoencoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "COPY_WEIGHTS", 10)
    run = tmp_path / "run"
    train_run(two_cameras, run, steps=1, overrides=SMALL, autoencoder=autoencoder_folder)
    assert not list(run.rglob("autoencoder/model.safetensors"))
    for folder in (run, run / "model"):
        loaded = load_world_autoencoder(folder)
        assert loaded is not None
        assert loaded.identity == load_autoencoder(autoencoder_folder).identity


def test_worlds_of_pixels_have_no_autoencoder(small_run: Path) -> None:
    assert load_world_autoencoder(small_run) is None
    assert load_world_autoencoder("push_t_tiny") is None
    assert not (small_run / "autoencoder").exists()


def test_learning_lowers_the_loss_on_latents(two_cameras: Path, autoencoder_folder: Path) -> None:
    """A clip learned by heart: the model reads its latents and actions."""
    data = LatentDataset(open_dataset(two_cameras), load_autoencoder(autoencoder_folder))
    torch.manual_seed(0)
    model = SCDWorldModel(data.spec(), testing.config(patch_size=2, open_gates=True))
    clip, seeds = collate([data.clip(0, 0, 6)]), torch.tensor([1])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss, _ = model(clip, seeds)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert math.isfinite(losses[-1])


def test_mistakes_are_one_line(
    two_cameras: Path,
    autoencoder_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*extra: str) -> str:
        arguments = ["train", str(two_cameras), "--out", str(tmp_path / "run"), "--steps", "1"]
        assert main([*arguments, *SMALL, *extra]) == 2
        return capsys.readouterr().err.strip()

    assert "no autoencoder /nowhere" in fails("--autoencoder", "/nowhere")
    given = ("--autoencoder", str(autoencoder_folder))
    assert "10x10 pixels do not fit the autoencoder conv" in fails(*given, "--image-size", "10")
    message = fails(*given, "--image-size", "12")  # latents of 3x3
    assert "camera 'front' is 3x3, which patch_size=4 does not divide" in message
    assert not (tmp_path / "run").exists()
