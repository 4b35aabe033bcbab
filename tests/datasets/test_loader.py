"""Batches depend on the seed and the step alone."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scd_wm.clip import Clip
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.loader import ClipLoader


@pytest.fixture
def dataset(robomimic_file: Path) -> RobotDataset:
    return open_dataset(robomimic_file)


def names(batch: Clip) -> tuple[str, ...]:
    return batch.episodes


def test_each_epoch_has_every_window_once_in_another_order(dataset: RobotDataset) -> None:
    loader = ClipLoader(dataset, 3, batch_size=5, seed=0)
    assert loader.num_windows == 5 + 2 + 7
    stream = [name for step in range(14) for name in names(loader.batch(step))]
    epochs = [stream[i : i + 14] for i in range(0, 70, 14)]
    everything = sorted(epochs[0])
    assert len(set(everything)) == 14
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_same_seed_and_step_give_the_same_batch(dataset: RobotDataset) -> None:
    first, second = (ClipLoader(dataset, 3, 4, seed=7) for _ in range(2))
    second.batch(0)
    assert torch.equal(first.batch(9).images["top_image"], second.batch(9).images["top_image"])
    assert names(first.batch(9)) == names(second.batch(9))
    other = ClipLoader(dataset, 3, 4, seed=8)
    assert [names(first.batch(s)) for s in range(4)] != [names(other.batch(s)) for s in range(4)]


def test_iterating_from_a_step_gives_what_indexing_gives(dataset: RobotDataset) -> None:
    loader = ClipLoader(dataset, 3, 4, seed=0)
    for prefetch in (0, 1, 3):
        stream = loader.iterate(5, prefetch=prefetch)
        for step in range(5, 12):
            batch = next(stream)
            assert names(batch) == names(loader.batch(step))
            assert torch.equal(batch.actions, loader.batch(step).actions)


def test_ranks_together_load_the_global_batch(dataset: RobotDataset) -> None:
    whole = ClipLoader(dataset, 3, 6, seed=0)
    ranks = [ClipLoader(dataset, 3, 6, seed=0, rank=r, world_size=3) for r in range(3)]
    for step in (0, 4):
        assert sum((names(rank.batch(step)) for rank in ranks), ()) == names(whole.batch(step))
        ids = [i for rank in ranks for i in rank.sample_ids(step)]
        assert ids == whole.sample_ids(step) == list(range(6 * step, 6 * step + 6))


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "clip-prefetch"]


def test_a_negative_number_of_batches_ahead_is_refused(dataset: RobotDataset) -> None:
    with pytest.raises(ValueError, match="prefetch must be 0 or more, got -1"):
        ClipLoader(dataset, 3, 4, seed=0).iterate(prefetch=-1)


def test_closing_the_iterator_ends_its_thread(dataset: RobotDataset) -> None:
    stream = ClipLoader(dataset, 3, 4, seed=0).iterate()
    next(stream)
    assert len(prefetch_threads()) == 1
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert not prefetch_threads()


def test_an_error_while_prefetching_is_raised_where_the_batch_is_awaited(
    dataset: RobotDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = ClipLoader(dataset, 3, 4, seed=0)
    batch = loader.batch

    def failing(step: int) -> Clip:
        if step == 2:
            raise OSError("the disk is gone")
        return batch(step)

    monkeypatch.setattr(loader, "batch", failing)
    stream = loader.iterate()
    assert [names(next(stream)) for _ in range(2)] == [names(batch(s)) for s in range(2)]
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)
    assert not prefetch_threads()


def test_a_clip_longer_than_every_episode_is_refused(
    dataset: RobotDataset, robomimic_file: Path
) -> None:
    ClipLoader(dataset, 9, 1, seed=0)  # the start frame and frames 0 to 7 of the longest
    with pytest.raises(ValueError, match=r"no episode of .* has 10 frames, the longest has 8; use"):
        ClipLoader(dataset, 10, 1, seed=0)
    with pytest.raises(ValueError, match=r"longest has 4; .* smaller frame_skip"):
        ClipLoader(open_dataset(robomimic_file, frame_skip=3), 10, 1, seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: ClipLoader(d, 3, 0, 0), "batch_size must be a positive multiple .* got 0 for 1"),
        (lambda d: ClipLoader(d, 3, 5, 0, 0, 2), "batch_size must be .* got 5 for 2"),
        (lambda d: ClipLoader(d, 3, 4, 0, 2, 2), "rank must be in 0 to 1, got 2"),
        (lambda d: ClipLoader(d, 0, 4, 0), "num_frames must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(
    dataset: RobotDataset, make: Callable[[RobotDataset], ClipLoader], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(dataset)
