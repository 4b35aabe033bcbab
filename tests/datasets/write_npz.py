"""Write npz episodes and a mapping of them.

Everything says which episode and step it belongs to, as in `conftest`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets.conftest import LENGTHS, images, index_rows

MAPPING = {
    "format": "npz episodes",
    "episodes": "*.npz",
    "action": "act",
    "cameras": {"top": {"key": "observation", "layout": "CHW", "channels": [3, 6]}},
    "vectors": {"state": "joints"},
    "reward": "rew",
    "success": "success",
    "fps": 10,
}


def episode_arrays(episode: int, length: int, leads: bool = False) -> dict[str, np.ndarray]:
    """Return the arrays of an episode: as many observations as actions, or one more.

    Args:
        episode: Its number.
        length: Steps.
        leads: Store an action with the frame that it led to, after a first one of zeros.
    """
    frames, steps = length + leads, np.arange(length)
    pictures = np.moveaxis(images(episode, frames), -1, 1)
    arrays = {
        "observation": np.concatenate([np.zeros_like(pictures), pictures], axis=1),
        "joints": index_rows(episode, frames),
    }
    rows = {
        "act": index_rows(episode, length),
        "rew": steps.astype(np.float32)[:, None],
        "success": steps == length - 1,
    }
    if leads:
        rows = {k: np.concatenate([np.zeros_like(v[:1]), v]) for k, v in rows.items()}
    return arrays | rows


def write_mapping(folder: Path, **changes: Any) -> Path:
    """Write the mapping with some entries changed or, where None, left out."""
    content = {k: v for k, v in (MAPPING | changes).items() if v is not None}
    file = folder / "scd_wm.json"
    file.write_text(json.dumps(content))
    return file


def write_npz(folder: Path, lengths: Sequence[int] = LENGTHS, leads: bool = False) -> Path:
    """Write a folder of compressed npz files with their mapping."""
    folder.mkdir(parents=True, exist_ok=True)
    for episode, length in enumerate(lengths):
        arrays = episode_arrays(episode, length, leads)
        np.savez_compressed(folder / f"{episode}.npz", allow_pickle=False, **arrays)
    write_mapping(folder, action_leads_to_frame=leads)
    return folder
