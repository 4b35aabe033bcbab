import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation import metrics
from scd_wm.evaluation.bootstrap import bootstrap_mean
from scd_wm.evaluation.evaluate import EvaluationConfig, evaluate, plan_evaluation
from scd_wm.evaluation.null_models import Imagine
from scd_wm.evaluation.result import (
    COPY_LAST,
    OTHER_CLIP,
    REAL,
    SHUFFLED,
    WORLD_MODEL,
    ZERO,
    Evaluation,
    short_table,
)
from scd_wm.evaluation.scores import Scorer, default_position_vectors
from scd_wm.evaluation.summarise import constant_scores
from scd_wm.imagination import Frames
from scd_wm.spec import CameraSpec, Spec, VectorSpec
from tests.evaluation.moving_disc import BLUE, SPEC, MovingDisc, draw, noisy, outcome_of, perfect

CONFIG = EvaluationConfig(
    num_clips=12, history=2, horizons=(1, 4, 8), batch_size=5, num_resamples=200
)


def run(imagine: Imagine, config: EvaluationConfig = CONFIG, seed: int = 0) -> Evaluation:
    source = MovingDisc((20,) * 6, seed)
    colours = {"disc": BLUE}
    return evaluate(imagine, source, SPEC, config, tracked_colours=colours, progress=False)


def test_a_perfect_model_has_no_error_and_beats_every_null_model() -> None:
    result = run(perfect)
    assert result.mean("psnr/top", 8) == metrics.PSNR_CAP_DB
    assert result.mean("ssim/top", 8) == pytest.approx(1, abs=1e-5)
    assert result.mean("found/top/disc", 8) == 1
    for name in ("position_px/top/disc", "position/disc_pos", "rmse/disc_pos", "mae/disc_pos"):
        assert result.mean(name, 8) == pytest.approx(0, abs=1e-4)
    for metric in result.metrics.values():
        for null in metric.differences.keys() & {COPY_LAST, SHUFFLED, ZERO}:
            assert metric.verdict(null, 8) in ("better", "open")
    assert result.metrics["psnr/top"].verdict(COPY_LAST, 8) == "better"
    assert result.metrics["position_px/top/disc"].verdict(SHUFFLED, 8) == "better"
    assert result.metrics["brier/success"].verdict("best_constant", 8) == "better"


def test_copy_last_equals_a_computation_by_hand() -> None:
    source, result = MovingDisc((20,) * 6), run(perfect)
    errors, squares = [], []
    for episode, start in result.clips:
        position = source.positions[int(episode[-1])]
        last, future = position[start + 1], position[start + 1 + 4]
        errors.append((future - last).norm().item())
        difference = draw(future).double() - draw(last).double()
        squares.append(10 * np.log10(255**2 / difference.square().mean().item()))
    assert result.mean("position/disc_pos", 4, COPY_LAST) == pytest.approx(np.mean(errors))
    assert result.mean("psnr/top", 4, COPY_LAST) == pytest.approx(np.mean(squares))


def test_the_moving_region_is_what_changed_since_the_last_frame_given() -> None:
    source, result = MovingDisc((20,) * 6), run(perfect)
    values = []
    for episode, start in result.clips:
        position = source.positions[int(episode[-1])]
        last, future = draw(position[start + 1])[None], draw(position[start + 1 + 4])[None, None]
        mask = metrics.moving_region(future, last)
        values.append(metrics.psnr(last[:, None], future, mask).item())
    assert np.isfinite(values).all()
    assert result.mean("moving_psnr/top", 4, COPY_LAST) == pytest.approx(np.mean(values))


