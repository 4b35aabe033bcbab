"""What the loss counts: outcomes in their places, valid entries only, the mean per modality."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange

from scd_wm import testing
from scd_wm.imagination import decode
from scd_wm.model import losses


def test_an_outcome_belongs_to_the_action_that_leads_to_its_frame() -> None:
    """Logits made from frames 1 to T - 1 lose nothing, and decode to the outcomes."""
    model = testing.model()
    spec, clip = model.spec, testing.clip(model.spec, 3, 4)
    reward = (clip.outcome["reward"] - spec.reward_mean) / spec.reward_std
    binary = [100 * (2 * clip.outcome[name] - 1) for name in ("terminated", "success")]
    logits = torch.stack([reward, *binary], dim=-1)[:, 1:]  # (B, T - 1, 3)
    flat = rearrange(logits, "b t o -> (b t) o")
    every = torch.ones(len(flat), dtype=torch.bool)
    parts = losses.outcome_losses(spec, flat, clip, every)
    assert list(parts) == ["reward", "terminated", "success"]
    for part in parts.values():
        torch.testing.assert_close(part, torch.zeros(()))
    outcome = decode(model, model.layout.pack(clip)[:, 1:], logits).outcome
    for name, value in outcome.items():
        torch.testing.assert_close(value, clip.outcome[name][:, 1:])
    wrong = losses.outcome_losses(spec, flat.roll(1, 0), clip, every)
    assert all(part > 0.1 for part in wrong.values())


def test_a_modality_counts_once_however_many_values_it_has() -> None:
    model = testing.model()
    num_values = model.layout.num_values
    error = torch.ones(5, num_values)
    proprio = model.layout.segments[-1].values
    error[:, proprio] = 3.0
    valid = torch.ones(5, num_values, dtype=torch.bool)
    valid[2:, proprio] = False
    error[2:, proprio] = 1e9
    parts = losses.frame_losses(model.layout, error, valid)
    assert {name: float(part) for name, part in parts.items()} == {"image": 1.0, "vector": 3.0}
    config = testing.config(image_weight=2.0, vector_weight=5.0)
    assert losses.total(parts, config) == 17.0
    assert losses.masked_means([(error, torch.zeros_like(valid))], None) == [0]


@pytest.mark.parametrize("changes", [{}, {"self_rollouts": 2, "draws": 2}])
def test_nan_where_nothing_is_valid_reaches_neither_the_loss_nor_a_gradient(
    changes: dict[str, Any],
) -> None:
    model = testing.model(**changes)
    clip = testing.clip(model.spec, 4, 4)
    valid = {name: v.clone() for name, v in clip.valid.items()}
    action_valid = clip.action_valid.clone()
    for v in valid.values():
        v[:, 0] = False  # the start frame
    action_valid[:, 0] = False
    valid["proprio"][:, 3] = False
    valid["reward"][:, 2] = False
    valid["success"][:, 3] = False
    nan = float("nan")
    broken = replace(
        clip,
        vectors={n: v.masked_fill(~valid[n][..., None], nan) for n, v in clip.vectors.items()},
        outcome={n: v.masked_fill(~valid[n], nan) for n, v in clip.outcome.items()},
        actions=clip.actions.masked_fill(~action_valid[..., None], nan),
        valid=valid,
        action_valid=action_valid,
    )
    losses_ = []
    for c in (broken, replace(clip, valid=valid, action_valid=action_valid)):
        loss, _ = model(c, torch.arange(4))
        losses_.append(loss)
    assert torch.equal(losses_[0], losses_[1])
    losses_[0].backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert [n for n, grad in grads.items() if not grad.isfinite().all()] == []


@pytest.mark.parametrize("prediction", ["sample", "velocity"])
def test_a_frame_of_which_only_the_outcome_is_known_looks_like_the_frame_before(
    prediction: str,
) -> None:
    """Else the decoder would know such a frame, often the only success, by its zeros."""
    model = testing.model(prediction=prediction, full_noise_fraction=0.0)
    clip = testing.clip(model.spec, 3, 4)
    valid = {name: v.clone() for name, v in clip.valid.items()}
    for name in model.spec.observation_names:
        valid[name][:, 3] = False
    still = {name: v.clone() for name, v in {**clip.images, **clip.vectors}.items()}
    for value in still.values():
        value[:, 3] = value[:, 2]
    unseen, seeds = replace(clip, valid=valid), torch.arange(3)
    copied = replace(clip, images={"top": still["top"]}, vectors={"proprio": still["proprio"]})
    known, expected = model(unseen, seeds)[1], model(copied, seeds)[1]
    for name in model.spec.outcomes:
        torch.testing.assert_close(known[name], expected[name])
    assert not torch.equal(known["image"], expected["image"])  # it is no target itself


def test_a_world_without_outcomes_has_no_query_and_no_outcome() -> None:
    model = testing.model(testing.state_spec())
    assert model.decoder.query.shape == (0, 32)
    loss, parts = model(testing.clip(model.spec, 2, 3), torch.arange(2))
    assert list(parts) == ["vector"]
    loss.backward()
    assert model.encoder.action.null.grad is not None
    frames = decode(model, torch.zeros(2, model.layout.num_values), torch.zeros(2, 0))
    assert frames.outcome == {}
