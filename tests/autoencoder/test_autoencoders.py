"""What every autoencoder keeps to, and what is special about each kind."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scd_wm.autoencoder import load
from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.conv import ConvAutoencoder, ConvConfig
from scd_wm.autoencoder.load import load_autoencoder, write_copy
from scd_wm.autoencoder.taef2 import Taef2
from scd_wm.datasets.dataset import open_dataset
from scd_wm.evaluation.metrics import psnr

from .conftest import LATENT_CHANNELS, MeanColour, write_conv, write_diffusers, write_taef2


def random_images(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3), generator=random, dtype=torch.uint8)


def test_latents_and_images_have_the_shapes_that_it_says(any_folder: Path) -> None:
    autoencoder, images = load_autoencoder(any_folder), random_images(3, 16, 24)
    latents = autoencoder.encode(images)
    side = autoencoder.downscale
    assert latents.shape == (3, 16 // side, 24 // side, LATENT_CHANNELS)
    assert latents.dtype == torch.float32
    assert latents.isfinite().all()
    decoded = autoencoder.decode(latents)
    assert decoded.shape == images.shape
    assert decoded.dtype == torch.uint8
    assert autoencoder.decode(latents[:0]).shape == (0, 16, 24, 3)


def test_encoding_is_the_same_every_time_alone_and_in_a_batch(any_folder: Path) -> None:
    autoencoder, images = load_autoencoder(any_folder), random_images(3, 16, 16)
    latents = autoencoder.encode(images)
    torch.testing.assert_close(autoencoder.encode(images), latents, rtol=0, atol=0)
    alone = torch.cat([autoencoder.encode(image[None]) for image in images])
    torch.testing.assert_close(alone, latents, rtol=1e-4, atol=1e-5)


def test_floats_from_0_to_1_are_the_same_images(any_folder: Path) -> None:
    autoencoder, images = load_autoencoder(any_folder), random_images(1, 16, 16)
    torch.testing.assert_close(autoencoder.encode(images / 255), autoencoder.encode(images))


def test_nothing_of_it_trains(any_folder: Path) -> None:
    autoencoder = load_autoencoder(any_folder)
    assert not autoencoder.training
    assert not any(p.requires_grad for p in autoencoder.parameters())


def test_a_copy_is_the_same_autoencoder(any_folder: Path, tmp_path: Path) -> None:
    autoencoder, images = load_autoencoder(any_folder), random_images(1, 16, 16)
    write_copy(autoencoder, tmp_path, any_folder)
    again = load_autoencoder(tmp_path)
    assert again.identity == autoencoder.identity
    torch.testing.assert_close(again.encode(images), autoencoder.encode(images), rtol=0, atol=0)


def test_a_large_one_is_kept_as_a_reference_that_checks_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "COPY_WEIGHTS", 10)
    source, copy = write_conv(tmp_path / "source"), tmp_path / "copy"
    autoencoder = load_autoencoder(source)
    copy.mkdir()
    write_copy(autoencoder, copy, source)
    assert [path.name for path in copy.iterdir()] == ["config.json"]
    assert load_autoencoder(copy).identity == autoencoder.identity
    shutil.rmtree(source)
    source.mkdir()
    torch.manual_seed(1)
    ConvAutoencoder(autoencoder.sizes).write(source)  # type: ignore[arg-type]  # of the fixture
    with pytest.raises(ValueError, match="means another autoencoder than the one at"):
        load_autoencoder(copy)


def test_one_changed_weight_is_another_identity(tmp_path: Path) -> None:
    autoencoder = load_autoencoder(write_conv(tmp_path / "conv"))
    before = autoencoder.identity
    next(autoencoder.parameters()).flatten()[0] += 1e-3
    assert autoencoder.identity != before


def test_sides_that_do_not_divide_are_refused_with_what_to_do(any_folder: Path) -> None:
    autoencoder = load_autoencoder(any_folder)
    with pytest.raises(ValueError, match=r"17x16 pixels do not fit .* multiples of \d"):
        autoencoder.encode(random_images(1, 17, 16))
    with pytest.raises(ValueError, match=r"must be \(N, H, W, 3\)"):
        autoencoder.encode(random_images(16, 16))
    with pytest.raises(ValueError, match="latents must be"):
        autoencoder.decode(torch.zeros(1, 2, 2, LATENT_CHANNELS + 1))


def test_ones_own_autoencoder_is_a_class_with_two_methods() -> None:
    autoencoder, images = MeanColour(4), random_images(2, 8, 12)
    expected = images.float().reshape(2, 2, 4, 3, 4, 3).mean(dim=(2, 4)) / 255
    torch.testing.assert_close(autoencoder.encode(images), expected)
    with pytest.raises(NotImplementedError, match="MeanColour cannot be written"):
        autoencoder.write(Path())


# taef2


def reference_taef2(tensors: dict[str, Tensor], x: Tensor, plan: list[str]) -> Tensor:
    """Run a half by its description, layer by layer, with nothing but functions."""

    def conv(x: Tensor, key: str, **options: Any) -> Tensor:
        weight = tensors[f"{key}.weight"].float()
        bias = tensors.get(f"{key}.bias")
        used.update(k for k in (f"{key}.weight", f"{key}.bias") if k in tensors)
        padding = weight.shape[-1] // 2
        bias = None if bias is None else bias.float()
        return F.conv2d(x, weight, bias, padding=padding, **options)

    used: set[str] = set()
    for i, layer in enumerate(plan):
        if layer in ("block", "pool"):
            if layer == "pool":
                wide = conv(x, f"{i}.pool.0")
                scale, shift = (tensors[f"{i}.pool.1.{n}"].float() for n in ("weight", "bias"))
                used |= {f"{i}.pool.1.weight", f"{i}.pool.1.bias"}
                x = x + conv(F.relu(F.group_norm(wide, 4, scale, shift)), f"{i}.pool.3")
            inner = F.relu(conv(F.relu(conv(x, f"{i}.conv.0")), f"{i}.conv.2"))
            x = F.relu(conv(inner, f"{i}.conv.4") + x)
        elif layer == "conv":
            x = conv(x, str(i))
        elif layer == "down":
            x = conv(x, str(i), stride=2)
        elif layer == "up":
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        elif layer == "relu":
            x = F.relu(x)
        else:
            x = 3 * torch.tanh(x / 3)
    assert used == set(tensors), "every weight must be used"
    return x


ENCODER = ["conv", "block", "down", *["block"] * 3, "down", *["block"] * 3, "down", *["pool"] * 3]
ENCODER += ["conv"]
DECODER = ["squash", "conv", "relu", *["pool"] * 3, "up", "conv", *["block"] * 3, "up", "conv"]
DECODER += [*["block"] * 3, "up", "conv", "block", "conv"]


@pytest.mark.parametrize("is_real", [False, True])
def test_taef2_equals_its_description(
    is_real: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("taef2_folder") if is_real else write_taef2(tmp_path / "t")
    autoencoder = load_autoencoder(folder)
    halves = [
        torch.load(next(folder.glob(f"*_{half}.pth")), weights_only=True)
        for half in ("encoder", "decoder")
    ]
    image = random_images(1, 16, 16).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        latents = reference_taef2(halves[0], image, ENCODER)
        torch.testing.assert_close(autoencoder.to_latents(image), latents, rtol=1e-4, atol=1e-4)
        expected = reference_taef2(halves[1], 4 * latents, DECODER)
        torch.testing.assert_close(
            autoencoder.to_images(4 * latents), expected, rtol=1e-4, atol=1e-4
        )


def test_taef2_keeps_27_db_of_a_real_robot(taef2_folder: Path) -> None:
    data = open_dataset(taef2_folder.parent / "g1_real", vectors=(), image_size=128)
    (camera,), autoencoder = data.cameras, load_autoencoder(taef2_folder)
    images = torch.from_numpy(
        np.concatenate([data.images(0, camera, t, t + 1) for t in (0, 100, 200)])
    )
    again = autoencoder.decode(autoencoder.encode(images))
    assert float(psnr(again[None], images[None]).mean()) >= 27


def test_a_taef2_of_another_layout_or_half_missing_is_refused(tmp_path: Path) -> None:
    folder = write_taef2(tmp_path / "taef2")
    path = folder / "small_decoder.pth"
    tensors = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in tensors.items() if k != "19.bias"}, path)
    with pytest.raises(ValueError, match=r"19\.bias is absent, the autoencoder has \(3,\)"):
        load_autoencoder(folder)
    torch.save({**tensors, "19.bias": torch.full((3,), math.nan)}, path)
    with pytest.raises(ValueError, match=r"19\.bias is not finite"):
        load_autoencoder(folder)
    path.write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="is damaged, or holds more than tensors"):
        load_autoencoder(folder)
    shutil.copy(folder / "small_encoder.pth", folder / "other_encoder.pth")
    with pytest.raises(ValueError, match=r"must hold one file \*_encoder\.pth"):
        load_autoencoder(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"no autoencoder: .* but other_encoder\.pth"):
        load_autoencoder(folder)


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil"),))


def test_a_taef2_that_holds_more_than_tensors_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_taef2(tmp_path / "taef2")
    torch.save({"0.weight": Evil()}, folder / "small_encoder.pth")
    with pytest.raises(ValueError, match="holds more than tensors"):
        load_autoencoder(folder)
    assert not (tmp_path / "evil").exists()


# diffusers


@pytest.mark.parametrize("kind", ["AutoencoderTiny", "AutoencoderKL", "AutoencoderDC"])
def test_scale_and_shift_are_those_of_the_library(kind: str, tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / kind, kind)
    import diffusers

    inner = getattr(diffusers, kind).from_pretrained(folder)
    autoencoder, images = load_autoencoder(folder), random_images(1, 16, 16)
    pixels = images.permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        code = inner.encode(pixels)
        code = {
            "AutoencoderTiny": lambda: code.latents,
            "AutoencoderKL": lambda: (code.latent_dist.mean - 0.1) * 0.3,
            "AutoencoderDC": lambda: code.latent * 0.4,
        }[kind]()
        torch.testing.assert_close(autoencoder.encode(images), code.permute(0, 2, 3, 1))
        raw = {
            "AutoencoderTiny": lambda: inner.decode(code),
            "AutoencoderKL": lambda: inner.decode(code / 0.3 + 0.1),
            "AutoencoderDC": lambda: inner.decode(code / 0.4),
        }[kind]().sample
    expected = ((raw + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    decoded = autoencoder.decode(autoencoder.encode(images))
    assert int((decoded.int() - expected.int()).abs().max()) <= 1
    assert autoencoder.name == kind


def test_a_model_that_is_no_autoencoder_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ValueError, match=r"holds a 'UNet2DModel'; .* \('AutoencoderTiny', "):
        load_autoencoder(tmp_path)


def test_a_diffusers_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "tiny", "AutoencoderTiny")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"the AutoencoderTiny in .* cannot be read"):
        load_autoencoder(folder)


def test_an_id_of_the_hub_that_cannot_be_had_is_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra 'latent'")

    def fail(*args: Any, **options: Any) -> str:
        raise OSError("no network\nsecond line")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(
        FileNotFoundError, match=r"no folder some/model, .* from the hub \(no network\); give a"
    ):
        load_autoencoder("some/model")


def test_an_id_of_the_hub_loads_what_the_hub_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra 'latent'")
    write_diffusers(tmp_path / "vae", "AutoencoderKL")
    asked: list[Any] = []

    def give(repo_id: str, allow_patterns: list[str]) -> str:
        asked.append((repo_id, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", give)
    assert load_autoencoder("some/model/vae").name == "AutoencoderKL"
    patterns = ["vae/config.json", "vae/diffusion_pytorch_model*.safetensors*"]
    assert asked == [("some/model", patterns)]


# ours, and what is none


def test_paths_that_hold_no_autoencoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no autoencoder /nowhere/at/all/x"):
        load_autoencoder("/nowhere/at/all/x")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="is a file; an autoencoder is a folder"):
        load_autoencoder(file)
    file.rename(tmp_path / "thesis.txt")
    with pytest.raises(ValueError, match=r"no autoencoder: .* but thesis\.txt"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="does not describe an autoencoder"):
        load_autoencoder(tmp_path)


def test_a_damaged_one_of_ours_is_refused(tmp_path: Path) -> None:
    folder = write_conv(tmp_path / "conv")
    (folder / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(ValueError, match="is damaged, or no safetensors file"):
        load_autoencoder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no weights: no model\.safetensors"):
        load_autoencoder(folder)
    config = folder / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"conv"', '"fourier"'))
    with pytest.raises(ValueError, match="of kind 'fourier'"):
        load_autoencoder(folder)
    config.write_text(text.replace('"width"', '"breadth"'))
    with pytest.raises(ValueError, match=r"does not fit this version: .*breadth"):
        load_autoencoder(folder)


@pytest.mark.parametrize("downscale", [2, 4, 8, 16])
def test_ours_scales_down_by_any_power_of_two(downscale: int) -> None:
    autoencoder = ConvAutoencoder(ConvConfig(channels=5, downscale=downscale, width=4))
    latents = autoencoder.encode(random_images(1, 16, 32))
    assert latents.shape == (1, 16 // downscale, 32 // downscale, 5)
    assert autoencoder.decode(latents).shape == (1, 16, 32, 3)


def test_ours_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match="power of two from 2 on, got 6"):
        ConvConfig(downscale=6)
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        ConvConfig(channels=0)


def test_the_real_taef2_has_32_channels(taef2_folder: Path) -> None:
    autoencoder: FrameAutoencoder = load_autoencoder(taef2_folder)
    assert isinstance(autoencoder, Taef2)
    assert (autoencoder.channels, autoencoder.downscale, autoencoder.width) == (32, 8, 64)
