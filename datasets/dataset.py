"""A robot data set as the world model sees it: keys chosen by name, resized, with frames skipped.

Axes: T steps of an episode after frame skip, F frames of a clip, H height, W width, C channels,
D values of a vector, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.image_cache import ImageCache
from scd_wm.datasets.measure import data_spec, image_delta
from scd_wm.datasets.memory import MEMORY_BYTES, EpisodeArrays, Memory
from scd_wm.datasets.mixture import MixedReader
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.reader import EpisodeInfo, Reader, SourceInfo, VideoReader
from scd_wm.datasets.renamed import rename_keys
from scd_wm.datasets.selected_reader import SelectedReader
from scd_wm.datasets.selection import Selection, select
from scd_wm.datasets.windows import gather, list_windows, within
from scd_wm.spec import CameraSpec, Spec


def open_dataset(
    path: str | Path,
    options: DataOptions | None = None,
    *,
    reader: Callable[[Path], Reader] | None = None,
    cache_dir: str | Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
    **changes: Any,
) -> RobotDataset:
    """Open a data set of any known format without converting it.

    Args:
        path: A file or folder; `scd_wm.datasets.formats` lists the formats.
        options: What to use of it, and how; None takes everything as it is.
        reader: Opens the path, such as a reader's class; None recognises the format.
        cache_dir: Where decoded video is kept; None is the environment variable SCD_WM_CACHE, or
            ~/.cache/scd_wm.
        memory_bytes: How much of what was read is kept in memory, in each process that reads.
        changes: Fields of `DataOptions` in place of those in `options`, such as
            `image_size=64, cameras=["*_image"]`.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        KeyError: If the data has no such camera, vector or mask; the message lists those it has.
        TypeError: If `changes` names no field of `DataOptions`.
        ValueError: If the format is unknown, the data damaged, an option or `memory_bytes` out of
            range, or images differ in size without `image_size`.
    """
    options = replace(DataOptions() if options is None else options, **changes)
    source = open_reader(path, reader)
    mixture = source if isinstance(source, MixedReader) else None
    source = rename_keys(source, options.rename)
    selection, indices, skipped = select(source, options)
    return RobotDataset(
        source,
        selection,
        indices,
        cache=ImageCache(source, cache_dir) if isinstance(source, VideoReader) else None,
        skipped=skipped,
        memory_bytes=memory_bytes,
        mixture=mixture,
    )


class RobotDataset:
    """Episodes of one data set. Made by `open_dataset`; may be pickled for worker processes.

    What was read is kept in memory as long as there is room (`scd_wm.datasets.memory`): first what
    is small, vectors, actions and outcomes, then images.

    Attributes:
        info: What the whole source holds, and what was skipped in it.
        cameras: Names of the cameras in use.
        vectors: Names of the vectors in use.
        outcomes: Names of the outcomes.
        indices: Of the episodes in use among those of the source.
        episodes: The episodes in use, after frame skip.
        options: With which the data set was opened.
        fps: Steps a second after frame skip; None where the data does not say.
    """

    def __init__(
        self,
        reader: Reader,
        selection: Selection,
        indices: Sequence[int],
        *,
        cache: ImageCache | None = None,
        skipped: Sequence[str] = (),
        memory_bytes: int = MEMORY_BYTES,
        mixture: MixedReader | None = None,
    ) -> None:
        self.info: SourceInfo = replace(reader.info, skipped=(*reader.info.skipped, *skipped))
        self.selection, self.options = selection, selection.options
        self.cameras, self.vectors = selection.cameras, selection.vectors
        self.outcomes = reader.info.outcomes
        self.fps = None if self.info.fps is None else self.info.fps / self.options.frame_skip
        self._reader, self._cache, self._mixture = reader, cache, mixture
        self._selected = SelectedReader(reader, selection, cache)
        self._choose(indices)
        number_bytes = min(self.number_bytes, memory_bytes // 2)
        self._numbers_memory = Memory[EpisodeArrays](number_bytes)
        self._image_memory = Memory[np.ndarray](memory_bytes - number_bytes)

    def _choose(self, indices: Sequence[int]) -> None:
        """Use the episodes of these indices in the source."""
        self.indices = tuple(indices)
        self.episodes = [self._selected.episode(index) for index in self.indices]

    @property
    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each camera's images in a clip."""
        return self.selection.image_sizes

    @property
    def action_dim(self) -> int:
        """Values A of an action after frame skip."""
        return self._selected.action_dim

    @property
    def num_steps(self) -> int:
        """Steps of all episodes after frame skip."""
        return sum(episode.num_actions for episode in self.episodes)

    @property
    def number_bytes(self) -> int:
        """Bytes in memory of the vectors, actions and outcomes of all episodes."""
        return sum(map(self._selected.num_bytes, self.indices))

    def subset(self, episodes: Sequence[int]) -> RobotDataset:
        """Return the data set with only the episodes of these indices; both share one memory."""
        chosen = copy(self)
        chosen._choose([self.indices[i] for i in episodes])
        return chosen

    def weighted_groups(self) -> list[tuple[float, list[int]]]:
        """Return the episodes whose clips are drawn by weight: pairs of weight and indices.

        All are one group but in a mixture with weights.
        """
        if self._mixture is None or self._mixture.weights is None:
            return [(1.0, list(range(len(self.episodes))))]
        return self._mixture.weighted_groups(self.indices)

    @property
    def parts(self) -> dict[str, range]:
        """The episodes of each part of a mixture among those of the source.

        By what the names of its episodes begin with; of all but mixtures one part, "".
        """
        if self._mixture is None:
            return {"": range(len(self.info.episodes))}
        return self._mixture.parts

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

    def camera_spec(self, camera: str) -> CameraSpec:
        """Measure what the model needs to know of a camera."""
        height, width = self.image_sizes[camera]
        return CameraSpec(height=height, width=width, delta_std=image_delta(self, camera))

    def prepare(self) -> None:
        """Decode all video that is not in the cache yet, showing progress."""
        if self._cache:
            self._cache.fill(self.indices, self.selection.views)

    def clip_starts(self, num_frames: int, start_frame: bool = True) -> np.ndarray:
        """List every window of `num_frames` frames.

        Args:
            num_frames: Frames F of a clip.
            start_frame: Include the windows that begin with the start frame, at -1.

        Returns:
            (N, 2) int64: the episode's index and the first frame, episodes in order.
        """
        lengths = [episode.num_actions + 1 for episode in self.episodes]
        return list_windows(lengths, num_frames, -1 if start_frame else 0)

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
        (name,) = (batch := self.clips([(episode, start)], num_frames)).episodes
        return replace(batch.map(lambda tensor: tensor[0]), episode=name, episodes=())

    def clips(self, places: Sequence[tuple[int, int]], num_frames: int) -> Clip:
        """Return a batch of clips, equal to `collate` of `clip` of each place but faster.

        Args:
            places: Episode and first frame of each, as for `clip`.
            num_frames: Frames F of each.

        Raises:
            IndexError: If an episode has no such frames.
        """
        infos = [self._check(episode, start, num_frames) for episode, start in places]
        arrays = [self.arrays(episode) for episode, _ in places]
        starts = [start for _, start in places]
        before = [start - 1 for start in starts]  # the step whose outcome comes with a frame
        first, num_actions = np.array(starts), np.array([e.num_actions for e in infos])
        seen = within(first, np.array([e.num_observations for e in infos]), num_frames)
        known = within(first - 1, num_actions, num_frames)
        return Clip(
            images={name: self._pictures(name, places, num_frames) for name in self.cameras},
            vectors={
                n: gather([a.vectors[n] for a in arrays], starts, num_frames) for n in self.vectors
            },
            outcome={
                n: gather([a.outcome[n] for a in arrays], before, num_frames) for n in self.outcomes
            },
            actions=gather([a.actions for a in arrays], starts, num_frames - 1),
            valid=dict.fromkeys((*self.cameras, *self.vectors), seen)
            | dict.fromkeys(self.outcomes, known),
            action_valid=within(first, num_actions, num_frames - 1),
            episodes=tuple(
                f"{info.name} frames {start} to {start + num_frames - 1}"
                for info, start in zip(infos, starts, strict=True)
            ),
        )

    def _check(self, episode: int, start: int, num_frames: int) -> EpisodeInfo:
        """Return an episode, if it has these frames."""
        info, stop = self.episodes[episode], start + num_frames
        if num_frames < 1 or start < -1 or stop > info.num_actions + 1:
            raise IndexError(
                f"no frames {start} to {stop - 1} in {info.name}: it has 0 to {info.num_actions}"
            )
        return info

    def _pictures(self, camera: str, places: Sequence[tuple[int, int]], num_frames: int) -> Tensor:
        """Return the images of a batch of clips, (B, F, H, W, 3) uint8."""
        rows = []
        for episode, start in places:
            last = min(start + num_frames, self.episodes[episode].num_observations)
            rows.append(self.images(episode, camera, max(start, 0), last))
        return gather(rows, [min(start, 0) for _, start in places], num_frames)

    def images(self, episode: int, camera: str, start: int, stop: int) -> np.ndarray:
        """Return stored frames `start` to `stop - 1` of a camera, (stop - start, H, W, 3) uint8."""
        num_frames, size = self.episodes[episode].num_observations, self.image_sizes[camera]
        whole = self._image_memory.get(
            (self.indices[episode], camera),
            num_frames * size[0] * size[1] * 3,
            lambda: self._read_images(episode, camera, 0, num_frames),
        )
        return (
            self._read_images(episode, camera, start, stop) if whole is None else whole[start:stop]
        )

    def arrays(self, episode: int) -> EpisodeArrays:
        """Return all of an episode but its images."""
        index, selected = self.indices[episode], self._selected
        kept = self._numbers_memory.get(
            index, selected.num_bytes(index), lambda: selected.arrays(index)
        )
        return selected.arrays(index) if kept is None else kept

    def _read_images(self, episode: int, camera: str, start: int, stop: int) -> np.ndarray:
        return self._selected.images(self.indices[episode], camera, start, stop)
