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
from scd_wm.model import flow
from scd_wm.model.build import build_world_model
from scd_wm.model.entangled import EntangledWorldModel
from scd_wm.model.few_steps import FewSteps
from scd_wm.model.world_model import WorldModel
from scd_wm.probe.entangled import EntangledFrames
from scd_wm.probe.protocol import attend_plainly
from scd_wm.spec import Spec, VectorSpec

MAKERS: dict[str, Callable[..., WorldModel]] = {
    "scd": testing.model,
    "entangled": testing.entangled,
    "fed": testing.fed,
}
KINDS = pytest.mark.parametrize("arch", [*MAKERS])
PREDICTIONS = pytest.mark.parametrize("prediction", ["sample", "velocity"])


LAST, CHANGE = 3.0, 0.25  # what every value of a vector is, and how far it goes


def same_to_it(arch: str, **changes: Any) -> list[WorldModel]:
    """Return models that must agree: values noised are changes where all begins at their mean."""
    made = []
    for kind, std in (("value", CHANGE), ("change", 1.0)):
        vector = VectorSpec(dim=2, mean=(LAST,) * 2, std=(std,) * 2, delta_std=(CHANGE,) * 2)
        spec = Spec(vectors={"a": vector, "b": vector}, action=VectorSpec.unit(2))
        made.append(testing.untied(MAKERS[arch](spec, vector_noise=kind, **changes), 1).double())
    return made


def begun_at_the_mean(spec: Spec) -> Clip:
    """Return two clips of two frames."""
    clip = testing.double(testing.clip(spec, 2, 2))
    for vector in clip.vectors.values():
        vector[:, 0] = LAST
    return clip


@KINDS
@PREDICTIONS
def test_changes_are_noised_as_values_are_that_begin_at_their_mean(
    arch: str, prediction: str
) -> None:
    models = same_to_it(arch, prediction=prediction, draws=2)
    clip, seeds = begun_at_the_mean(models[0].spec), torch.arange(2)
    losses = [model(clip, seeds)[0] for model in models]
    torch.testing.assert_close(*losses)
    futures = [
        rollout(model.eval(), clip.frames(0, 1), clip.actions, seeds=seeds, num_steps=3)
        for model in models
    ]
    for name in clip.vectors:
        torch.testing.assert_close(*(frames.vectors[name] for frames in futures))


def test_a_probe_sees_the_same_errors_of_both() -> None:
    models = same_to_it("entangled", window=1)
    clip = begun_at_the_mean(models[0].spec)
    eps = torch.randn(2, 4, dtype=torch.float64)
    seen = []
    for model in models:
        assert isinstance(model, EntangledWorldModel)
        frames = EntangledFrames(model.eval(), clip)
        noisy = flow.interpolate(frames.target, eps, torch.full((2,), 0.6, dtype=torch.float64))
        sample = frames.denoise(noisy, 0.6, attend_plainly)
        loss = frames.loss(noisy, eps, 0.6, attend_plainly)
        seen.append([frames.error(sample), frames.error(frames.last), loss])
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other)


@KINDS
@PREDICTIONS
def test_a_student_without_error_has_no_loss(arch: str, prediction: str) -> None:
    """Of a prediction of zero every step of the teacher leads where the student's does."""
    student, teacher = (
        MAKERS[arch](prediction=prediction, vector_noise="change").double() for _ in range(2)
    )
    for model in (student, teacher):
        _zero_head(model)
    few = FewSteps(teacher=teacher, num_steps=2, teacher_steps=4)
    clip, seeds = testing.double(testing.clip(student.spec, 2, 3)), torch.arange(2)
    sequence = student.sequence(clip)
    history = sequence.packed[:, :-1]
    context = student.contexts(sequence, history, None)
    parts = few.losses(student, sequence, history, context, seeds)
    assert parts["vector"].item() == pytest.approx(0, abs=1e-12)


def _zero_head(model: WorldModel) -> None:
    for parameter in model.denoiser.head.parameters():
        parameter.data.zero_()


@KINDS
def test_a_velocity_of_zero_leaves_the_change_s_noise_around_the_last_frame(arch: str) -> None:
    """As the head of a new network gives it: the sampler ends where it began."""
    spec, rows = testing.image_spec(), 400
    model = MAKERS[arch](spec, prediction="velocity", vector_noise="change").eval()
    _zero_head(model)
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
