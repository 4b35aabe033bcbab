"""A robot data set as the world model sees it: keys chosen by name, resized, with frames skipped.

Axes: T steps of an episode after frame skip, F frames of a clip, H height, W width, C channels,
D values of a vector, A values of an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.frame_skip import ActionMode, skip_actions, skip_episode, skip_outcome
from scd_wm.datasets.image_cache import ImageCache
from scd_wm.datasets.measure import data_spec
from scd_wm.datasets.memory import IMAGE_BYTES, EpisodeArrays, Memory
from scd_wm.datasets.reader import ACTION, Reader, SourceInfo, VideoReader
from scd_wm.datasets.resize import resize_images
from scd_wm.datasets.selection import Selection, choose_keys, image_sizes, split_usable
from scd_wm.spec import Spec


def open_dataset(
    path: str | Path,
    *,
    cameras: Sequence[str] | None = None,
    vectors: Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    frame_skip: int = 1,
    action_mode: ActionMode = "stack",
    cache_dir: str | Path | None = None,
) -> RobotDataset:
    """Open a data set of any known format without converting it.

    Args:
        path: A robomimic HDF5 file or a LeRobot v2 or v3 folder.
        cameras: Names of the cameras to use; None takes all, () none.
        vectors: Names of the vectors to use; None takes all, () none.
        image_size: Height and width (one number: both) that all images are resized to, which may
            change their aspect ratio. None keeps them as they are.
        frame_skip: Steps of the data that make one step of the data set. At an episode's end a step
            may have fewer: its outcome is kept and its observation is masked.
        action_mode: What is the action of a step made of several: "stack" all of them, the "last"
            one, or their "sum".
        cache_dir: Where decoded video is kept; None is the environment variable SCD_WM_CACHE, or
            ~/.cache/scd_wm.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        KeyError: If the data has no such camera or vector; the message lists those it has.
        ValueError: If the format is unknown, the data damaged, an argument out of range, or images
            differ in size without `image_size`.
    """
    if frame_skip < 1:
        raise ValueError(f"frame_skip must be at least 1, got {frame_skip}")
    if action_mode not in ("stack", "last", "sum"):
        raise ValueError(f"action_mode must be 'stack', 'last' or 'sum', got {action_mode!r}")
    reader = open_reader(path)
    chosen_cameras = choose_keys(reader.info, "image", cameras)
    chosen_vectors = choose_keys(reader.info, "vector", vectors)
    indices, skipped = split_usable(reader.info, (*chosen_cameras, *chosen_vectors))
    selection = Selection(
        cameras=chosen_cameras,
        vectors=chosen_vectors,
        image_sizes=image_sizes(reader.info, indices, chosen_cameras, image_size),
        frame_skip=frame_skip,
        action_mode=action_mode,
    )
    cache = ImageCache(reader, cache_dir) if isinstance(reader, VideoReader) else None
    return RobotDataset(reader, selection, indices, cache, skipped)


class RobotDataset:
    """Episodes of one data set. Made by `open_dataset`; may be pickled for worker processes.

    Vectors, actions and outcomes are kept in memory once read, and images too where all of them
    together are small.

    Attributes:
        info: What the whole source holds, and what was skipped in it.
        cameras: Names of the cameras in use.
        vectors: Names of the vectors in use.
        outcomes: Names of the outcomes.
        episodes: The episodes in use, after frame skip.
        fps: Steps a second after frame skip; None where the data does not say.
    """

    def __init__(
        self,
        reader: Reader,
        selection: Selection,
        indices: Sequence[int],
        cache: ImageCache | None,
        skipped: tuple[str, ...] = (),
    ) -> None:
        self.info: SourceInfo = replace(reader.info, skipped=(*reader.info.skipped, *skipped))
        self.selection = selection
        self.cameras, self.vectors = selection.cameras, selection.vectors
        self.outcomes = reader.info.outcomes
        self.fps = None if self.info.fps is None else self.info.fps / selection.frame_skip
        self.indices = tuple(indices)  # of the episodes among those of the source
        self.episodes = [
            skip_episode(self.info.episodes[i], selection.frame_skip) for i in self.indices
        ]
        self._reader, self._cache = reader, cache
        self._memory = Memory(keep_images=self._image_bytes() <= IMAGE_BYTES)

    @property
    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each camera's images in a clip."""
        return self.selection.image_sizes

    @property
    def action_dim(self) -> int:
        """Values A of an action after frame skip."""
        stacked = self.selection.action_mode == "stack"
        return self.info.action_dim * (self.selection.frame_skip if stacked else 1)

    @property
    def num_steps(self) -> int:
        """Steps of all episodes after frame skip."""
        return sum(episode.num_actions for episode in self.episodes)

    def subset(self, episodes: Sequence[int]) -> RobotDataset:
        """Return the data set with only the episodes of these indices."""
        indices = [self.indices[i] for i in episodes]
        chosen = RobotDataset(self._reader, self.selection, indices, self._cache)
        chosen.info, chosen._memory = self.info, self._memory
        return chosen

    def split(self, held_out: float = 0.1, seed: int = 0) -> tuple[RobotDataset, RobotDataset]:
        """Divide the episodes at random into those to train on and those held out.

        Args:
            held_out: Share of the episodes to hold out, in (0, 1); at least one episode is held out
                and at least one is not.
            seed: Seed of the choice.

        Raises:
            ValueError: If `held_out` is out of range or there is only one episode.
        """
        num_episodes = len(self.episodes)
        if not 0 < held_out < 1:
            raise ValueError(f"held_out must be between 0 and 1, got {held_out}")
        if num_episodes < 2:
            raise ValueError(f"holding out needs 2 episodes, {self.info.path} has {num_episodes}")
        num_held_out = min(max(1, round(held_out * num_episodes)), num_episodes - 1)
        order = np.random.default_rng(seed).permutation(num_episodes)
        held = sorted(int(i) for i in order[:num_held_out])
        rest = sorted(int(i) for i in order[num_held_out:])
        return self.subset(rest), self.subset(held)

    def spec(self) -> Spec:
        """Measure the statistics that the model needs, reading everything but most images.

        Raises:
            ValueError: If a vector, action or reward is NaN or infinite; names where.
        """
        self.prepare()
        return data_spec(self)

    def prepare(self) -> None:
        """Decode all video that is not in the cache yet, showing progress."""
        if self._cache:
            self._cache.fill(self.indices, self.image_sizes)

    def clip_starts(self, num_frames: int, start_frame: bool = True) -> np.ndarray:
        """List every window of `num_frames` frames.

        Args:
            num_frames: Frames F of a clip.
            start_frame: Include the windows that begin with the start frame, at -1.

        Returns:
            (N, 2) int64: the episode's index and the first frame, episodes in order.
        """
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {num_frames}")
        windows = [np.zeros((0, 2), np.int64)]
        for index, episode in enumerate(self.episodes):
            starts = np.arange(-1 if start_frame else 0, episode.num_actions + 2 - num_frames)
            windows.append(np.stack([np.full_like(starts, index), starts], axis=1))
        return np.concatenate(windows)

    def clip(self, episode: int, start: int, num_frames: int) -> Clip:
        """Return consecutive frames of an episode with the actions between them.

        Args:
            episode: Index into `episodes`.
            start: First frame, from 0 on; -1 puts the start frame first.
            num_frames: Frames F. Frame T, after the last action, is the last there is; where its
                observation is not stored only its outcome is valid.

        Raises:
            IndexError: If the episode has no such frames.
        """
        info, stop = self.episodes[episode], start + num_frames
        if num_frames < 1 or start < -1 or stop > info.num_actions + 1:
            raise IndexError(
                f"no frames {start} to {stop - 1} in {info.name}: it has 0 to {info.num_actions}"
            )
        arrays = self.arrays(episode)
        first, last = max(start, 0), min(stop, info.num_observations)  # observations to read
        seen = _window(np.ones(info.num_observations, bool), start, num_frames)
        known = _window(np.ones(info.num_actions, bool), start - 1, num_frames)

        def pictures(camera: str) -> Tensor:
            return _window(self.images(episode, camera, first, last), start - first, num_frames)

        return Clip(
            images={name: pictures(name) for name in self.cameras},
            vectors={n: _window(v, start, num_frames) for n, v in arrays.vectors.items()},
            outcome={n: _window(v, start - 1, num_frames) for n, v in arrays.outcome.items()},
            actions=_window(arrays.actions, start, num_frames - 1),
            valid={n: seen for n in (*self.cameras, *self.vectors)}
            | {n: known for n in self.outcomes},
            action_valid=_window(np.ones(info.num_actions, bool), start, num_frames - 1),
            episode=f"{info.name} frames {start} to {stop - 1}",
        )

    def images(self, episode: int, camera: str, start: int, stop: int) -> np.ndarray:
        """Return stored frames `start` to `stop - 1` of a camera, (stop - start, H, W, 3) uint8."""
        if not self._memory.keep_images:
            return self._read_images(episode, camera, start, stop)
        whole = self._memory.images(
            self.indices[episode],
            camera,
            lambda: self._read_images(episode, camera, 0, self.episodes[episode].num_observations),
        )
        return whole[start:stop]

    def arrays(self, episode: int) -> EpisodeArrays:
        """Return all of an episode but its images."""
        return self._memory.arrays(self.indices[episode], lambda: self._read_arrays(episode))

    def _image_bytes(self) -> int:
        """Return the size of all images."""
        frame = sum(height * width * 3 for height, width in self.image_sizes.values())
        return frame * sum(episode.num_observations for episode in self.episodes)

    def _read_images(self, episode: int, camera: str, start: int, stop: int) -> np.ndarray:
        size, skip = self.image_sizes[camera], self.selection.frame_skip
        if start >= stop:
            return np.zeros((0, *size, 3), np.uint8)
        index, rows = self.indices[episode], (start * skip, (stop - 1) * skip + 1)
        if self._cache:
            return self._cache.read(index, camera, size, *rows)[::skip]
        return resize_images(self._reader.read(index, camera, *rows)[::skip], size)

    def _read_arrays(self, episode: int) -> EpisodeArrays:
        source, skip = self.info.episodes[self.indices[episode]], self.selection.frame_skip
        kept = self.episodes[episode].num_observations
        vectors = {n: self._numbers(episode, n, source.num_observations) for n in self.vectors}
        outcome = {n: self._numbers(episode, n, source.num_actions) for n in self.outcomes}
        actions = self._numbers(episode, ACTION, source.num_actions)
        return EpisodeArrays(
            vectors={name: rows[::skip][:kept] for name, rows in vectors.items()},
            actions=skip_actions(actions, skip, self.selection.action_mode),
            outcome={name: skip_outcome(name, rows, skip) for name, rows in outcome.items()},
        )

    def _numbers(self, episode: int, key: str, num_rows: int) -> np.ndarray:
        """Read rows of numbers as float32 and check that they are finite."""
        rows = self._reader.read(self.indices[episode], key, 0, num_rows).astype(np.float32)
        bad = ~np.isfinite(rows).reshape(num_rows, -1).all(axis=1)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{key} of {self.episodes[episode].name} in {self.info.path} is not finite at row "
                f"{row}: {rows[row].tolist()}; {int(bad.sum())} of {num_rows} rows are so; repair "
                "the data or leave the episode out"
            )
        return rows


def _window(rows: np.ndarray, start: int, length: int) -> Tensor:
    """Return rows `start` to `start + length - 1`, with zeros where there is no such row."""
    window = np.zeros((length, *rows.shape[1:]), rows.dtype)
    first, last = max(start, 0), min(start + length, len(rows))
    if first < last:
        window[first - start : last - start] = rows[first:last]
    return torch.from_numpy(window)
