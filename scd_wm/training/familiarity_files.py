"""What a model knows of its training data, on disk: familiarity.json and familiarity.safetensors.

They lie beside the weights that they belong to: in an exported model, and in a run's checkpoint,
with which they go.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from scd_wm.model.familiarity import Familiarity
from scd_wm.model.world_model import WorldModel
from scd_wm.training import files

FORMAT = "scd_wm familiarity"
FORMAT_VERSION = 1
DESCRIPTION, TENSORS = "familiarity.json", "familiarity.safetensors"
HASHED = 64  # values of each tensor of weights
OWN = ("format", "format_version", "weights")  # the rest says where it is from


def write_familiarity(folder: Path, familiarity: Familiarity, model: WorldModel) -> None:
    """Write or replace the familiarity of a model beside its weights, which are in `folder`."""
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "weights": weights_fingerprint(model),
        **familiarity.origin,
    }
    (folder / DESCRIPTION).unlink(missing_ok=True)  # half of an old pair is none
    files.replace_tensors(folder / TENSORS, familiarity.tensors)
    files.write_json(folder / DESCRIPTION, description)


def attach_familiarity(model: WorldModel, folder: Path) -> None:
    """Give a model the familiarity that lies beside its weights, if there is one.

    Raises:
        FileNotFoundError: If one of its two files is missing.
        ValueError: If one is damaged, or of another model.
    """
    if not (folder / DESCRIPTION).is_file():
        return
    description = files.read_json(folder / DESCRIPTION)
    if description.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / DESCRIPTION} is of format {description.get('format_version')!r}, this "
            f"version reads {FORMAT_VERSION}: run scd-wm calibrate again"
        )
    if description.get("weights") != weights_fingerprint(model):
        raise ValueError(f"{folder / TENSORS} is of other weights: run scd-wm calibrate again")
    origin = {k: v for k, v in description.items() if k not in OWN}
    found = Familiarity(files.read_tensors(folder / TENSORS), origin)
    model.familiarity = found.to(model.layout.delta_std)


def weights_fingerprint(model: WorldModel) -> str:
    """Return a hash that tells trained weights apart, the same for those stored as float16.

    Of the first values of each tensor: training changes them all, and hashing all is slow.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.flatten()[:HASHED].half().cpu().numpy()
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + values.tobytes())
    return digest.hexdigest()[:16]
