"""Bounds on what a data set may claim, so that a damaged file cannot take all memory.

A reader checks what a file declares before it reads: a header of a few bytes can claim any shape,
and a few kilobytes of compressed zeros unpack to gigabytes. With these bounds, opening a small
damaged file and reading an episode of it stays below `MEMORY_BYTES` above what Python and the
libraries take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MEMORY_BYTES = 2**30  # the stated bound
MAX_EPISODES = 10**6  # of one data set
MAX_STEPS = 10**7  # of one episode: nine hours at 300 Hz
MAX_IMAGE_BYTES = 2**26  # one image: 4096 x 5461 pixels
MAX_CHUNK_BYTES = 2**28  # of a compressed array: what must be unpacked to read one value
MAX_VECTOR_BYTES = 2**28  # one vector or action of one whole episode


def check_images(where: str, shape: Sequence[int], itemsize: int = 1) -> None:
    """Raise ValueError if images, (T, H, W, C), are more than a robot's could be.

    Args:
        where: File, episode and key, for the message.
        shape: Declared shape; only its last three entries and the length are looked at.
        itemsize: Bytes of a value.
    """
    size = math.prod(shape[1:]) * itemsize
    if shape[0] > MAX_STEPS or size > MAX_IMAGE_BYTES:
        raise ValueError(
            f"{where} claims {shape[0]} images of {size} bytes (shape {tuple(shape)}); allowed are "
            f"{MAX_STEPS} of {MAX_IMAGE_BYTES}: the file is damaged, or its images must be resized"
        )


def check_numbers(where: str, shape: Sequence[int], itemsize: int) -> None:
    """Raise ValueError if the numbers of an episode, (T, ...), are more than fit in memory.

    Args:
        where: File, episode and key, for the message.
        shape: Declared shape.
        itemsize: Bytes of a value.
    """
    size = math.prod(shape) * itemsize
    if (shape and shape[0] > MAX_STEPS) or size > MAX_VECTOR_BYTES:
        raise ValueError(
            f"{where} claims shape {tuple(shape)}, {size} bytes; allowed are {MAX_STEPS} steps and "
            f"{MAX_VECTOR_BYTES} bytes an episode: the file is damaged, or no vector"
        )


def check_chunk(where: str, shape: Sequence[int], itemsize: int) -> None:
    """Raise ValueError if a chunk of a compressed array unpacks to more than fits in memory.

    Args:
        where: File and array, for the message.
        shape: Of a chunk.
        itemsize: Bytes of a value.
    """
    size = math.prod(shape) * itemsize
    if size > MAX_CHUNK_BYTES:
        raise ValueError(
            f"{where} is stored in chunks of {size} bytes (shape {tuple(shape)}); allowed are "
            f"{MAX_CHUNK_BYTES}: the file is damaged, or must be written in smaller chunks"
        )


def check_episodes(where: str, count: int) -> None:
    """Raise ValueError if a data set claims more episodes than anybody records."""
    if count > MAX_EPISODES:
        raise ValueError(f"{where} claims {count} episodes; allowed are {MAX_EPISODES}")
