"""Uncertainty: calibrated on data that was held out, near 1 off the data, the same however run."""

from __future__ import annotations

from operator import itemgetter

import pytest
import torch
from torch import Tensor

from scd_wm import imagination, testing
from scd_wm.clip import Clip
from scd_wm.imagination import begin, rollout, step
from scd_wm.model import engine
from scd_wm.model.familiarity import Familiarity, fit, pool, whiten
from scd_wm.model.world_model import WorldModel
from tests.familiar import calibrated

KINDS = ["prefix", "token_concat", "entangled"]


def world(kind: str) -> WorldModel:
    if kind == "entangled":
        return testing.entangled().eval()
    return testing.model(context_mode=kind).eval()


def gaussian(count: int, seed: int, width: int = 12) -> Tensor:
    """Return features of very unequal variances that lean on each other."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return torch.randn(count, width, generator=random) * torch.logspace(-2, 1, width) @ mix + 3


def fitted(calibration: int = 1000) -> Familiarity:
    return fit(gaussian(2000, 0), gaussian(calibration, 1))


def test_uncertainty_of_the_same_kind_of_data_is_uniform() -> None:
    """Kolmogorov and Smirnov: the greatest gap of 1,000 beside 1,000 is below 0.073 (p = 0.01)."""
    familiarity = fitted()
    u = familiarity.uncertainty(familiarity.distance(gaussian(1000, 2))).sort().values
    assert (u - torch.linspace(0, 1, 1000)).abs().max() < 0.073
    other = familiarity.uncertainty(familiarity.distance(1.5 * gaussian(1000, 2))).sort().values
    assert (other - torch.linspace(0, 1, 1000)).abs().max() > 0.2  # and the test can tell


def test_a_calibration_frame_has_its_own_rank() -> None:
    familiarity = fitted(calibration=100)
    u = familiarity.uncertainty(familiarity.distances)
    torch.testing.assert_close(u, torch.arange(1, 101) / 101, atol=1e-5, rtol=0)


def test_off_the_data_it_is_near_one_and_farther_is_more() -> None:
    familiarity = fitted()
    away = gaussian(50, 3) + 200
    assert (familiarity.uncertainty(familiarity.distance(away)) > 0.99).all()
    farthest = familiarity.distances[-1]
    beyond = familiarity.uncertainty(farthest * torch.tensor([1.0, 1.02, 1.05, 1.1, 1.2, 100.0]))
    assert (beyond.diff() > 0)[:3].all()
    assert (beyond <= 1).all()
    assert beyond[0] == pytest.approx(1000 / 1001, abs=1e-6)
    near = familiarity.uncertainty(torch.zeros(1))
    assert near.item() == 0


def test_a_small_step_in_a_direction_that_never_varies_counts_more_than_a_usual_one() -> None:
    """What whitening is for: distance is in the deviations of the data."""
    familiarity = fitted()
    _, basis = torch.linalg.eigh(torch.cov(gaussian(2000, 0).T))
    usual, never = (gaussian(200, 4) + 3 * basis[:, i] for i in (-1, 2))
    means = [familiarity.uncertainty(familiarity.distance(x)).mean() for x in (usual, never)]
    assert means[0] < 0.8 < 0.99 < means[1]


def test_whitened_features_have_unit_variance() -> None:
    random = torch.Generator().manual_seed(5)
    features = torch.randn(20_000, 4, generator=random)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=random))
    features = features * torch.tensor([1.0, 2.0, 3.0, 0.5]) @ turn + 3
    centre, whitening = whiten(features)
    covariance = torch.cov(((features - centre) @ whitening).T)
    torch.testing.assert_close(covariance, torch.eye(4), atol=0.02, rtol=0)


def test_the_distance_is_that_of_mahalanobis() -> None:
    """With many samples the covariance is hardly shrunk."""
    data, rows = gaussian(50_000, 6)[:, :3], gaussian(7, 7)[:, :3]
    familiarity = fit(data, data[:100])
    apart = (rows - data.mean(0)).double()
    slow = [(x @ torch.linalg.inv(torch.cov(data.T.double())) @ x).sqrt() for x in apart]
    torch.testing.assert_close(
        familiarity.distance(rows), torch.stack(slow).float(), atol=0, rtol=0.02
    )


def test_pooling_sees_the_whole_and_the_one_strange_token() -> None:
    context = torch.zeros(2, 5, 3)
    context[1, 2, 0] = 5.0
    assert pool(context).tolist() == [[0] * 6, [1, 0, 0, 5, 0, 0]]


def test_constant_features_are_no_failure() -> None:
    features = torch.ones(50, 3)
    familiarity = fit(features, features)
    assert torch.isfinite(familiarity.distance(features)).all()
    assert (familiarity.uncertainty(familiarity.distance(features + 5)) > 0.9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_reading_and_imagining_give_the_same_context(kind: str) -> None:
    model = world(kind)
    clip = testing.clip(model.spec, 3, 7)
    every = imagination.contexts(model, clip)
    model.familiarity = lambda context: context  # type: ignore[assignment]  # to see it
    state = begin(model, clip.frames(0, 6))
    seen = step(model, state, clip.actions[:, 5], num_steps=3).uncertainty
    assert seen is not None
    torch.testing.assert_close(seen, every[:, 5], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_depend_on_the_batch_and_a_fork_equals_copies(kind: str) -> None:
    model = calibrated(world(kind)).double()
    history = testing.double(testing.clip(model.spec, 3, 4))
    actions = torch.randn(3, 5, 2, dtype=torch.float64)
    whole = _uncertainty(model, history, actions)
    assert whole.shape == (3, 5)
    assert ((whole > 0) & (whole < 1)).all()
    for row in range(3):
        pick = itemgetter(slice(row, row + 1))
        alone = _uncertainty(model, history.map(pick), pick(actions), row)
        torch.testing.assert_close(alone[0], whole[row], atol=1e-9, rtol=0)
    state = begin(model, history).fork(2, common_noise=True)
    frames = list(imagination.imagine(model, state, actions.repeat_interleave(2, 0)))
    found = imagination.stack(frames).uncertainty
    torch.testing.assert_close(found, whole.repeat_interleave(2, 0), atol=1e-9, rtol=0)


def _uncertainty(model: WorldModel, history: Clip, actions: Tensor, seed: int = 0) -> Tensor:
    seeds = torch.arange(len(actions)) + seed
    found = rollout(model, history, actions, seeds=seeds).uncertainty
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_engines_agree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_WORK", 0)
    model = calibrated(world(kind))
    history, actions = testing.clip(model.spec, 2, 4), torch.randn(2, 4, 2)
    fast = engine.prepare(model, "packed")
    assert fast.familiarity is not None
    assert fast.familiarity.centre.data_ptr() == model.familiarity.centre.data_ptr()  # type: ignore[union-attr]  # it has one
    found, expected = (_uncertainty(m, history, actions) for m in (fast, model))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_it_is_no_part_of_the_weights_and_moves_with_the_model() -> None:
    model = world("prefix")
    names = set(model.state_dict())
    calibrated(model)
    assert set(model.state_dict()) == names
    assert model.familiarity is not None
    assert model.double().familiarity.centre.dtype == torch.float64  # type: ignore[union-attr]  # it has one
    assert list(model.familiarity.parameters()) == []


def test_a_model_that_does_not_know_its_data_says_nothing() -> None:
    model = world("prefix")
    assert rollout(model, testing.clip(model.spec, 1, 2), torch.zeros(1, 2, 2)).uncertainty is None
    with pytest.raises(ValueError, match=r"stop_at needs .*: run scd-wm calibrate RUN"):
        imagination.check_calibrated(model, "stop_at")


def test_data_that_is_too_little_or_damaged_is_refused() -> None:
    many, few = gaussian(50, 0), gaussian(5, 1)
    with pytest.raises(ValueError, match=r"needs 20 contexts .* got 50 and 5"):
        fit(many, few)
    with pytest.raises(ValueError, match="not finite"):
        fit(many, many * torch.nan)
    tensors = fitted().tensors
    with pytest.raises(ValueError, match="familiarity lacks 'centre'"):
        Familiarity({k: v for k, v in tensors.items() if k != "centre"})
    with pytest.raises(ValueError, match="do not fit each other"):
        Familiarity({**tensors, "centre": torch.zeros(3)})
    with pytest.raises(ValueError, match="the clip has 1 frame"):
        imagination.contexts(world("prefix"), testing.clip(testing.image_spec(), 1, 1))
