"""Small autoencoders of every kind, in folders as users have them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scd_wm.autoencoder.base import FrameAutoencoder
from scd_wm.autoencoder.conv import ConvAutoencoder, ConvConfig
from scd_wm.autoencoder.taef2 import Taef2
from scd_wm.torchvision_shim import declare_torchvision_operators

LATENT_CHANNELS = 4


def write_taef2(folder: Path, width: int = 8, channels: int = LATENT_CHANNELS) -> Path:
    """Write the two halves of a random autoencoder, in float16 as the real ones are."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    autoencoder = Taef2(width, channels)
    for name, half in (("encoder", autoencoder.encoder), ("decoder", autoencoder.decoder)):
        tensors = {k: v.half() for k, v in half.state_dict().items()}
        torch.save(tensors, folder / f"small_{name}.pth")
    return folder


def write_conv(folder: Path) -> Path:
    """Write a random autoencoder of ours."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    sizes = ConvConfig(channels=LATENT_CHANNELS, downscale=4, width=8)
    ConvAutoencoder(sizes).write(folder)
    return folder


def write_diffusers(folder: Path, kind: str) -> Path:
    """Write a random autoencoder of the library."""
    pytest.importorskip("diffusers", reason="needs the extra 'latent'")
    declare_torchvision_operators()
    import diffusers

    three, one = (8, 8, 8), (1, 1, 1)
    arguments: dict[str, dict[str, object]] = {
        "AutoencoderTiny": {
            "encoder_block_out_channels": three,
            "decoder_block_out_channels": three,
            "num_encoder_blocks": one,
            "num_decoder_blocks": one,
        },
        "AutoencoderKL": {
            "block_out_channels": (8, 8),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "norm_num_groups": 4,
            "scaling_factor": 0.3,
            "shift_factor": 0.1,
        },
        "AutoencoderDC": {
            "attention_head_dim": 4,
            "encoder_block_types": "ResBlock",
            "decoder_block_types": "ResBlock",
            "encoder_block_out_channels": three,
            "decoder_block_out_channels": three,
            "encoder_layers_per_block": one,
            "decoder_layers_per_block": one,
            "encoder_qkv_multiscales": ((), (), ()),
            "decoder_qkv_multiscales": ((), (), ()),
            "scaling_factor": 0.4,
        },
    }
    torch.manual_seed(0)
    model = getattr(diffusers, kind)(latent_channels=LATENT_CHANNELS, **arguments[kind])
    model.save_pretrained(folder)
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "taef2": write_taef2,
    "conv": write_conv,
    "AutoencoderTiny": lambda folder: write_diffusers(folder, "AutoencoderTiny"),
    "AutoencoderKL": lambda folder: write_diffusers(folder, "AutoencoderKL"),
    "AutoencoderDC": lambda folder: write_diffusers(folder, "AutoencoderDC"),
}


@pytest.fixture(scope="session", params=WRITERS)
def any_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of an autoencoder, of each kind in turn."""
    return WRITERS[request.param](tmp_path_factory.mktemp("autoencoders") / request.param)


@pytest.fixture
def taef2_folder() -> Path:
    """Return the folder of the real taef2, which is no part of the project."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("SCD_WM_SHARED_DATA", default)) / "taef2"
    if not folder.is_dir():
        pytest.skip(f"no taef2 at {folder}; set SCD_WM_SHARED_DATA to the folder that holds it")
    return folder


class MeanColour(FrameAutoencoder):
    """A latent is the mean colour of a cell: what a user's own class may look like."""

    def __init__(self, downscale: int = 4) -> None:
        super().__init__("mean colour", 3, downscale)

    def to_latents(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, self.downscale)

    def to_images(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latents, scale_factor=self.downscale)
