"""Ways to compute the same thing agree in float64 to 1e-9."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.model import noise
from scd_wm.model.attention import attend_all, attend_banded

TOLERANCE: dict[str, Any] = {"atol": 1e-9, "rtol": 0.0}
MODES = pytest.mark.parametrize("context_mode", ["prefix", "token_concat"])


@MODES
def test_cached_context_equals_one_banded_pass_out_to_three_windows(context_mode: str) -> None:
    model = testing.model(context_mode=context_mode).double()
    num_frames = 3 * model.config.window + 1
    clip = testing.double(testing.clip(model.spec, 2, num_frames))
    clip.action_valid[0, 0] = False
    for seen in clip.valid.values():
        seen[0, 0] = False  # row 0 begins at the start frame
    packed, valid = model.layout.pack(clip), model.layout.token_valid(clip.valid)
    action = model.layout.normalise_vector("action", clip.actions)
    whole = model.encoder(packed[:, :-1], valid[:, :-1], action, clip.action_valid)
    cache = model.encoder.empty_cache(2)
    for t in range(num_frames - 1):
        context = model.encoder.step(
            packed[:, t], valid[:, t], action[:, t], clip.action_valid[:, t], cache
        )
        torch.testing.assert_close(context, whole[:, t], **TOLERANCE)


@pytest.mark.parametrize("reset_at", [1, 2, 5])
def test_rows_with_other_frame_counts_do_not_change_each_other(reset_at: int) -> None:
    """From a reset before or after the ring is full, on until both rows have wrapped around."""
    model = testing.model().double()
    clip = testing.double(testing.clip(model.spec, 2, 14))
    packed, valid = model.layout.pack(clip), model.layout.token_valid(clip.valid)
    action = model.layout.normalise_vector("action", clip.actions)

    def inputs(t: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return packed[:, t], valid[:, t], action[:, t], clip.action_valid[:, t]

    straight, reset = model.encoder.empty_cache(2), model.encoder.empty_cache(2)
    for t in range(reset_at):
        model.encoder.step(*inputs(t), straight)
        model.encoder.step(*inputs(t), reset)
    reset = reset.put([1], model.encoder.empty_cache(1))
    fresh = model.encoder.empty_cache(2)
    for t in range(reset_at, 13):
        expected_0 = model.encoder.step(*inputs(t), straight)[0]
        expected_1 = model.encoder.step(*inputs(t), fresh)[1]
        got = model.encoder.step(*inputs(t), reset)
        torch.testing.assert_close(got[0], expected_0, **TOLERANCE)
        torch.testing.assert_close(got[1], expected_1, **TOLERANCE)


@pytest.mark.parametrize("window", [1, 3, 10])
def test_banded_attention_equals_attention_with_a_dense_mask(window: int) -> None:
    q, k, v = torch.randn(3, 2, 6, 4, 2, 16, dtype=torch.float64).unbind(0)
    frame = torch.arange(6).repeat_interleave(4)
    lag = frame[:, None] - frame[None, :]
    mask = (lag >= 0) & (lag < window)
    expected = attend_all(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), mask)
    torch.testing.assert_close(attend_banded(q, k, v, window).flatten(1, 2), expected, **TOLERANCE)


@MODES
def test_k_draws_average_the_losses_of_single_draws(context_mode: str) -> None:
    model = testing.model(draws=3, context_mode=context_mode).double()
    clip, seeds = testing.double(testing.clip(model.spec, 2, 4)), torch.arange(2)
    sequence = model.sequence(clip)
    history = sequence.packed[:, :-1]
    context = model.contexts(sequence, history, noise.derive(seeds, 1))
    draws = [model.draw_losses(clip, sequence, history, context, seeds, k) for k in range(3)]
    assert draws[0]["image"] != draws[1]["image"]
    for name, part in model(clip, seeds)[1].items():
        mean = torch.stack([d[name] for d in draws]).mean()
        torch.testing.assert_close(part, mean, **TOLERANCE)


def test_loss_does_not_depend_on_how_rows_are_batched() -> None:
    model = testing.model(self_rollouts=2, draws=2).double()
    clip = testing.double(testing.clip(model.spec, 4, 5))
    seeds = torch.arange(4)
    whole, _ = model(clip, seeds)
    slices = [slice(i, i + 1) for i in range(4)]
    rows = [model(clip.map(itemgetter(row)), seeds[row])[0] for row in slices]
    torch.testing.assert_close(torch.stack(rows).mean(), whole, **TOLERANCE)


def test_a_later_frame_or_action_never_changes_an_earlier_context() -> None:
    model = testing.model()
    clip = testing.clip(model.spec, 1, 6)
    actions = clip.actions.clone()
    actions[:, 3:] += 1.0
    vectors = {name: v.clone() for name, v in clip.vectors.items()}
    vectors["proprio"][:, 4:] -= 1.0
    changed = replace(clip, actions=actions, vectors=vectors)
    contexts = []
    for c in (clip, changed):
        packed, valid = model.layout.pack(c), model.layout.token_valid(c.valid)
        action = model.layout.normalise_vector("action", c.actions)
        contexts.append(model.encoder(packed[:, :-1], valid[:, :-1], action, c.action_valid))
    assert torch.equal(contexts[0][:, :3], contexts[1][:, :3])
    assert not torch.allclose(contexts[0][:, 3], contexts[1][:, 3])
