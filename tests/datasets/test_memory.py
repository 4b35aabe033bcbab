"""What is kept in memory stays below the limit and is read once."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
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
    numbers = (5 + 2 + 7) * 4 * (2 + 2 + 3)  # state, action, outcomes
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
