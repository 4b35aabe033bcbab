"""Latents on disk: what is in them, whom an entry belongs to, and that it is whole."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm.autoencoder.conv import ConvAutoencoder, ConvConfig
from scd_wm.autoencoder.load import load_autoencoder
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.latents import ImageEncoder, LatentDataset
from tests.datasets.conftest import write_lerobot

from .conftest import CHANNELS


class Counting:
    """An encoder that counts what it encodes."""

    def __init__(self, inner: ImageEncoder, fail_after: int | None = None) -> None:
        self.inner, self.count, self.fail_after = inner, 0, fail_after
        self.identity, self.downscale = inner.identity, inner.downscale
        self.channels, self.latent_size = inner.channels, inner.latent_size

    def encode(self, images: Tensor) -> Tensor:
        self.count += len(images)
        if self.fail_after is not None and self.count > self.fail_after:
            raise KeyboardInterrupt
        return self.inner.encode(images)


@pytest.fixture
def encoder(autoencoder_folder: Path) -> Counting:
    return Counting(load_autoencoder(autoencoder_folder))


@pytest.fixture
def pixels(two_cameras: Path) -> RobotDataset:
    return open_dataset(two_cameras)


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "latents").glob("*"))


def test_latents_are_those_of_the_images(pixels: RobotDataset, encoder: Counting) -> None:
    data = LatentDataset(pixels, encoder)
    for episode in range(4):
        for camera in data.cameras:
            images = torch.from_numpy(pixels.images(episode, camera, 3, 19).copy())
            expected = encoder.inner.encode(images).half().float()
            stored = torch.from_numpy(data.images(episode, camera, 3, 19))
            torch.testing.assert_close(stored, expected, rtol=2e-3, atol=1e-3)
    clip, real = data.clip(2, -1, 5), pixels.clip(2, -1, 5)
    assert clip.images["wrist"].shape == (5, 4, 4, CHANNELS)
    assert clip.images["wrist"].dtype == torch.float32
    assert not clip.images["wrist"][0].any()  # the start frame
    assert torch.equal(clip.actions, real.actions)
    assert torch.equal(clip.vectors["pos"], real.vectors["pos"])


def test_each_image_is_encoded_once(
    two_cameras: Path, pixels: RobotDataset, encoder: Counting, cache_folder: Path
) -> None:
    data = LatentDataset(pixels, encoder)
    data.prepare()
    num_frames = 2 * sum(e.num_observations for e in data.episodes)
    assert encoder.count == num_frames
    assert len(entries(cache_folder)) == 8
    data.spec()
    data.clip(0, 0, 4)
    again = LatentDataset(open_dataset(two_cameras), encoder)
    again.prepare()
    again.subset([1, 3]).clip(1, 0, 4)
    assert encoder.count == num_frames


def test_another_autoencoder_view_or_file_has_entries_of_its_own(
    two_cameras: Path, tmp_path: Path, encoder: Counting, cache_folder: Path
) -> None:
    def fill(path: Path, encoder: ImageEncoder, **options: Any) -> int:
        LatentDataset(open_dataset(path, cameras=["front"], **options), encoder).prepare()
        return len(entries(cache_folder))

    assert fill(two_cameras, encoder) == 4
    torch.manual_seed(1)
    assert fill(two_cameras, ConvAutoencoder(encoder.inner.sizes)) == 8  # type: ignore[attr-defined]  # of the fixture
    assert fill(two_cameras, encoder, image_size=8) == 12
    assert fill(two_cameras, encoder, crop=(0, 0, 8, 8)) == 16
    assert fill(two_cameras, encoder, frame_skip=2) == 20
    other = tmp_path / "other.hdf5"
    other.write_bytes(two_cameras.read_bytes())
    assert fill(other, encoder) == 24
    assert fill(two_cameras, encoder) == 24


def test_latents_of_video_belong_to_the_file_and_the_view(
    tmp_path: Path, encoder: Counting, cache_folder: Path
) -> None:
    folder = write_lerobot(tmp_path / "lerobot")  # three episodes

    def fill(**options: Any) -> int:
        LatentDataset(open_dataset(folder, **options), encoder).prepare()
        return len(entries(cache_folder))

    assert fill() == 3
    assert fill() == 3
    assert fill(image_size=16) == 6
    assert fill(crop=(0, 0, 16, 16), image_size=16) == 9
    assert fill(frame_skip=2) == 12
    video = next(folder.rglob("*000001.mp4"))
    os.utime(video, ns=(1, 1))
    assert fill() == 13


def test_what_was_cut_short_is_not_there(
    pixels: RobotDataset, encoder: Counting, cache_folder: Path
) -> None:
    """21 frames: the second part of the first entry fails."""
    dying = Counting(encoder.inner, fail_after=16)
    with pytest.raises(KeyboardInterrupt):
        LatentDataset(pixels, dying).prepare()
    assert entries(cache_folder) == []
    data = LatentDataset(pixels, encoder)
    data.prepare()
    assert len(entries(cache_folder)) == 8
    assert np.isfinite(data.images(0, "front", 0, 21)).all()


def test_statistics_are_those_of_all_training_latents(
    pixels: RobotDataset, encoder: Counting
) -> None:
    data = LatentDataset(pixels.subset([0, 2]), encoder)
    camera = data.spec().cameras["wrist"]
    episodes = [data.images(i, "wrist", 0, e.num_observations) for i, e in enumerate(data.episodes)]
    cells = np.concatenate([x.reshape(-1, CHANNELS) for x in episodes]).astype(np.float64)
    np.testing.assert_allclose(camera.mean, cells.mean(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(camera.std, cells.std(axis=0), rtol=1e-6)
    changes = np.concatenate([np.diff(x.astype(np.float64), axis=0) for x in episodes])
    expected = np.sqrt(((changes / cells.std(axis=0)) ** 2).mean())
    assert camera.delta_std == pytest.approx(expected, rel=1e-6)
    assert (camera.height, camera.width, camera.channels) == (4, 4, CHANNELS)
    assert (camera.kind, camera.downscale) == ("latent", 4)
    assert (camera.pixels.height, camera.pixels.channels, camera.pixels.kind) == (16, 3, "pixels")


def test_latents_are_read_from_disk_where_memory_is_short(
    two_cameras: Path, pixels: RobotDataset, encoder: Counting
) -> None:
    large = LatentDataset(pixels, encoder)
    small = LatentDataset(open_dataset(two_cameras, memory_bytes=0), encoder)
    for start in (-1, 0, 7):
        one, two = large.clip(1, start, 6), small.clip(1, start, 6)
        assert torch.equal(one.images["front"], two.images["front"])


def test_a_copy_for_another_process_reads_the_same(pixels: RobotDataset, encoder: Counting) -> None:
    data = LatentDataset(pixels, encoder)
    first = data.clip(0, 0, 3)
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.clip(0, 0, 3).images["front"], first.images["front"])


def test_images_that_do_not_fit_are_refused_at_once(two_cameras: Path, encoder: Counting) -> None:
    with pytest.raises(ValueError, match=r"images of 'front' of 10x10 pixels .* multiples of 4"):
        LatentDataset(open_dataset(two_cameras, image_size=10), encoder)


def test_latents_beyond_float16_are_refused(pixels: RobotDataset) -> None:
    torch.manual_seed(0)
    wild = ConvAutoencoder(ConvConfig(channels=CHANNELS, downscale=4, width=8))
    with torch.no_grad():
        for parameter in wild.encoder[-1].parameters():
            parameter.mul_(1e6)
    with pytest.raises(ValueError, match=r"not finite in float16 for images of 'front' in demo_0"):
        LatentDataset(pixels, wild).prepare()