def test_shuffled_actions_are_those_of_the_giver() -> None:
    plan = plan_evaluation(MovingDisc((20,) * 6), CONFIG)
    source, seen = MovingDisc((20,) * 6), []

    def spy(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
        seen.append(actions)
        return perfect(history, actions, seeds)

    run(spy)
    own, borrowed = torch.cat(seen[0::3]), torch.cat(seen[1::3])
    for place, actions in zip(plan.places, own, strict=True):
        first = place.start + CONFIG.history - 1
        assert actions.equal(source.actions[place.episode][first : first + 8])
    rows = [int((own == b).all(dim=2).all(dim=1).nonzero().item()) for b in borrowed]
    assert sorted(rows) == list(range(12))
    assert all(plan.episodes[i] != plan.episodes[j] for i, j in enumerate(rows))


def test_the_zero_action_is_a_null_model_of_its_own() -> None:
    result, source = run(perfect), MovingDisc((20,) * 6)
    away = []
    for episode, start in result.clips:  # under no action the disc stays
        position = source.positions[int(episode[-1])]
        away.append((position[start + 1 + 8] - position[start + 1]).norm().item())
    assert result.mean("position/disc_pos", 8, ZERO) == pytest.approx(np.mean(away), rel=1e-5)
    assert result.metrics["position/disc_pos"].verdict(ZERO, 8) == "better"
    assert result.metrics["position/disc_pos"].differences[ZERO].mean[7] < 0


def test_a_perfect_model_reads_like_real_frames_and_one_that_ignores_actions_does_not() -> None:
    ignorant = run(lambda history, actions, seeds: perfect(history, 0 * actions, seeds))
    own = run(perfect).fidelity
    for source in ("vectors", "images"):
        models = own.inverse_dynamics[source]
        np.testing.assert_allclose(models[WORLD_MODEL].mean, models[REAL].mean)
        ignored = ignorant.fidelity.inverse_dynamics[source]
        np.testing.assert_allclose(ignored[WORLD_MODEL].mean, ignored[SHUFFLED].mean)
    vectors = own.inverse_dynamics["vectors"]
    assert vectors[REAL].mean.min() > 0.99
    assert vectors[SHUFFLED].mean.max() < 0.5
    np.testing.assert_allclose(own.reward[WORLD_MODEL].mean, 1, atol=1e-6)
    (success,) = own.calibration
    assert success.error == pytest.approx(0, abs=1e-6)
    assert set(own.left_out) == {"ST-LPIPS and the Frechet distance on its features", "FVD"}


def test_pixels_that_disagree_with_the_vector_are_noticed() -> None:
    def apart(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
        frames = perfect(history, actions, seeds)
        return Frames({"top": draw(frames.vectors["disc_pos"] + 4)}, frames.vectors, frames.outcome)

    name = "pixels_against/disc_pos"
    agree, differ = run(perfect), run(apart)
    assert agree.mean(name, 8) == pytest.approx(agree.mean(name, 8, REAL))
    assert differ.mean(name, 8) > agree.mean(name, 8) + 2
    assert agree.mean(name, 8, OTHER_CLIP) > agree.mean(name, 8)


def test_numbers_do_not_depend_on_batching() -> None:
    one, many = (
        run(noisy, replace(CONFIG, batch_size=1)),
        run(noisy, replace(CONFIG, batch_size=64)),
    )
    for name, metric in one.metrics.items():
        for model, interval in metric.models.items():
            np.testing.assert_allclose(
                interval.mean, many.metrics[name].models[model].mean, rtol=1e-4
            )


def test_the_paired_interval_is_that_of_the_differences() -> None:
    plan = plan_evaluation(MovingDisc((20,) * 6), CONFIG)
    source, result = MovingDisc((20,) * 6), run(perfect)
    copied = []
    for place in plan.places:
        position = source.positions[place.episode][place.start + 1 :][:9]
        copied.append((position[1:] - position[:1]).norm(dim=-1).numpy())
    groups = [p.episode for p in plan.places]
    expected = bootstrap_mean(-np.stack(copied), groups, seed=0, num_resamples=200)
    difference = result.metrics["position/disc_pos"].differences[COPY_LAST]
    np.testing.assert_allclose(difference.low, expected.low, rtol=1e-5)
    np.testing.assert_allclose(difference.high, expected.high, rtol=1e-5)


def test_a_model_in_which_the_disc_fades_is_caught_by_the_share_found() -> None:
    def fading(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
        frames = perfect(history, actions, seeds)
        images = frames.images["top"].clone()
        images[:, 4:] = 255
        return Frames({"top": images}, frames.vectors, frames.outcome)

    result = run(fading)
    found = result.metrics["found/top/disc"].models[WORLD_MODEL].mean
    assert found.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    error = result.metrics["position_px/top/disc"].models[WORLD_MODEL]
    assert error.count.tolist() == [12] * 8  # where it was last seen counts
    source = MovingDisc((20,) * 6)
    gone = []
    for episode, start in result.clips:
        position = source.positions[int(episode[-1])]
        gone.append((position[start + 1 + 8] - position[start + 1 + 4]).norm().item())
    assert error.mean[:4].max() < 1e-4
    assert error.mean[7] == pytest.approx(np.mean(gone), abs=0.1)


def test_clips_in_which_nothing_moves_leave_the_moving_region() -> None:
    source = MovingDisc((20,) * 6)
    for episode in range(3):
        source.actions[episode].zero_()
        source.positions[episode][:] = source.positions[episode][0].clone()
    result = evaluate(noisy, source, SPEC, CONFIG, progress=False)
    assert result.metrics["moving_psnr/top"].models[WORLD_MODEL].count[7] == 6
    assert result.metrics["psnr/top"].models[WORLD_MODEL].count[7] == 12


def test_frames_without_a_valid_entry_do_not_count() -> None:
    clip = MovingDisc((20,)).clip(0, 0, 6)
    clip.valid["disc_pos"][4] = False
    batch = clip.map(lambda x: x[None])
    scorer = Scorer(spec=SPEC, position_vectors={"disc_pos": 2})
    frames = perfect(batch.frames(0, 2), batch.actions[:, 1:], torch.zeros(1))
    scores = scorer.score(frames, batch)
    assert scores["rmse/disc_pos"].isnan().tolist() == [[False, False, True, False]]
    assert not scores["psnr/top"].isnan().any()


def test_the_best_constant_is_the_base_rate_and_the_median() -> None:
    real = {
        "success": np.array([[0.0, 1.0, 1.0, np.nan]]),
        "reward": np.array([[0.0, 1.0, 5.0, 7.0]]),
    }
    scores = constant_scores(real)
    expected = [4 / 9, 1 / 9, 1 / 9, np.nan]
    np.testing.assert_allclose(scores["brier/success"][0], expected)
    np.testing.assert_allclose(scores["reward_error"][0], [3, 2, 2, 4])


def test_copying_an_outcome_that_an_episode_has_not_yet_is_not_scored() -> None:
    source = MovingDisc((10,) * 3)
    config = replace(CONFIG, history=1, horizons=(9,), num_clips=3)
    result = evaluate(perfect, source, SPEC, config, progress=False)  # all clips start at frame 0
    assert result.metrics["reward_error"].models[COPY_LAST].count[8] == 0
    assert result.metrics["reward_error"].models[WORLD_MODEL].count[8] == 3


def test_the_result_is_json_and_has_a_table() -> None:
    result = run(noisy)
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["num_clips"] == 12
    assert data["num_episodes"] == 6
    psnr = data["metrics"]["psnr/top"]
    assert psnr["models"][WORLD_MODEL]["8"]["mean"] == pytest.approx(result.mean("psnr/top", 8))
    assert psnr["world_model_minus"][COPY_LAST]["8"]["low"] > 0
    table = short_table(result)
    assert "disc: position error [px]" in table
    assert "h = 8" in table
    assert max(len(line) for line in table.splitlines()) < 120


def test_the_table_names_the_horizons_that_most_episodes_do_not_reach() -> None:
    """All horizons are of the same clips: of episodes that reach the longest that is left."""
    source = MovingDisc((12, 12, 140, 140, 140))
    config = replace(CONFIG, horizons=(1, 128, 256), num_clips=4)
    result = evaluate(perfect, source, SPEC, config, progress=False)
    assert (result.horizons, result.horizons_left_out) == ((1, 128), (256,))
    assert {name for name, _ in result.clips} == {e.name for e in source.episodes[2:]}
    assert result.metrics["psnr/top"].models[WORLD_MODEL].count[127] == 4
    assert "left out: horizons 256 (fewer than half of the episodes" in short_table(result)


def test_a_single_clip_has_no_shuffled_actions() -> None:
    result = run(perfect, replace(CONFIG, num_clips=1))
    assert SHUFFLED not in result.metrics["psnr/top"].models
    assert "the one episode" in result.interval_text


def test_unknown_names_are_refused_with_those_there_are() -> None:
    result = run(perfect)
    with pytest.raises(KeyError, match=r"no metric 'psnr/side'.*psnr/top"):
        result.mean("psnr/side", 1)
    with pytest.raises(KeyError, match="no horizon 9; there are 1 to 8"):
        result.mean("psnr/top", 9)
    with pytest.raises(KeyError, match=r"no vector 'x'.*disc_pos"):
        Scorer(spec=SPEC, position_vectors={"x": 2})
    with pytest.raises(ValueError, match="has 2 values"):
        Scorer(spec=SPEC, position_vectors={"disc_pos": 3})


def test_positions_are_guessed_by_name() -> None:
    dims = {"eef_pos": 3, "joint_pos": 3, "arm_pos": 7, "block_pose": 3, "hand_pose": 7, "qpos": 2}
    vectors = {name: VectorSpec.unit(dim) for name, dim in dims.items()}
    spec = Spec(vectors=vectors, action=VectorSpec.unit(1))
    assert default_position_vectors(spec) == {"eef_pos": 3, "block_pose": 2, "hand_pose": 3}


def test_latents_have_no_image_metrics() -> None:
    camera = CameraSpec(height=8, width=8, channels=32, kind="latent")
    assert Scorer(spec=Spec(cameras={"top": camera}, action=VectorSpec.unit(1))).cameras == ()


def test_outcomes_of_the_disc_world_are_alternating_enough_to_test_with() -> None:
    success = outcome_of(torch.cat(MovingDisc((20,) * 6).positions))["success"]
    assert 0.1 < success.mean() < 0.9
