"""What a model knows of its training data, on disk: familiarity.json and familiarity.safetensors.

They lie beside the weights that they belong to: in an exported model, and in a run's checkpoint,
with which they go.
"""

from __future__ import annotations

from pathlib import Path

from scd_wm.model.familiarity import Familiarity
from scd_wm.model.world_model import WorldModel
from scd_wm.training import files

FORMAT = "scd_wm familiarity"
FORMAT_VERSION = 1
DESCRIPTION, TENSORS = "familiarity.json", "familiarity.safetensors"
OWN = ("format", "format_version", "group_sizes", "neighbours")  # the rest says where it is from


def write_familiarity(folder: Path, familiarity: Familiarity) -> None:
    """Write or replace the familiarity of the weights in a folder: a model or a checkpoint."""
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "group_sizes": list(familiarity.group_sizes),
        "neighbours": familiarity.neighbours,
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
    sizes = [segment.num_tokens for segment in model.layout.segments]
    width = model.config.dim * len(sizes)
    tensors = files.read_tensors(folder / TENSORS)
    origin = {k: v for k, v in description.items() if k not in OWN}
    found = Familiarity(tensors, description["group_sizes"], description["neighbours"], origin)
    if description["group_sizes"] != sizes or len(found.centre) != width:
        raise ValueError(
            f"{folder / TENSORS} is of another model: {len(found.centre)} features of tokens "
            f"{description['group_sizes']}, this one has {width} of {sizes}"
        )
    model.familiarity = found.to(model.layout.delta_std)
