"""A data set as robomimic trains on it: one of its files, and that file in memory.

Axes: T steps of an episode, D values of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scd_wm.convert.to_robomimic import env_args
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.envs.names import flat_name
from scd_wm.progress import progress_bar

MEMORY_BYTES = 2**32  # of all that is trained on; beyond it images are read from the file
STD_FLOOR = 1e-3  # added to deviations, as robomimic does
LEAST_SHARE = 0.05  # of the largest deviation in a vector: what a value is divided by at the least
FILE = "data.hdf5"


def file_of(dataset: RobotDataset, aside: Path) -> tuple[Path, list[str]]:
    """Return a robomimic file with the episodes of a data set, and their names in it.

    Args:
        dataset: What to train on.
        aside: Folder for a file where the data is not one that robomimic reads as it is.
    """
    names = [episode.name for episode in dataset.episodes]
    if _robomimic_reads(dataset, names):
        return dataset.info.path, names
    return aside / FILE, write_episodes(dataset, aside / FILE)


def write_episodes(dataset: RobotDataset, path: Path) -> list[str]:
    """Write the episodes of a data set as they are seen in training; return their names."""
    dataset.prepare()
    keys = {name: flat_name(name) for name in (*dataset.cameras, *dataset.vectors)}
    if len({*keys.values()}) < len(keys):
        raise ValueError(
            f"names of observations are not told apart without '/' and '.': {sorted(keys)}"
        )
    names = []
    with RobomimicWriter(path, env_args(dataset.info)) as writer:
        for index in progress_bar(
            range(len(dataset.episodes)), desc="preparing data", unit="episode"
        ):
            arrays, count = dataset.arrays(index), dataset.episodes[index].num_observations
            images = {c: dataset.images(index, c, 0, count) for c in dataset.cameras}
            frames = {keys[k]: v for k, v in {**images, **arrays.vectors}.items()}
            names.append(writer.add_episode(frames, arrays.actions))
    return names


def _robomimic_reads(dataset: RobotDataset, names: Sequence[str]) -> bool:
    """Return whether robomimic reads the data set's own file, and reads the same."""
    path, as_it_is = dataset.info.path, DataOptions()
    options = dataset.options
    for field in ("rename", "image_size", "crop", "frame_skip"):
        if getattr(options, field) != getattr(as_it_is, field):
            return False
    if dataset.info.format != "robomimic" or not path.is_file():
        return False
    with h5py.File(path) as file:
        data = file["data"]
        if "env_args" not in data.attrs or "bddl_file_name" in data.attrs:  # LIBERO's are late
            return False
        pairs = zip(names, dataset.episodes, strict=True)
        return all(_is_plain(data[name], dataset, info.num_actions) for name, info in pairs)


def _is_plain(episode: h5py.Group, dataset: RobotDataset, num_actions: int) -> bool:
    """Return whether an episode has robomimic's lengths, names and kinds of images."""
    if episode.attrs.get("num_samples") != num_actions or episode["actions"].ndim != 2:
        return False
    for key in (*dataset.cameras, *dataset.vectors):
        rows = None if flat_name(key) != key else episode.get(f"obs/{key}")
        ndim = 4 if key in dataset.cameras else 2
        if rows is None or rows.ndim != ndim or len(rows) < num_actions:
            return False
        if key in dataset.cameras and (rows.dtype != np.uint8 or rows.shape[-1] != 3):
            return False
    return True


def in_memory(settings: Any, file: Path, demos: Sequence[str]) -> Any:
    """Return robomimic's `SequenceDataset` of some episodes of a file, each array kept once.

    Robomimic's own cache of a file keeps every sequence, which is ten times the images for an RNN.
    """
    from robomimic.utils.dataset import SequenceDataset

    class InMemory(SequenceDataset):  # type: ignore[misc]  # robomimic has no types
        def load_demo_info(self, filter_by_attribute: Any = None, demos: Any = demos) -> None:
            super().load_demo_info(demos=list(demos))

        def keep(self) -> None:
            self.hdf5_cache_mode = "low_dim"  # sequences are cut when they are asked for
            fits = _num_bytes(self.hdf5_file, self.demos, self.obs_keys) <= MEMORY_BYTES
            low_dim = settings.observation.modalities.obs.low_dim
            self.obs_keys_in_memory = self.obs_keys if fits else tuple(low_dim)
            self.hdf5_cache = self.load_dataset_in_memory(
                demo_list=self.demos,
                hdf5_file=self.hdf5_file,
                obs_keys=self.obs_keys_in_memory,
                dataset_keys=self.dataset_keys,
                load_next_obs=False,
            )
            self.close_and_delete_hdf5_handle()

    train = settings.train
    items = InMemory(
        hdf5_path=str(file),
        obs_keys=settings.all_obs_keys,
        dataset_keys=["actions"],
        load_next_obs=False,
        frame_stack=train.frame_stack,
        seq_length=train.seq_length,
        pad_frame_stack=True,
        pad_seq_length=True,
        hdf5_cache_mode=None,
        hdf5_use_swmr=False,
    )
    items.keep()
    return items


def vector_stats(
    items: Any, shapes: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, np.ndarray]]:
    """Return mean and deviation of each observation as robomimic keeps them, (1, D) each.

    Images, (1, C, H, W), keep their range: their mean is 0 and their deviation 1.
    """
    stats = {}
    for key, shape in shapes.items():
        mean, std = np.zeros((1, *shape)), np.ones((1, *shape))
        if len(shape) == 1:
            rows = np.concatenate([items.hdf5_cache[d]["obs"][key] for d in items.demos])
            mean = rows.mean(axis=0, keepdims=True, dtype=np.float64)
            std = rows.std(axis=0, keepdims=True, dtype=np.float64)
            # What never or hardly varies in demonstrations (the tilt of a cube that stands) tells
            # next to nothing; over its own deviation a thousandth off, as an imagined or a
            # measured value is, would be a whole deviation of an input that was never trained.
            constant = np.ptp(rows, axis=0, keepdims=True) == 0
            std = np.maximum(std + STD_FLOOR, LEAST_SHARE * std.max())
            std = np.where(constant, 1, std)
        stats[key] = {"mean": mean, "std": std}
    return stats


def sequence_bytes(items: Any) -> int:
    """Return what all sequences take in memory, each cut out for itself."""
    first = items[0]
    arrays = [*first["obs"].values(), first["actions"]]
    return len(items) * sum(int(array.nbytes) for array in arrays)


def _num_bytes(file: h5py.File, demos: Sequence[str], keys: Sequence[str]) -> int:
    return sum(file[f"data/{demo}/obs/{key}"].nbytes for demo in demos for key in keys)
