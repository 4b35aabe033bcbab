"""`scd-wm convert-model`: an SCD model with the weights of a trained causal diffuser.

OUT is a model folder like any other: `scd-wm train DATA --init OUT` goes on from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scd_wm.model.conversion import (
    CONVERTED_MODES,
    FED_LEVEL,
    Split,
    convert,
    new_weights,
    origins,
)
from scd_wm.model.world_model import WorldModel
from scd_wm.training import files
from scd_wm.training.checkpoint import (
    AUTOENCODER,
    CONFIG,
    Autoencoder,
    check_folder,
    load_world_model,
    save_pretrained,
)
from scd_wm.training.provenance import versions

SUMMARY = "summary.json"  # of a folder that `--split` names
PARTS = ("encoder", "decoder")  # of a split
KEPT = ("preset", "train", "data", "autoencoder")  # entries of the parent's config.json


def convert_model(
    run: str | Path,
    out: str | Path,
    *,
    split: str | Path | None = None,
    encoder: Sequence[int] | None = None,
    decoder: Sequence[int] | None = None,
    context_mode: str = CONVERTED_MODES[0],
    fed_level: float | None = FED_LEVEL,
) -> dict[str, Any]:
    """Split a causal diffuser into encoder and decoder and write what comes of it.

    Args:
        run: A run folder, an exported model or the name of a shipped one, of arch "entangled".
        out: Folder to write, whole or not at all.
        split: Numbers of encoder and decoder layers such as "8+4": the first ones, and the first
            half and last half; or a JSON file, or a folder with a summary.json, such as
            `scd-wm probe` writes, that holds
            {"split": {"encoder": [...], "decoder": [...]}}.
        encoder: In place of `split`: the layers of the encoder.
        decoder: In place of `split`: the layers of the decoder.
        context_mode: How the decoder reads the encoder's result.
        fed_level: Least noise level at which the encoder is fed the frame to come; None: it is not.

    Returns:
        A few plain values: where it lies, its split, and how much of it is the parent's.

    Raises:
        FileExistsError: If there is something at `out`.
        FileNotFoundError: If there is no such run or split.
        ValueError: If the split is not one of this model, the model is SCD already, or settings do
            not go together.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already; choose another folder")
    folder = check_folder(run)
    parent = load_world_model(run, familiarity=False)  # which is of other features
    depth = parent.config.encoder_layers + parent.config.decoder_layers
    chosen = choose_split(split, encoder, decoder, depth)
    child = convert(parent, chosen, context_mode=context_mode, fed_level=fed_level)
    described = {"encoder": list(chosen.encoder), "decoder": list(chosen.decoder)}
    known = files.read_json(folder / CONFIG)
    origin = {name: known[name] for name in KEPT if name in known}
    origin |= {"init": str(run), "split": described, "versions": versions()}
    kept = folder / AUTOENCODER
    autoencoder = Autoencoder.load(kept) if kept.is_dir() else None
    save_pretrained(child, out, origin, autoencoder=autoencoder)
    return {
        "model": str(out),
        "parent": str(run),
        "encoder": as_text(chosen.encoder),
        "decoder": as_text(chosen.decoder),
        "context_mode": child.config.context_mode,
        "fed_level": "none" if fed_level is None else fed_level,
        "split": described,
        **count_weights(child, chosen),
    }


def choose_split(
    split: str | Path | None,
    encoder: Sequence[int] | None,
    decoder: Sequence[int] | None,
    depth: int,
) -> Split:
    """Return the split that was asked for, of a model of `depth` layers.

    Raises:
        FileNotFoundError: If `split` names nothing.
        ValueError: If it is asked for in two ways or in none, or there is no such split.
    """
    if encoder is not None and decoder is not None and split is None:
        return Split(tuple(encoder), tuple(decoder))
    if split is None or encoder is not None or decoder is not None:
        raise ValueError("say how to split: either split, or both encoder and decoder")
    counts = str(split).split("+")
    if len(counts) == 2 and all(count.isdecimal() for count in counts):
        return Split.of_counts(int(counts[0]), int(counts[1]), depth)
    path = Path(split)
    if not path.exists():
        raise FileNotFoundError(
            f"split must be numbers of layers such as 8+4, or a file or folder that is there, got "
            f"{str(split)!r}"
        )
    return read_split(path / SUMMARY if path.is_dir() else path)


def read_split(path: Path) -> Split:
    """Read the layers of encoder and decoder from a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no split, or one without an encoder.
    """
    found: Any = files.read_json(path).get("split")
    parts: list[Any] = [found.get(name) if isinstance(found, dict) else None for name in PARTS]
    if not all(isinstance(p, list) and all(type(layer) is int for layer in p) for p in parts):
        wanted = '"split": {"encoder": [0, ...], "decoder": [...]}'
        raise ValueError(f"{path} has no {wanted}, but {found!r}")
    if not parts[0]:  # what `scd_wm.probe` writes where no layer could run once per frame
        raise ValueError(
            f"{path} suggests no split, its encoder has no layers; choose one yourself, such as 6+2"
        )
    return Split(tuple(parts[0]), tuple(parts[1]))


def count_weights(child: WorldModel, split: Split) -> dict[str, int]:
    """Return how many parameters are the parent's, and how many were made for the split."""
    state = child.state_dict()
    copied = sum(state[name].numel() for name, _ in origins(child, split))
    new = sum(state[name].numel() for name in new_weights(child, split))
    return {"parameters": copied + new, "copied": copied, "new": new}


def as_text(layers: Sequence[int]) -> str:
    """Return layers in the form that the command line takes: 0-5,7."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)
