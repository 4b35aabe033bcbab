"""The harness of every measurement: contestants take turns in one process.

A turn is timed in wall seconds and in CPU seconds of the process: the first is what a user waits,
the second is what is left of it on a machine that others use too.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from scd_wm.progress import progress_bar


@dataclass(frozen=True)
class Contestant:
    """Something to time."""

    name: str
    run: Callable[[], object]  # one unit of work


@dataclass(frozen=True)
class Turn:
    """Seconds of one unit of work, a mean over the calls of a turn."""

    wall_s: float
    cpu_s: float  # of all threads of this process


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, with the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise numbers, one at least."""
        return cls(statistics.median(values), min(values), max(values))


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    turn_s: float,
    *,
    warm_up_s: float = 0.0,
    device: str = "cpu",
    what: str = "timing",
) -> list[list[Turn]]:
    """Time contestants in turns: A, B, C, A, B, C, ...

    Args:
        contestants: What to time.
        rounds: Turns of each.
        turn_s: Wall seconds of a turn, at least; the last call ends after them.
        warm_up_s: The same of a first turn that is not counted, and of one call at least.
        device: Where the work is done.
        what: Of the progress bar.

    Returns:
        For each contestant, its turns in order.
    """
    turns: list[list[Turn]] = [[] for _ in contestants]
    with progress_bar(total=(rounds + 1) * len(contestants), desc=what, unit="turn") as bar:
        for index in range(rounds + 1):
            gc.collect()  # what is left of the round before falls on nobody
            for contestant, counted in zip(contestants, turns, strict=True):
                bar.set_postfix_str(contestant.name, refresh=False)
                turn = one_turn(contestant, turn_s if index else warm_up_s, device)
                if index:
                    counted.append(turn)
                bar.update()
    return turns


def one_turn(contestant: Contestant, turn_s: float, device: str = "cpu") -> Turn:
    """Call a contestant until `turn_s` wall seconds are over, once at least."""
    synchronize(device)
    with without_gc():
        count, cpu, wall = 0, time.process_time(), time.perf_counter()
        while count == 0 or time.perf_counter() - wall < turn_s:
            contestant.run()
            synchronize(device)
            count += 1
        end_wall, end_cpu = time.perf_counter(), time.process_time()
    return Turn((end_wall - wall) / count, (end_cpu - cpu) / count)


def synchronize(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(turn: Turn, device: str) -> float:
    """Return the seconds that speeds and ratios are made of: of the CPU where it does the work."""
    return turn.cpu_s if torch.device(device).type == "cpu" else turn.wall_s


def ratio(turns: Sequence[float], reference: Sequence[float]) -> Spread:
    """Return how many times faster the turns are than a reference's, a ratio a round."""
    return Spread.of([other / own for own, other in zip(turns, reference, strict=True)])


@contextmanager
def without_gc() -> Iterator[None]:
    """Keep Python from collecting garbage, which would fall on whoever has the turn."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
