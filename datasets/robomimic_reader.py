"""Read HDF5 files of the robomimic family: `data/demo_0`, ... with `actions` and `obs`.

Axes: T steps of an episode, H height, W width, D values of a vector, A values of an action.
`obs/<key>` holds frames 0 to T - 1, in some files also frame T; `next_obs/<key>` holds frames 1 to
T and may be absent. Keys of nested groups are joined, as in "robot0/eef_pos". Images are
(T, H, W, 3) or (T, 3, H, W), uint8 or floats up to 1 or 255. What differs between the writers:

=========  ========================================================================================
robomimic  `data` has `env_args` (JSON with the control frequency) and `total`; an episode has
           `num_samples`, `states`, `rewards` and `dones`; `mask/<name>` lists episodes
ours       robomimic's, and `terminated` and `success`, (T,) bool, of each step (`RobomimicWriter`)
robosuite  its collector stores only `states` and `actions` (from demo_1 on): refused, since images
           must be made first; `data` has `env` and `env_info` instead of `env_args`
MimicGen   also `datagen_info`, `src_demo_inds` and `src_demo_labels`, which are not used; no
           `rewards`, `dones`, `next_obs` or `mask`
LIBERO     `data` also has `problem_info` (JSON with the instruction) and `bddl_file_name`; images
           are upside down and kept so; `robot_states` is not used, as `obs` has the same; each
           observation was made *after* the action of its row (`robomimic_meta.libero_is_late`)
Isaac Lab  an episode says `success` as an attribute; `states` and `initial_state` are groups and
           `processed_actions` is beside `actions`, all not used; `obs` may be nested; no `rewards`
           or `next_obs`; `env_args` has `sim_args` (`dt`, `decimation`)
=========  ========================================================================================
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scd_wm.datasets.hdf5_file import Hdf5Handle, naming_damage, open_file
from scd_wm.datasets.reader import ACTION
from scd_wm.datasets.robomimic_scan import STEP_KEYS, scan


class RobomimicReader:
    """Random access to a robomimic file. Each process opens the file for itself.

    Lengths and shapes come from the arrays, never from the attributes `total` and `num_samples`,
    which are wrong in some files. `dones` is not offered as "terminated": robomimic also sets it at
    the end of a recording.

    Args:
        path: The HDF5 file.

    Raises:
        ValueError: If the file is damaged, is not of this family, or has no episode that can be
            used.
    """

    def __init__(self, path: Path) -> None:
        with open_file(path) as file, naming_damage(path):
            self._scan = scan(path, file)
        self.info = self._scan.info
        self._handle = Hdf5Handle(path)

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """See `scd_wm.datasets.reader.Reader.read`."""
        name = f"data/{self.info.episodes[episode].name}"
        first = self._scan.first_action
        if key == ACTION:
            steps = self._handle.rows(f"{name}/actions", start + first, stop + first)
            return steps.reshape(len(steps), -1)
        if key in STEP_KEYS:
            return self._handle.rows(
                f"{name}/{STEP_KEYS[key]}", start + first, stop + first
            ).ravel()
        rows = self._observations(name, key, start, stop)
        shape = self.info.episodes[episode].image_shapes.get(key, self.info.fields[key].shape)
        return self._scan.table.values(key, rows, shape, f"{name}/obs/{key} in {self.info.path}")

    def _observations(self, name: str, key: str, start: int, stop: int) -> np.ndarray:
        """Return rows of `obs`, the last of them from `next_obs` where `obs` lacks it."""
        rows = self._handle.rows(f"{name}/obs/{key}", start, stop)
        if len(rows) < stop - start:
            last = self._handle.rows(f"{name}/next_obs/{key}", stop - 2, stop - 1)
            rows = np.concatenate([rows, last])
        return rows
