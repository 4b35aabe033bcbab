"""Contestants take turns, and what is made of their times is right."""

import gc
import time

import pytest

from scd_wm.bench.timing import Contestant, Spread, Turn, one_turn, ratio, seconds, take_turns


def test_contestants_take_turns_and_the_first_is_not_counted() -> None:
    calls: list[str] = []
    contestants = [Contestant(name, lambda name=name: calls.append(name)) for name in "abc"]  # type: ignore[misc]  # bound now
    turns = take_turns(contestants, rounds=3, turn_s=0.0)
    assert "".join(calls) == "abc" * 4
    assert [len(each) for each in turns] == [3, 3, 3]


def test_a_turn_lasts_as_long_as_asked_and_gives_the_mean_of_a_call() -> None:
    count = 0

    def sleep() -> None:
        nonlocal count
        count += 1
        time.sleep(0.01)

    start = time.perf_counter()
    turn = one_turn(Contestant("sleeper", sleep), 0.05)
    whole = time.perf_counter() - start
    assert whole >= 0.05
    assert count > 1
    assert 0.01 <= turn.wall_s <= whole / count
    assert turn.cpu_s < turn.wall_s / 2  # it sleeps


def test_cpu_seconds_are_those_of_work_in_one_call() -> None:
    turn = one_turn(Contestant("worker", lambda: sum(range(200_000))), 0.05)
    assert 0 < turn.cpu_s <= 1.1 * turn.wall_s


def test_no_garbage_is_collected_in_a_turn_and_it_is_after() -> None:
    seen = []
    one_turn(Contestant("looker", lambda: seen.append(gc.isenabled())), 0.0)
    assert seen == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        one_turn(Contestant("looker", lambda: seen.append(gc.isenabled())), 0.0)
        assert not gc.isenabled()  # as it was
    finally:
        gc.enable()


def test_garbage_is_collected_again_after_a_turn_that_failed() -> None:
    with pytest.raises(ZeroDivisionError):
        one_turn(Contestant("wrong", lambda: 1 / 0), 0.0)
    assert gc.isenabled()


def test_a_spread_is_the_median_with_the_least_and_the_most() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0)
    assert Spread.of([4.0, 1.0, 2.0, 8.0]) == Spread(3.0, 1.0, 8.0)


def test_a_ratio_is_taken_in_each_round() -> None:
    # The machine was half as fast in the second round: its ratio is not touched by that.
    assert ratio([1.0, 2.0, 1.0], [3.0, 6.0, 4.0]) == Spread(3.0, 3.0, 4.0)


def test_speeds_are_by_cpu_seconds_on_a_cpu_and_by_wall_seconds_on_a_gpu() -> None:
    turn = Turn(wall_s=1.0, cpu_s=2.0)
    assert seconds(turn, "cpu") == 2.0
    assert seconds(turn, "cuda") == 1.0
