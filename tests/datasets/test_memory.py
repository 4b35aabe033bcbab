"""What is kept in memory stays below the limit and is read once."""

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scd_wm.datasets import selected_reader
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.memory import Memory
from scd_wm.datasets.robomimic_reader import RobomimicReader

IMAGE = 32 * 48 * 3  # bytes of one image of the test data


def test_values_are_read_once_while_there_is_room() -> None:
    memory, reads = Memory[str](100), list[str]()

    def get(key: str, size: int) -> str | None:
        def read() -> str:
            reads.append(key)
            return f"value of {key}"

        return memory.get(key, size, read)

    values = [get("a", 60), get("a", 60), get("b", 50), get("c", 40), get("c", 40)]
    assert values == ["value of a", "value of a", None, "value of c", "value of c"]
    assert reads == ["a", "c"]
    assert memory.used == 100


def test_a_pickled_memory_is_empty_with_the_same_limit() -> None:
    memory = Memory[bytes](1000)
    memory.get("a", 900, lambda: bytes(900))
    copy = pickle.loads(pickle.dumps(memory))
    assert len(pickle.dumps(memory)) < 900
    assert (copy.limit, copy.used, copy.get("b", 1000, lambda: b"x")) == (1000, 0, b"x")


@pytest.mark.parametrize("num_kept", [0, 1, 2, 3])
def test_images_beyond_the_limit_are_read_clip_by_clip(
    robomimic_file: Path, monkeypatch: pytest.MonkeyPatch, num_kept: int
) -> None:
    numbers = (6 + 3 + 8) * 4 * 2 + (5 + 2 + 7) * 4 * (2 + 3)  # states; actions and outcomes
    room = [0, 8, 8 + 6, 8 + 6 + 3][num_kept] * IMAGE  # for the longest episodes, read first
    dataset = open_dataset(robomimic_file, memory_bytes=2 * numbers + room if room else 0)
    if room:
        dataset._image_memory.limit = room
    sizes: list[int] = []
    read = RobomimicReader.read

    def spy(self: RobomimicReader, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        sizes.extend([stop - start] if key == "top_image" else [])
        return read(self, episode, key, start, stop)

    monkeypatch.setattr(RobomimicReader, "read", spy)
    for _ in range(2):
        for episode in (2, 0, 1):
            dataset.clip(episode, 0, 2)
    whole, alone = [8, 6, 3][:num_kept], 3 - num_kept
    assert sizes == whole + [2] * alone + [2] * alone
    assert dataset._image_memory.used == room


def test_a_value_that_cannot_be_read_takes_no_room() -> None:
    memory = Memory[str](100)

    def fail() -> str:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        memory.get("a", 60, fail)
    assert memory.used == 0
    assert memory.get("b", 100, lambda: "kept") == "kept"


def test_threads_together_keep_to_the_limit() -> None:
    memory, both_asked = Memory[str](100), threading.Barrier(2, timeout=10)
    values: list[str | None] = []

    def ask(key: str, size: int) -> None:
        def read() -> str:
            both_asked.wait()
            return key

        values.append(memory.get(key, size, read))

    def refused() -> None:
        values.append(memory.get("b", 60, lambda: "b"))
        both_asked.wait()

    threads = [threading.Thread(target=ask, args=("a", 60))]
    threads[0].start()
    while memory.used == 0:  # until the first has taken its room
        pass
    threads.append(threading.Thread(target=refused))
    threads[1].start()
    for thread in threads:
        thread.join()
    assert values == [None, "a"]
    assert memory.used == 60


def test_threads_that_read_the_same_value_keep_one() -> None:
    memory, both_read = Memory[object](100), threading.Barrier(2, timeout=10)
    values: list[object] = []

    def read() -> object:
        both_read.wait()
        return object()

    threads = [
        threading.Thread(target=lambda: values.append(memory.get("a", 40, read))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values[0] is values[1]
    assert memory.used == 40


def test_a_limit_below_zero_is_refused(robomimic_file: Path) -> None:
    with pytest.raises(ValueError, match="must be 0 bytes or more, got -"):
        open_dataset(robomimic_file, memory_bytes=-1)


def held(array: np.ndarray) -> int:
    """Return the bytes that an array keeps from being freed: its own or those it is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.nbytes


@pytest.mark.parametrize(
    "changes",
    [
        {"frame_skip": 3},
        {"frame_skip": 2, "action_mode": "last"},
        {"crop": (2, 2, 8, 8)},
        {"image_size": 8},
        {},
    ],
)
def test_what_is_kept_takes_the_memory_that_is_counted(
    robomimic_file: Path, changes: dict[str, Any]
) -> None:
    dataset = open_dataset(robomimic_file, **changes)
    read_all(dataset)
    images = list(dataset._image_memory._kept.values())
    assert sum(map(held, images)) == dataset._image_memory.used
    arrays = [
        values
        for kept in dataset._numbers_memory._kept.values()
        for values in (kept.actions, *kept.vectors.values(), *kept.outcome.values())
    ]
    assert sum(map(held, arrays)) == dataset._numbers_memory.used == dataset.number_bytes


def read_all(dataset: RobotDataset) -> None:
    """Read every frame."""
    for index, episode in enumerate(dataset.episodes):
        dataset.clip(index, 0, episode.num_actions + 1)


@pytest.mark.parametrize("skip", [1, 2])
def test_long_episodes_are_read_in_parts(
    robomimic_file: Path, monkeypatch: pytest.MonkeyPatch, skip: int
) -> None:
    whole = open_dataset(robomimic_file, image_size=16, frame_skip=skip)
    expected = [whole.images(2, "top_image", 0, 8 // skip)]
    monkeypatch.setattr(selected_reader, "READ_BYTES", 2 * skip * IMAGE)
    sizes: list[int] = []
    read = RobomimicReader.read

    def spy(self: RobomimicReader, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        sizes.append(stop - start)
        return read(self, episode, key, start, stop)

    monkeypatch.setattr(RobomimicReader, "read", spy)
    parted = open_dataset(robomimic_file, image_size=16, frame_skip=skip)
    assert np.array_equal(parted.images(2, "top_image", 0, 8 // skip), expected[0])
    assert sizes == [2 * skip - (skip - 1)] * (4 // skip)
