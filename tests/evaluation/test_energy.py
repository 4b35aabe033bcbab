"""The energy score is proper: nothing scores better than futures as likely as the world's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation.energy import energy, energy_scores
from scd_wm.evaluation.evaluate import EvaluationConfig, evaluate, plan_evaluation
from scd_wm.evaluation.null_models import Imagine
from scd_wm.evaluation.result import COPY_LAST, SHUFFLED, WORLD_MODEL, Evaluation
from scd_wm.evaluation.scores import Points, Scorer
from scd_wm.imagination import Frames
from scd_wm.spec import Spec, VectorSpec
from tests.evaluation.moving_disc import BLUE, SPEC, MovingDisc, draw, perfect

CONFIG = EvaluationConfig(
    num_clips=12, num_futures=3, history=2, horizons=(1, 4, 8), batch_size=5, num_resamples=200
)


def points(values: Tensor, real: Tensor) -> Points:
    return Points(values, real, torch.ones(real.shape[:2], dtype=torch.bool))


def shaken(size: float) -> Imagine:
    """Return a perfect model whose disc is off by so many pixels, in another way at each seed."""

    def imagine(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
        frames = perfect(history, actions, seeds)
        offset = torch.stack(
            [torch.randn(2, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        )
        place = frames.vectors["disc_pos"] + size * offset[:, None]
        return Frames({"top": draw(place)}, {"disc_pos": place}, frames.outcome)

    return imagine


def run(imagine: Imagine, config: EvaluationConfig = CONFIG) -> Evaluation:
    source = MovingDisc((20,) * 6)
    return evaluate(imagine, source, SPEC, config, tracked_colours={"disc": BLUE}, progress=False)


def test_it_is_the_error_less_half_the_distance_of_two_futures() -> None:
    real = torch.zeros(1, 1, 2)
    ahead, above = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 4.0]]])
    score = energy([points(ahead, real), points(above, real)])
    assert score.item() == pytest.approx((3 + 4) / 2 - 5 / 2)
    assert energy([points(ahead, real)] * 2).item() == pytest.approx(3)


@pytest.mark.parametrize("num_futures", [2, 7])
def test_the_world_s_own_chance_scores_best_and_its_mean_does_not(num_futures: int) -> None:
    random = torch.Generator().manual_seed(0)
    real = torch.randn(4_000, 1, 2, generator=random)

    def score(width: float) -> float:
        drawn = width * torch.randn(num_futures, *real.shape, generator=random)
        return energy([points(x, real) for x in drawn]).mean().item()

    scores = {width: score(width) for width in (0.0, 0.5, 1.0, 1.5)}
    assert min(scores, key=scores.__getitem__) == 1.0
    # Of a normal distribution in two dimensions: E|X| and E|X - X'| are Rayleigh's.
    assert scores[0.0] == pytest.approx(np.sqrt(np.pi / 2), rel=0.03)
    assert scores[1.0] == pytest.approx(np.sqrt(np.pi) / 2, rel=0.03)  # for any number of futures


def test_of_a_model_without_chance_it_is_the_position_error() -> None:
    result = run(perfect)
    for score, error in (
        ("energy_px/top/disc", "position_px/top/disc"),
        ("energy/disc_pos", "position/disc_pos"),
    ):
        for model in (WORLD_MODEL, COPY_LAST):
            assert result.mean(score, 8, model) == pytest.approx(result.mean(error, 8, model))
        assert SHUFFLED not in result.metrics[score].models
        assert result.metrics[score].verdict(COPY_LAST, 8) == "better"


def test_futures_of_other_seeds_are_what_lowers_it() -> None:
    result = run(shaken(1.5))
    for score, error in (
        ("energy_px/top/disc", "position_px/top/disc"),
        ("energy/disc_pos", "position/disc_pos"),
    ):
        assert result.mean(score, 4) < 0.8 * result.mean(error, 4)


def test_a_single_future_has_none_and_the_first_of_several_is_the_single_one() -> None:
    one, three = run(shaken(1.5), replace(CONFIG, num_futures=1)), run(shaken(1.5))
    more = set(three.metrics) - set(one.metrics)
    assert more == {"energy_px/top/disc", "energy/disc_pos"}
    for name, metric in one.metrics.items():
        np.testing.assert_array_equal(
            metric.models[WORLD_MODEL].mean, three.metrics[name].models[WORLD_MODEL].mean
        )
    plan = plan_evaluation(MovingDisc((20,) * 6), CONFIG)
    assert len({*plan.seeds.tolist(), *plan.more_seeds.flatten().tolist()}) == 3 * len(plan.seeds)


def test_a_vector_that_is_no_position_counts_as_a_whole() -> None:
    vector = VectorSpec.unit(4)
    spec = Spec(vectors={"joints": vector}, action=VectorSpec.unit(1))
    scorer = Scorer(spec=spec)
    clip = Clip(
        images={},
        vectors={"joints": torch.zeros(1, 2, 4)},
        outcome={},
        actions=torch.zeros(1, 1, 1),
        valid={"joints": torch.tensor([[True, True]])},
        action_valid=torch.ones(1, 1, dtype=torch.bool),
    )
    futures = [Frames({}, {"joints": torch.full((1, 1, 4), value)}, {}) for value in (1.0, 1.0)]
    scores = energy_scores(futures, clip, scorer)
    assert scores["energy/joints"].item() == pytest.approx(
        1
    )  # the RMS error, as there is no chance
    clip.valid["joints"][:] = False
    assert energy_scores(futures, clip, scorer)["energy/joints"].isnan().all()


def test_one_future_is_too_few() -> None:
    with pytest.raises(ValueError, match="2 futures or more, got 1"):
        energy_scores([Frames({}, {}, {})], MovingDisc((20,)).clip(0, 0, 6), Scorer(spec=SPEC))
    with pytest.raises(ValueError, match="num_futures must be 1 or more, got 0"):
        EvaluationConfig(num_futures=0)
