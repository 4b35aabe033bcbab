"""Guidance of the sampler away from what a blurred context predicts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.imagination import begin, sampler_of, step
from scd_wm.model import noise
from scd_wm.model.fed import FedWorldModel
from scd_wm.model.few_steps import FewSteps
from scd_wm.model.flow import Sampler
from scd_wm.model.frames import Frame
from scd_wm.model.guidance import blurred
from scd_wm.model.own_history import own_history
from scd_wm.model.scd import SCDWorldModel
from scd_wm.model.world_model import WorldModel

EVERY_KIND = pytest.mark.parametrize("kind", ["prefix", "token_concat", "fed", "resume"])


def world(kind: str, **changes: Any) -> SCDWorldModel | FedWorldModel:
    """Return a model of states, whose values no range bounds, in float64."""
    spec = testing.state_spec()
    if kind == "fed":
        return testing.fed(spec, context_mode="prefix", resume_layer=0, **changes).double().eval()
    if kind == "resume":
        return testing.fed(spec, **changes).double().eval()
    return testing.model(spec, context_mode=kind, **changes).double().eval()


def imagined(
    model: WorldModel,
    rows: slice,
    horizon: int = 3,
    num_steps: int | None = None,
    guidance: float | None = None,
) -> Tensor:
    """Return the last of some frames imagined of rows of four clips, (B, M)."""
    history = testing.double(testing.clip(model.spec, 4, 3)).map(lambda x: x[rows])
    state = begin(model, history, torch.arange(4)[rows])
    actions = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(4, 2)[rows]
    for _ in range(horizon):
        step(model, state, actions, num_steps, guidance=guidance)
    return state.last


@EVERY_KIND
def test_a_frame_in_one_step_is_a_line_in_g_and_begins_without_guidance(kind: str) -> None:
    found = []
    for g in (None, 1.0, 1.5, 2.0):
        found.append(imagined(world(kind), slice(4), horizon=1, num_steps=1, guidance=g))
    own, one, half, two = found
    assert torch.equal(own, one)
    assert not torch.allclose(one, two, atol=1e-3)
    torch.testing.assert_close(half, (one + two) / 2)


def test_the_line_goes_through_what_the_blurred_context_predicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """x(2) = x(c) + (x(c) - x(c')): the mean of x(2) and x(c') is x(c)."""
    model, contexts = testing.model(testing.state_spec()).double().eval(), []

    def spy(context: Tensor, eps: Tensor, deviation: float) -> Tensor:
        contexts.append((context, blurred(context, eps, deviation)))
        return contexts[-1][1]

    monkeypatch.setattr("scd_wm.model.guidance.blurred", spy)
    packed = torch.randn(2, model.layout.num_values, dtype=torch.float64)
    valid = torch.ones(2, model.layout.num_tokens, dtype=torch.bool)
    action = torch.randn(2, 2, dtype=torch.float64)
    frame = Frame(packed, valid, action, torch.ones(2, dtype=torch.bool))
    eps = torch.randn_like(packed)
    with torch.no_grad():
        two = model.next_frame(frame, model.empty_cache(2), eps, Sampler(1, guidance=2.0))
        each = [
            model.sample(
                model.decoder.context(c, packed, action, frame.action_valid),
                model.base(packed, valid),
                eps,
                Sampler(1),
            )
            for c in contexts[0]
        ]
    torch.testing.assert_close(two.packed, 2 * each[0][0] - each[1][0])
    assert torch.equal(two.logits, each[0][1])  # outcomes are not guided


@EVERY_KIND
@pytest.mark.parametrize("num_steps", [1, 3])
def test_guided_rows_do_not_depend_on_the_batch(kind: str, num_steps: int) -> None:
    model = world(kind, guidance=1.5, num_steps=num_steps)
    together = imagined(model, slice(4))
    for row in range(4):
        alone = imagined(model, slice(row, row + 1))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-9, rtol=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_frame_has_noise_of_its_own_in_any_precision(dtype: torch.dtype) -> None:
    eps = noise.normal(torch.arange(1000), 6, dtype)
    context = torch.tensor([-1.0, 1.0]).expand(1000, 1, 2)
    rows = blurred(context, eps, 0.5).flatten(1).tolist()
    assert len({tuple(row) for row in rows}) == 1000


def test_what_differs_in_the_last_bits_of_float64_has_the_same_noise() -> None:
    eps = torch.randn(3, 6, dtype=torch.float64)
    context = torch.randn(3, 2, 4, dtype=torch.float64)
    assert torch.equal(blurred(context, eps, 0.5), blurred(context, eps * (1 + 1e-15), 0.5))


def test_branches_with_common_noise_differ_by_their_actions_alone() -> None:
    model = world("prefix", guidance=2.0)
    state = begin(model, testing.double(testing.clip(model.spec, 1, 3)))
    for is_common in (True, False):
        forked = state.fork(2, common_noise=is_common)
        step(model, forked, torch.ones(2, 2), 1)
        assert torch.allclose(forked.last[0], forked.last[1], rtol=0, atol=1e-9) == is_common


def test_the_noise_has_its_deviation_and_is_another_for_each_frame() -> None:
    context = torch.randn(3, 16, 64) * torch.tensor([0.1, 1.0, 10.0])[:, None, None] + 5.0
    eps = torch.randn(3, 6)
    added = blurred(context, eps, 0.5) - context
    expected = 0.5 * context.std(-1, correction=0)
    torch.testing.assert_close(added.std((1, 2)), expected.mean(1), rtol=0.1, atol=0.0)
    scaled = added / expected[..., None]
    assert torch.corrcoef(scaled.flatten(1)).fill_diagonal_(0).abs().max() < 0.15
    assert torch.equal(blurred(context[1:2], eps[1:2], 0.5), blurred(context, eps, 0.5)[1:2])


def test_the_deviation_is_that_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(context: Tensor, eps: Tensor, deviation: float) -> Tensor:
        asked.append(deviation)
        return blurred(context, eps, deviation)

    monkeypatch.setattr("scd_wm.model.guidance.blurred", spy)
    for kind in ("prefix", "resume"):
        imagined(world(kind, guidance=2.0, guidance_noise=0.75), slice(1), horizon=1)
    assert asked == [0.75, 0.75]


def test_what_is_learned_does_not_depend_on_guidance() -> None:
    """Self-forcing rolls out without it, or its passes would not be its rollouts."""
    found, losses = [], []
    for g in (1.0, 2.0):
        model, teacher = (world("prefix", self_forcing=2, guidance=g) for _ in range(2))
        model.few_steps = FewSteps(teacher=teacher, num_steps=2, teacher_steps=4)
        clip, seeds = testing.double(testing.clip(model.spec, 2, 6)), torch.arange(2)
        found.append(own_history(model, model.sequence(clip), seeds))
        losses.append(model(clip, seeds)[0])
    assert torch.equal(*found)
    assert torch.equal(*losses)


def test_a_model_without_a_context_is_not_guided() -> None:
    model = testing.entangled()
    assert sampler_of(model, guidance=1.0) == Sampler(model.config.num_steps)
    with pytest.raises(ValueError, match=r'above and finite with arch="scd", got 1\.5'):
        sampler_of(model, guidance=1.5)


@pytest.mark.parametrize("g", [0.5, math.nan, math.inf])
def test_what_is_no_guidance_is_refused(g: float) -> None:
    model = testing.model()
    with pytest.raises(ValueError, match=f"guidance must be 1, or above and finite .* got {g}"):
        sampler_of(model, guidance=g)
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="guidance_noise must be above 0 and finite"):
            replace(model.config, guidance_noise=wrong)
