"""Vectors noised as they are, and as changes from the last frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.imagination import rollout
from scd_wm.model.build import build_world_model
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec, VectorSpec

MAKERS: dict[str, Callable[..., WorldModel]] = {
    "scd": testing.model,
    "entangled": testing.entangled,
    "fed": testing.fed,
}
KINDS = pytest.mark.parametrize("arch", [*MAKERS])
PREDICTIONS = pytest.mark.parametrize("prediction", ["sample", "velocity"])


@KINDS
@PREDICTIONS
def test_around_a_last_frame_of_zeros_with_changes_of_one_both_are_the_same(
    arch: str, prediction: str
) -> None:
    changes = {"prediction": prediction, "draws": 2}
    models = [
        testing.untied(MAKERS[arch](testing.state_spec(), **changes, vector_noise=kind), seed=1)
        for kind in ("value", "change")
    ]
    clip, seeds = testing.clip(models[0].spec, 2, 2), torch.arange(2)
    for vector in clip.vectors.values():
        vector[:, 0] = 0.0
    losses = [model(clip, seeds)[0] for model in models]
    assert torch.equal(*losses)
    history = clip.frames(0, 1)
    futures = [
        rollout(model.eval(), history, clip.actions, seeds=seeds, num_steps=3) for model in models
    ]
    for name in clip.vectors:
        assert torch.equal(*(frames.vectors[name] for frames in futures))


@KINDS
def test_a_velocity_of_zero_leaves_the_change_s_noise_around_the_last_frame(arch: str) -> None:
    """As the head of a new network gives it: the sampler ends where it began."""
    spec, rows = testing.image_spec(), 400
    model = MAKERS[arch](spec, prediction="velocity", vector_noise="change").eval()
    for parameter in model.denoiser.head.parameters():
        parameter.data.zero_()
    clip = testing.clip(spec, 1, 2).map(lambda x: x.expand(rows, *x.shape[1:]))
    frames = rollout(model, clip, clip.actions[:, :1], seeds=torch.arange(rows), num_steps=2)
    off = frames.vectors["proprio"][:, 0] - clip.vectors["proprio"][:, -1]
    wanted = torch.tensor(spec.vectors["proprio"].delta_std)
    torch.testing.assert_close(off.std(dim=0), wanted, rtol=0.12, atol=0.0)
    assert (off.mean(dim=0).abs() < 0.2 * wanted).all()
    assert frames.images["top"].float().std() > 60  # pixels are noised as they are


def test_coding_changes_vectors_alone_and_is_undone() -> None:
    model = testing.model(vector_noise="change")
    last, frame = torch.randn(2, 3, model.layout.num_values)
    valid = torch.ones(3, model.layout.num_tokens, dtype=torch.bool)
    valid[2] = False
    base = model.base(last, valid)
    coded, of_image = base.encode(frame), model.layout.is_image
    torch.testing.assert_close(base.decode(coded), frame)
    assert torch.equal(coded[:, of_image], frame[:, of_image])
    change = (frame - last) / model.layout.delta_std
    torch.testing.assert_close(coded[:2, ~of_image], change[:2, ~of_image])
    assert torch.equal(coded[2], frame[2])  # there is no last frame to change from


def test_a_later_frame_never_changes_an_earlier_prediction() -> None:
    model = testing.untied(testing.model(vector_noise="change"), seed=1)
    clip, seeds = testing.clip(model.spec, 2, 5), torch.arange(2)
    raw = [_raw(model, c, seeds) for c in (clip, _changed(clip))]
    torch.testing.assert_close(raw[0][:, :2], raw[1][:, :2])
    assert not torch.allclose(raw[0][:, 2], raw[1][:, 2])


def _changed(clip: Clip) -> Clip:
    proprio = clip.vectors["proprio"].clone()
    proprio[:, 3:] += 1.0
    return replace(clip, vectors={"proprio": proprio})


def _raw(model: WorldModel, clip: Clip, seeds: Tensor) -> Tensor:
    """Return raw predictions of training's draw 0, (B, T - 1, M)."""
    sequence = model.sequence(clip)
    history = sequence.packed[:, :-1]
    context = model.contexts(sequence, history, seeds)
    base = model.base(history, sequence.valid[:, :-1]).flatten()
    noised = model.draw(sequence, history, context, base, seeds, 0)
    modulation = model.denoiser.modulate(noised.condition)
    raw, _ = model.evaluate(noised.frames, noised.level[:, None], modulation, context)
    return raw.reshape(len(seeds), history.shape[1], -1)


def test_one_copy_reads_noisy_frames_as_history_so_their_vectors_stay_values() -> None:
    with pytest.raises(ValueError, match='vector_noise must be "value" with one_copy=true'):
        testing.config(arch="entangled", one_copy=True, vector_noise="change")


STEP = 0.1  # deviation of what changes by chance, where the value itself has one of 1
TRAINING_STEPS = 140
SMALL: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 1, "window": 1}


def test_chance_that_is_small_beside_the_vector_is_drawn() -> None:
    """A walk of random steps: eight sampler steps give its chance only where changes are noised."""
    spread = {kind: _spread(kind) for kind in ("value", "change")}
    assert spread["change"] == pytest.approx(STEP, rel=0.25)
    assert spread["value"] < 0.5 * STEP


def _spread(kind: str) -> float:
    """Return the deviation of what a trained model imagines to follow one frame."""
    unit = VectorSpec(dim=1, mean=(0.0,), std=(1.0,), delta_std=(STEP,))
    spec = Spec(vectors={"x": unit}, action=VectorSpec.unit(1))
    torch.manual_seed(0)
    config = testing.config(open_gates=True, vector_noise=kind, draws=4, **SMALL)
    model = build_world_model(spec, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(TRAINING_STEPS):
        clip = _walk(spec, 32, step)
        model(clip, torch.arange(32) + 32 * step)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    start = _walk(spec, 1, 10**6).map(lambda x: x.expand(256, *x.shape[1:]))
    frames = rollout(
        model.eval(), start, start.actions[:, :1], seeds=torch.arange(256), num_steps=8
    )
    return float(frames.vectors["x"][:, 0].std())


def _walk(spec: Spec, batch: int, seed: int) -> Clip:
    random = torch.Generator().manual_seed(seed)
    clip = testing.clip(spec, batch, 3)
    start = torch.randn(batch, 1, 1, generator=random)
    steps = STEP * torch.randn(batch, 2, 1, generator=random)
    walk: dict[str, Any] = {"x": torch.cat([start, start + steps.cumsum(1)], dim=1)}
    return replace(clip, vectors=walk, actions=torch.zeros_like(clip.actions))
