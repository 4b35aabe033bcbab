"""The rival: its cached, fused rollout against one pass, its training, its place behind the API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from scd_wm import testing
from scd_wm.model import flow

from .learning import learn_one_clip
from .passes import check_cached_rollout

TOLERANCE: dict[str, Any] = {"atol": 1e-9, "rtol": 0.0}


@pytest.mark.parametrize(
    ("num_steps", "solver"), [(1, "euler"), (3, "euler"), (1, "heun"), (3, "heun")]
)
def test_a_cached_fused_rollout_equals_passes_over_the_whole_history(
    num_steps: int, solver: str
) -> None:
    check_cached_rollout(testing.entangled().double(), num_steps, solver)


@pytest.mark.parametrize("one_copy", [False, True])
@pytest.mark.parametrize(
    ("prediction", "residual"), [("sample", True), ("sample", False), ("velocity", False)]
)
def test_it_learns_one_clip_in_which_the_action_decides(
    prediction: str, residual: bool, one_copy: bool
) -> None:
    config = testing.config(
        arch="entangled",
        full_noise_fraction=0.5,
        one_copy=one_copy,
        clean_fraction=0.4,
        prediction=prediction,
        residual=residual,
    )
    learned = learn_one_clip(config, num_frames=4, num_steps=100)
    # One copy learns slower: its history is noisy in most of the frames that it trains on.
    assert learned.error < (0.5 if one_copy else 0.3) * learned.variance
    assert learned.error < 0.3 * learned.shuffled


@pytest.mark.parametrize("one_copy", [False, True])
def test_every_parameter_gets_a_gradient(one_copy: bool) -> None:
    model = testing.entangled(one_copy=one_copy, self_rollouts=1, refine_channels=4, draws=2)
    clip = testing.clip(model.spec, 4, 4)
    start = {k: v.clone() for k, v in clip.valid.items()}
    for valid in start.values():
        valid[0, 0] = False
    action_valid = clip.action_valid.clone()
    action_valid[0, 0] = False
    loss, _ = model(replace(clip, valid=start, action_valid=action_valid), torch.arange(4))
    loss.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("one_copy", [False, True])
def test_a_later_frame_or_action_never_changes_an_earlier_prediction(one_copy: bool) -> None:
    model = testing.entangled(one_copy=one_copy)
    clip = testing.clip(model.spec, 2, 7)
    actions = clip.actions.clone()
    actions[:, 4:] += 1.0
    vectors = {"proprio": clip.vectors["proprio"].clone()}
    vectors["proprio"][:, 5:] -= 1.0
    raw = []
    for c in (clip, replace(clip, actions=actions, vectors=vectors)):
        sequence = model.sequence(c)
        history, seeds = sequence.packed[:, :-1], torch.arange(2)
        context = model.contexts(sequence, history, seeds)
        base = model.base(history, sequence.valid[:, :-1]).flatten()
        noised = model.draw(sequence, history, context, base, seeds, 0)
        modulation = model.denoiser.modulate(noised.condition)
        out, _ = model.evaluate(noised.frames, noised.level[:, None], modulation, context)
        raw.append(out.reshape(2, 6, -1))
    torch.testing.assert_close(raw[0][:, :4], raw[1][:, :4], **TOLERANCE)
    assert not torch.allclose(raw[0][:, 4], raw[1][:, 4])


def test_clean_frames_of_one_copy_are_read_as_a_rollout_reads_them() -> None:
    """With every frame clean, the last one is denoised from what `contexts` keeps."""
    spec = replace(testing.image_spec(), outcomes=())  # an outcome query would be seen by them
    model = testing.entangled(spec, one_copy=True, clean_fraction=1.0, window=5).double()
    clip, seeds = testing.double(testing.clip(model.spec, 2, 5)), torch.arange(2)
    sequence = model.sequence(clip)
    history = sequence.packed[:, :-1]
    base = model.base(history, sequence.valid[:, :-1]).flatten()
    raw = []
    for context in (
        model.contexts(sequence, history, seeds),
        model.contexts(sequence, history, None),
    ):
        noised = model.draw(sequence, history, context, base, seeds, 0)
        assert noised.counts.reshape(2, 4).tolist() == [[False, False, False, True]] * 2
        modulation = model.denoiser.modulate(noised.condition)
        out, _ = model.evaluate(noised.frames, noised.level[:, None], modulation, context)
        raw.append(out.reshape(2, 4, -1)[:, -1])
    torch.testing.assert_close(raw[0], raw[1], **TOLERANCE)


def test_its_schedule_of_modulations_is_that_of_single_levels() -> None:
    network = testing.entangled().denoiser
    action, levels = torch.randn(200, 32), flow.levels(4)
    tables = list(network.schedule(levels, action))
    for level, table in zip(levels, tables, strict=True):
        single = network.modulate(network.condition(torch.full((200,), level), action))
        torch.testing.assert_close(table.blocks, single.blocks)
        torch.testing.assert_close(table.final, single.final)


def test_one_copy_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(ValueError, match='one_copy must be false unless arch="entangled"'):
        testing.config(one_copy=True)
