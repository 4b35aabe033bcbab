"""Layers left out, blind and run once: against closed forms, dense masks and the model itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from scd_wm import testing
from scd_wm.model import flow, losses
from scd_wm.model.entangled import EntangledWorldModel
from scd_wm.model.flow import Sampler
from scd_wm.model.frames import Noised
from scd_wm.probe.config import ProbeConfig
from scd_wm.probe.entangled import EntangledDiffuser
from scd_wm.probe.interventions import Intervention, blind, sample
from scd_wm.probe.measure import Sampled, probe, probe_samples
from scd_wm.probe.protocol import attend_plainly

from .toy import GAINS, Toy, clips

EXACT: dict[str, Any] = {"atol": 1e-10, "rtol": 0.0}
KINDS = [("sample", True), ("velocity", False)]
K = 3  # frames denoised of a clip


def world(prediction: str, residual: bool, outcomes: bool = True) -> EntangledWorldModel:
    spec = testing.image_spec() if outcomes else replace(testing.image_spec(), outcomes=())
    return testing.entangled(spec, prediction=prediction, residual=residual).double().eval()


def own_pass(model: EntangledWorldModel, clip: Any, level: float, eps: Tensor) -> Tensor:
    """Return raw predictions of the model's training pass for the last K frames, (F, M)."""
    sequence = model.sequence(clip)
    history = sequence.packed[:, :-1]
    context = model.contexts(sequence, history, None)
    count = history.shape[1]
    noisy = sequence.packed[:, 1:].clone()
    noisy[:, -K:] = flow.interpolate(
        noisy[:, -K:], rearrange(eps, "(b k) m -> b k m", k=K), eps.new_full((1, 1), level)
    )
    levels = eps.new_full((len(history) * count,), level)
    modulation = model.denoiser.modulate(model.denoiser.condition(levels, context.action))
    raw, _ = model.evaluate(noisy.flatten(0, 1), level, modulation, context)
    return rearrange(raw, "(b t) m -> b t m", t=count)[:, -K:].flatten(0, 1)


@pytest.mark.parametrize(("prediction", "residual"), KINDS)
@torch.no_grad()
def test_probed_frames_are_denoised_as_in_training(prediction: str, residual: bool) -> None:
    model = world(prediction, residual)
    clip = testing.double(testing.clip(model.spec, 2, model.config.window + K))
    frames = EntangledDiffuser(model).read(clip)
    eps = torch.randn(2 * K, model.layout.num_values, dtype=torch.float64)
    noisy = torch.lerp(frames.target, eps, 0.6)
    raw = own_pass(model, clip, 0.6, eps)
    expected = model.predicted(raw, noisy, 0.6, frames.base)
    torch.testing.assert_close(frames.denoise(noisy, 0.6, attend_plainly), expected, **EXACT)
    noised = Noised(noisy, eps.new_full((2 * K,), 0.6), eps, eps, eps[:, 0] == eps[:, 0])
    error = model._error(raw, frames.target, noised, frames.base)
    parts = losses.frame_losses(model.layout, error, frames.valid)
    got = frames.loss(noisy, eps, 0.6, attend_plainly).mean()
    torch.testing.assert_close(got, losses.total(parts, model.config).double(), **EXACT)


@torch.no_grad()
def test_keys_of_the_past_are_of_as_many_frames_back_as_is_said() -> None:
    model = world("sample", True)
    clip = testing.double(testing.clip(model.spec, 2, model.config.window + K))
    context = EntangledDiffuser(model).read(clip).context
    sequence = model.sequence(clip)
    kept = model.contexts(sequence, sequence.packed[:, :-1], None).kept
    n = model.layout.num_tokens
    assert context.lags.tolist() == [3] * n + [2] * n + [1] * n + [0] * (n + 1)
    for (got, _), (keys, _) in zip(context.kept, kept, strict=True):
        for k in range(K):  # the frame after `window - 1 + k`, which is one back
            for lag in (1, 2, 3):
                place = (context.lags == lag).nonzero()[:, 0]
                expected = keys[:, model.config.window - lag + k]
                torch.testing.assert_close(got[k::K][:, place], expected, **EXACT)


@torch.no_grad()
def test_an_undisturbed_sampler_is_the_models_own() -> None:
    model = world("sample", True)
    clip = testing.double(testing.clip(model.spec, 2, model.config.window + K))
    diffuser = EntangledDiffuser(model)
    frames = diffuser.read(clip)
    sequence = model.sequence(clip)
    history = sequence.packed[:, :-1]
    eps = torch.randn(2, history.shape[1], model.layout.num_values, dtype=torch.float64)
    base = model.base(history, sequence.valid[:, :-1]).flatten()
    context = model.contexts(sequence, history, None)
    own, _ = model.sample(context, base, eps.flatten(0, 1), Sampler(4))
    own = rearrange(own, "(b t) m -> b t m", b=2)[:, -K:].flatten(0, 1)
    got = sample(frames, diffuser.blocks, eps[:, -K:].flatten(0, 1), 4, Intervention())
    torch.testing.assert_close(model.layout.clamp(got), own, **EXACT)


