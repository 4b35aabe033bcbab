"""Scores of probabilities: against a loop over pairs, and beside the base rate."""

from __future__ import annotations

import numpy as np
import pytest

from scd_wm.evaluation.judging import auroc, judge

RANDOM = np.random.default_rng(0)
PROBABILITY = RANDOM.integers(0, 8, 60) / 8  # with ties
HAPPENED = (RANDOM.random(60) < PROBABILITY).astype(float)


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    won, lost = PROBABILITY[HAPPENED == 1], PROBABILITY[HAPPENED == 0]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in won for b in lost]
    assert auroc(PROBABILITY, HAPPENED) == pytest.approx(np.mean(pairs))


def test_the_weight_of_a_frame_is_how_often_it_counts() -> None:
    counts = RANDOM.integers(0, 3, 60)
    repeated = auroc(np.repeat(PROBABILITY, counts), np.repeat(HAPPENED, counts))
    assert auroc(PROBABILITY, HAPPENED, counts.astype(float)) == pytest.approx(repeated)


def test_scores_stand_beside_those_of_the_base_rate_and_inside_their_intervals() -> None:
    found = judge(PROBABILITY, HAPPENED, np.arange(60) // 5, seed=0)
    assert found.base_rate == pytest.approx(HAPPENED.mean())
    assert found.brier.value == pytest.approx(((PROBABILITY - HAPPENED) ** 2).mean())
    assert found.accuracy.value == pytest.approx(((PROBABILITY > 0.5) == HAPPENED).mean())
    for score in (found.mean_probability, found.brier, found.auroc, found.accuracy):
        assert score.low < score.value < score.high
    assert (
        f"of the base rate {found.base_rate * (1 - found.base_rate):.4g}"
        in dict(found.rows())["Brier score"]
    )
    assert found.to_json()["auroc"]["value"] == found.auroc.value


def test_where_nothing_happened_there_is_no_area() -> None:
    found = judge([0.1, 0.2, 0.4], [0, 0, 0], [0, 1, 2], seed=0)
    assert np.isnan([found.auroc.value, found.auroc.low, found.auroc.high]).all()
    assert found.brier.value == pytest.approx(0.07)


def test_of_a_single_episode_the_frames_are_drawn() -> None:
    found = judge(PROBABILITY, HAPPENED, np.zeros(60), seed=0)
    for score in (found.mean_probability, found.brier, found.auroc, found.accuracy):
        assert score.low < score.value < score.high
