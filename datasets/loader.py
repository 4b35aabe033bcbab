"""Batches of clips in an order that depends on the seed and the step alone.

Axes: B clips of a batch over all ranks, N clips of an epoch, W windows of a group of episodes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from scd_wm.clip import Clip
from scd_wm.datasets.dataset import RobotDataset

WAIT_S = 0.1  # how long the prefetch thread waits before it looks whether it should stop


class ClipLoader:
    """Batches of clips for training.

    In an epoch every window comes once, in an order drawn from (seed, epoch); batches run on from
    one epoch into the next. In a mixture with weights an epoch has as many clips, shared out by
    weight: each part goes through its own windows, as often as its share asks for. `batch(step)`
    depends on nothing else, so a resumed run sees what an uninterrupted one does, and ranks
    together see what a single process does.

    Args:
        dataset: Where clips come from.
        num_frames: Frames of a clip.
        batch_size: Clips B of a batch, over all ranks.
        seed: Seed of the order.
        rank: Which slice of every batch this process loads.
        world_size: Number of processes; must divide `batch_size`.

    Raises:
        ValueError: If no episode has `num_frames` frames, or sizes or ranks are out of range.
    """

    def __init__(
        self,
        dataset: RobotDataset,
        num_frames: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or world_size < 1 or batch_size % world_size:
            raise ValueError(
                "batch_size must be a positive multiple of the number of processes, got "
                f"{batch_size} for {world_size}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0 to {world_size - 1}, got {rank}")
        self.dataset, self.num_frames, self.seed = dataset, num_frames, seed
        self.batch_size = batch_size
        self._slice = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self._windows = dataset.clip_starts(num_frames)  # (N, 2)
        self._groups = _window_groups(dataset, self._windows)
        if len(self._windows) == 0:
            longest = max((e.num_actions + 1 for e in dataset.episodes), default=0)
            raise ValueError(
                f"no episode of {dataset.info.path} has {num_frames} frames, the longest has "
                f"{longest}; use shorter clips"
                + (", or a smaller frame_skip" if dataset.options.frame_skip > 1 else "")
            )
        dataset.prepare()
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    @property
    def num_windows(self) -> int:
        """Windows N, the clips of an epoch."""
        return len(self._windows)

    def sample_ids(self, step: int) -> list[int]:
        """Return a number for each of this rank's clips that no other clip of the run has."""
        return list(range(step * self.batch_size, (step + 1) * self.batch_size))[self._slice]

    def batch(self, step: int) -> Clip:
        """Return this rank's clips of a step, counted from 0, as a batch."""
        places = [self._place(sample) for sample in self.sample_ids(step)]
        return self.dataset.clips(places, self.num_frames)

    def iterate(self, start_step: int = 0, prefetch: int = 2) -> Iterator[Clip]:
        """Yield `batch(start_step)`, `batch(start_step + 1)` and so on without end.

        Args:
            start_step: First step.
            prefetch: Batches that a thread loads ahead; 0 loads each when it is asked for. The
                thread ends when the iterator is closed or deleted, and its errors are raised here.
        """
        if prefetch < 0:
            raise ValueError(f"prefetch must be 0 or more, got {prefetch}")
        if prefetch == 0:
            return self._load(start_step)
        return _prefetched(self._load(start_step), prefetch)

    def _load(self, start_step: int) -> Iterator[Clip]:
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def _place(self, sample: int) -> tuple[int, int]:
        """Return episode and first frame of a clip of the run."""
        epoch, position = divmod(sample, self.num_windows)
        episode, start = self._windows[self._order(epoch)[position]]
        return int(episode), int(start)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """Return the windows of an epoch, (N,) int64, in the order in which they are drawn."""
        counts = _share_out(self.num_windows, [weight for weight, _ in self._groups])
        drawn = [
            windows[_endless(len(windows), epoch * count, (epoch + 1) * count, (self.seed, group))]
            for group, (count, (_, windows)) in enumerate(zip(counts, self._groups, strict=True))
        ]
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_windows)
        return np.concatenate(drawn)[order]


def _window_groups(dataset: RobotDataset, windows: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Return pairs of weight and indices of windows, (W,), for each group that has windows."""
    groups = [
        (weight, np.flatnonzero(np.isin(windows[:, 0], episodes)))
        for weight, episodes in dataset.weighted_groups()
    ]
    return [(weight, members) for weight, members in groups if len(members)]


def _share_out(total: int, weights: Sequence[float]) -> list[int]:
    """Return whole numbers that sum to `total`, as near to the weights as whole numbers can be."""
    ends = np.cumsum(weights) / np.sum(weights) * total
    return np.diff(np.round([0.0, *ends])).astype(int).tolist()


def _endless(length: int, start: int, stop: int, seed: tuple[int, int]) -> np.ndarray:
    """Return entries `start` to `stop - 1` of an endless list of permutations of `length` things.

    Returns:
        (stop - start,) int64, each in 0 to length - 1.
    """
    rounds = range(start // length, -(-stop // length))
    orders = [np.random.default_rng((*seed, number)).permutation(length) for number in rounds]
    if not orders:
        return np.zeros(0, np.int64)
    first = rounds[0] * length
    return np.concatenate(orders)[start - first : stop - first]


def _prefetched(batches: Iterator[Clip], length: int) -> Iterator[Clip]:
    """Yield `batches`, up to `length` of them loaded ahead by a thread."""
    ready: queue.Queue[Clip | BaseException] = queue.Queue(maxsize=length)
    stop = threading.Event()

    def put(item: Clip | BaseException) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=WAIT_S)
            except queue.Full:
                continue

    def work() -> None:
        try:
            while not stop.is_set():
                put(next(batches))
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="clip-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