def masked(layers: set[int], layer: int, q: Tensor, k: Tensor, v: Tensor, lags: Tensor) -> Tensor:
    """Attend with a dense matrix of weights in which the past is struck out after the scores."""
    scores = torch.einsum("fnhc,fshc->fhns", q, k) / q.shape[-1] ** 0.5
    if layer in layers:
        scores = scores.masked_fill(lags > 0, -torch.inf)
    return torch.einsum("fhns,fshc->fnhc", scores.softmax(-1), v)


@torch.no_grad()
def test_a_blind_layer_is_one_whose_dense_mask_hides_the_past() -> None:
    model = world("sample", True)
    clip = testing.double(testing.clip(model.spec, 2, model.config.window + K))
    frames = EntangledDiffuser(model).read(clip)
    noisy = torch.randn_like(frames.target)
    plain = frames.denoise(noisy, 0.5, attend_plainly)
    for layers in ({1}, {0, 3}):
        expected = frames.denoise(noisy, 0.5, partial(masked, layers))
        got = frames.denoise(noisy, 0.5, blind(frozenset(layers)))
        torch.testing.assert_close(got, expected, **EXACT)
        assert not torch.allclose(got, plain)


def probed(model: EntangledWorldModel) -> Any:
    diffuser = EntangledDiffuser(model)
    length = model.config.window + 2
    given = [testing.double(testing.clip(model.spec, 3, length, seed)) for seed in (0, 1)]
    return probe(diffuser, given, ProbeConfig(clips=6, frames=2, num_steps=3, levels=(1.0, 0.4)))


def test_a_layer_whose_gates_are_shut_can_be_skipped_and_run_once_for_nothing() -> None:
    model = world("velocity", False)
    with torch.no_grad():
        model.network.blocks[1].modulation.weight.zero_()  # type: ignore[union-attr, operator]
        model.network.blocks[1].modulation.bias.zero_()  # type: ignore[union-attr, operator]
    found = probed(model)
    for name in ("skipped", "left_out", "blind"):
        table = getattr(found.losses, name)
        np.testing.assert_allclose(table[1], found.losses.full, rtol=1e-12)
        assert not np.allclose(table[2], found.losses.full, rtol=1e-3)
    assert found.samples["once 1"].moved.max() < 1e-20
    assert found.samples["once 2"].moved.min() > 1e-9
    same, before = found.seen.features[1], found.seen.features[0]
    torch.testing.assert_close(same, before, **EXACT)


def test_the_last_layer_is_read_by_nobody_so_leaving_it_out_is_skipping_it() -> None:
    found = probed(world("sample", True)).losses
    np.testing.assert_allclose(found.left_out[-1], found.skipped[-1], rtol=1e-12)
    assert not np.allclose(found.left_out[0], found.skipped[0], rtol=1e-3)


def test_a_block_that_runs_once_adds_the_update_of_the_first_step_ever_after() -> None:
    """Each block adds gain times level to every value, so the sampler can be worked by hand."""
    diffuser, levels = Toy(mixes=False), flow.levels(4)
    frames = diffuser.read(clips(3)[0])
    eps = torch.randn_like(frames.target)
    once = {0, 2}
    x = eps
    for now, then in pairwise(levels):
        added = sum(g * (1.0 if i in once else now) for i, g in enumerate(GAINS))
        x = torch.lerp(x + added, x, then / now)
    got = sample(frames, diffuser.blocks, eps, 4, Intervention(once=frozenset(once)))
    torch.testing.assert_close(got, x)
    x = eps
    for now, then in pairwise(levels):
        x = torch.lerp(x + (GAINS[0] + GAINS[2]) * now, x, then / now)
    got = sample(frames, diffuser.blocks, eps, 4, Intervention(skipped=frozenset({1})))
    torch.testing.assert_close(got, x)


def test_a_layer_blind_later_sees_the_past_at_the_first_step_only() -> None:
    seen: list[tuple[int, int]] = []

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, lags: Tensor) -> Tensor:
        seen.append((layer, k.shape[1]))
        return attend_plainly(layer, q, k, v, lags)

    diffuser = Toy()
    frames = diffuser.read(clips(3)[0])
    change = Intervention(blind=frozenset({0}), blind_later=frozenset({2}))
    sample(frames, diffuser.blocks, torch.randn_like(frames.target), 3, change, attend)
    # Only layers that see the past come here: 1 always, 2 at the first step.
    assert seen == [(1, 4), (2, 4), (1, 4), (1, 4)]


def test_hooks_are_gone_when_the_probe_is_over_even_if_it_fails() -> None:
    diffuser = Toy()
    frames = diffuser.read(clips(3)[0])

    def fails(*_: Any) -> Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        sample(frames, diffuser.blocks, frames.target, 2, Intervention(), fails)
    assert not any(block._forward_hooks for block in diffuser.blocks)


def test_frames_that_did_not_change_have_moved_by_nothing_whatever_their_error() -> None:
    diffuser = Toy()
    config = ProbeConfig(num_steps=2)
    found: dict[str, Sampled] = probe_samples(
        diffuser, clips(3), config, {"full": Intervention()}, lambda: None
    )
    assert set(found) == {"full", "one step", "last frame copied"}
    np.testing.assert_array_equal(found["full"].moved, 0.0)
    last = torch.cat([(f.last - f.target).square().mean(1) for f in map(diffuser.read, clips(3))])
    np.testing.assert_allclose(found["last frame copied"].error, last.numpy(), rtol=1e-6)
