from itertools import pairwise

import pytest

from scd_wm.evaluation.clips import choose_clips, fitting_horizons
from tests.evaluation.moving_disc import MovingDisc


def test_clips_are_spread_evenly_and_none_repeats() -> None:
    places = choose_clips(MovingDisc((30, 30, 30, 30)), 10, 16, seed=0)
    assert len(set(places)) == 16
    for episode in range(4):
        starts = sorted(p.start for p in places if p.episode == episode)
        assert len(starts) == 4
        # 21 windows in four parts
        assert all(5 * i <= start < 5 * i + 6 for i, start in enumerate(starts))


def test_neighbours_come_from_different_episodes() -> None:
    places = choose_clips(MovingDisc((30, 30, 30)), 10, 12, seed=0)
    assert all(a.episode != b.episode for a, b in pairwise(places))


def test_short_episodes_give_fewer_and_too_short_ones_none() -> None:
    places = choose_clips(MovingDisc((11, 9, 40)), 10, 12, seed=0)
    assert [sum(p.episode == e for p in places) for e in range(3)] == [2, 0, 10]


def test_all_windows_are_given_when_more_are_wanted() -> None:
    places = choose_clips(MovingDisc((12, 11)), 10, 100, seed=0)
    assert sorted((p.episode, p.start) for p in places) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_the_seed_decides_the_choice() -> None:
    source = MovingDisc((60,) * 5)
    assert choose_clips(source, 10, 8, seed=3) == choose_clips(source, 10, 8, seed=3)
    assert choose_clips(source, 10, 8, seed=3) != choose_clips(source, 10, 8, seed=4)


def test_horizons_fit_half_of_the_episodes() -> None:
    source = MovingDisc((40, 12, 12, 12))
    assert fitting_horizons(source, 4, (16, 1, 8, 32)) == ((1, 8), (16, 32))
    assert fitting_horizons(MovingDisc((40, 4, 4)), 4, (1, 8)) == ((1,), (8,))


def test_episodes_that_are_all_too_short_are_refused_with_their_length() -> None:
    with pytest.raises(ValueError, match=r"the 5 frames that 4 of history and horizon 1.*has 4"):
        fitting_horizons(MovingDisc((4, 3)), 4, (1, 8))
    with pytest.raises(ValueError, match="1 or more"):
        fitting_horizons(MovingDisc((40,)), 0, (1,))
    with pytest.raises(ValueError, match="no episode has 50 frames"):
        choose_clips(MovingDisc((40,)), 50, 1, seed=0)
    with pytest.raises(ValueError, match="clips must be 1 or more"):
        choose_clips(MovingDisc((40,)), 5, 0, seed=0)
