"""Find out what kind of autoencoder lies somewhere, and load it; put a copy of it beside a model.

A model's folder holds `autoencoder/` if its world is one of latents: a copy, or for large ones a
reference to where it came from, which loads only while exactly the same weights lie there.
"""

from __future__ import annotations

import json
from pathlib import Path

from scd_wm.autoencoder.base import FrameAutoencoder, frozen
from scd_wm.autoencoder.conv import ConvAutoencoder
from scd_wm.autoencoder.folder import CONFIG, FORMAT, FORMAT_VERSION, read_config
from scd_wm.autoencoder.hub import CLASS_KEY, fetch, is_hub_id, read_diffusers
from scd_wm.autoencoder.taef2 import Taef2, is_taef2, read_taef2

REFERENCE_FORMAT = "scd_wm autoencoder reference"
COPY_WEIGHTS = 25_000_000  # an autoencoder with more weights than these 100 MB is not copied
KINDS = {"conv": ConvAutoencoder.read, "taef2": Taef2.read}


def load_autoencoder(source: str | Path) -> FrameAutoencoder:
    """Load a frozen autoencoder, recognised by what is there and not by its name.

    Args:
        source: A folder of ours (`scd-wm train-autoencoder`), one with the two .pth halves of a
            taef2, one of diffusers, or an id on the model hub such as "owner/model".

    Raises:
        FileNotFoundError: If there is nothing, or it has no weights yet.
        ModuleNotFoundError: If it needs diffusers, which is not installed.
        ValueError: If it is none of these, damaged, or not what a reference says.
    """
    folder = Path(source).expanduser()
    if not folder.exists():
        if not is_hub_id(str(source)):
            raise FileNotFoundError(
                f"no autoencoder {source}: no such folder, and no id on the model hub (owner/model)"
            )
        folder = fetch(str(source))
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; an autoencoder is a folder")
    return frozen(_read(folder))


def write_copy(autoencoder: FrameAutoencoder, folder: Path, source: str | Path) -> None:
    """Write a copy of an autoencoder, or a reference to `source` if it is large.

    Args:
        autoencoder: What to write.
        folder: An empty folder.
        source: Where it came from.
    """
    if autoencoder.num_weights <= COPY_WEIGHTS:
        return autoencoder.write(folder)
    there = Path(source).expanduser()
    reference = {
        "format": REFERENCE_FORMAT,
        "source": str(there.resolve() if there.exists() else source),
        "identity": autoencoder.identity,
    }
    (folder / CONFIG).write_text(json.dumps(reference, indent=2) + "\n", encoding="utf-8")


def _read(folder: Path) -> FrameAutoencoder:
    if is_taef2(folder):
        return read_taef2(folder)
    if not (folder / CONFIG).is_file():
        names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))[:8]
        raise ValueError(
            f"{folder} is no autoencoder: it holds neither {CONFIG} nor two halves as .pth files, "
            f"but {', '.join(names) or 'nothing'}"
        )
    config = read_config(folder)
    if CLASS_KEY in config:
        return read_diffusers(folder, config)
    if config.get("format") == REFERENCE_FORMAT:
        return _follow(folder, config)
    if config.get("format") != FORMAT:
        raise ValueError(f"{folder / CONFIG} does not describe an autoencoder")
    if config.get("kind") not in KINDS or config.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / CONFIG} is of kind {config.get('kind')!r} and version "
            f"{config.get('format_version')!r}; this version reads {list(KINDS)}, {FORMAT_VERSION}"
        )
    try:
        return KINDS[config["kind"]](folder)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG} does not fit this version: {error}") from None


def _follow(folder: Path, reference: dict[str, str]) -> FrameAutoencoder:
    source = reference["source"]
    autoencoder = load_autoencoder(source)
    if autoencoder.identity != reference["identity"]:
        raise ValueError(
            f"{folder / CONFIG} means another autoencoder than the one at {source}: identity "
            f"{reference['identity']}, there is {autoencoder.identity}; put the right one back"
        )
    return autoencoder
