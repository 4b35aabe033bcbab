"""Distillation: against a slow way to the same loss, and in a world of two futures."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.imagination import rollout
from scd_wm.model import flow, noise
from scd_wm.model.build import build_world_model
from scd_wm.model.few_steps import LEAST_VISIBLE, FewSteps
from scd_wm.model.flow import Sampler
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import Spec, VectorSpec

TOLERANCE: dict[str, Any] = {"atol": 1e-9, "rtol": 0.0}
KINDS = pytest.mark.parametrize(
    ("arch", "prediction"),
    [
        ("scd", "sample"),
        ("scd", "velocity"),
        ("entangled", "sample"),
        ("fed", "sample"),
        ("fed", "velocity"),
    ],
)
LEAST = pytest.mark.parametrize("least_visible", [0.0, LEAST_VISIBLE])


def _pair(arch: str, prediction: str, **changes: Any) -> tuple[WorldModel, FewSteps]:
    """Return a student and what it is to learn: the two steps of a teacher's six."""
    make = {"scd": testing.model, "entangled": testing.entangled, "fed": testing.fed}[arch]
    changes |= {"prediction": prediction, "interface_noise": 0.0}
    student, teacher = (make(testing.state_spec(), **changes).double() for _ in range(2))
    testing.untied(teacher, seed=1)
    return student, FewSteps(teacher=teacher, num_steps=2, teacher_steps=6, weight=0.5)


@KINDS
@LEAST
def test_each_step_should_land_where_the_teacher_gets_to_from_where_the_student_is(
    arch: str, prediction: str, least_visible: float
) -> None:
    """Each step is checked as the sampler takes it: from its start, by the prediction aimed at."""
    student, few = _pair(arch, prediction, least_visible=least_visible)
    clip, seeds = testing.double(testing.clip(student.spec, 2, 4)), torch.arange(2)
    sequence = student.sequence(clip)
    history = sequence.packed[:, :-1]
    base = student.base(history, sequence.valid[:, :-1]).flatten()
    keys = noise.derive(noise.derive(seeds, 64)[:, None], torch.arange(3))
    eps = noise.normal(keys, student.layout.num_values).flatten(0, 1).double()
    context = student.contexts(sequence, history, None, eps)
    lead = few._lead(sequence, history, eps)
    levels, errors, x = flow.levels(2), [], eps
    with torch.no_grad():
        for k in range(2):
            modulation = list(student.denoiser.schedule(levels[:-1], context.action))[k]
            raw, _ = student.evaluate(x, levels[k], modulation, context)
            sample = student.predicted(raw, x, levels[k], base)
            stepped = torch.lerp(sample, x, levels[k + 1] / levels[k])
            # A step moves by a share of the prediction: so much further off is the prediction.
            off = (stepped - lead(k, x)) / (1 - levels[k + 1] / levels[k])
            unit = base.scale if prediction == "sample" else torch.tensor(levels[k])
            errors.append((off / unit).square())
            x = stepped
    sampled, _ = student.sample(context, base, eps, Sampler(2))
    torch.testing.assert_close(student.layout.clamp(x), sampled, **TOLERANCE)
    expected = torch.stack(errors).mean(0)
    parts = few.losses(student, sequence, history, context, seeds)
    mean = torch.stack([expected[:, s.values].mean() for s in student.layout.segments]).mean()
    torch.testing.assert_close(parts["vector"], mean, **TOLERANCE)


@KINDS
def test_the_loss_takes_the_place_of_that_of_frames_and_does_not_depend_on_batches(
    arch: str, prediction: str
) -> None:
    student, few = _pair(arch, prediction, vector_weight=2.0)
    clip, seeds = testing.double(testing.clip(student.spec, 3, 4)), torch.arange(3)
    student.few_steps = few
    loss, parts = student(clip, seeds)
    torch.testing.assert_close(loss, 0.5 * 2.0 * parts["few_steps_vector"], **TOLERANCE)
    slices = [slice(i, i + 1) for i in range(3)]
    rows = [student(clip.map(itemgetter(row)), seeds[row])[0] for row in slices]
    torch.testing.assert_close(torch.stack(rows).mean(), loss, **TOLERANCE)


def test_outcomes_are_still_learned_from_the_data() -> None:
    student = testing.model(testing.image_spec())
    student.few_steps = FewSteps(
        teacher=testing.model(testing.image_spec()), num_steps=2, teacher_steps=4
    )
    loss, parts = student(testing.clip(student.spec, 2, 4), torch.arange(2))
    frames = {k.removeprefix("few_steps_"): v for k, v in parts.items() if "few_steps" in k}
    outcomes = {k: v for k, v in parts.items() if k in student.spec.outcomes}
    assert {*parts} == {*outcomes, "image", "vector", "few_steps_image", "few_steps_vector"}
    config = student.config
    expected = config.image_weight * frames["image"] + config.vector_weight * frames["vector"]
    expected = expected + config.outcome_weight * torch.stack([*outcomes.values()]).sum()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("level", [1.0, 0.9, 0.5, 0.0])
def test_a_share_of_the_noise_is_seen_from_the_start(level: float) -> None:
    noisy = torch.ones(2, 3)
    for least, seen in ((0.0, 1 - level), (0.25, max(1 - level, 0.25))):
        model = testing.model(testing.state_spec(), least_visible=least)
        assert model.needs_noise(Sampler(1)) == (least > 0)
        for given in (level, torch.full((2, 1), level)):
            torch.testing.assert_close(model.visible_noisy(noisy, given), seen * noisy)
    velocity = testing.model(testing.state_spec(), prediction="velocity", least_visible=0.25)
    torch.testing.assert_close(velocity.visible_noisy(noisy, level), noisy)


def test_only_the_student_learns_and_the_teacher_is_no_part_of_it() -> None:
    student, few = _pair("scd", "sample")
    names = set(student.state_dict())
    student.few_steps = few
    clip, seeds = testing.double(testing.clip(student.spec, 2, 4)), torch.arange(2)
    sequence = student.sequence(clip)
    history = sequence.packed[:, :-1]
    context = student.contexts(sequence, history, None)
    torch.autograd.backward(few.losses(student, sequence, history, context, seeds)["vector"])
    assert set(student.state_dict()) == names
    learns = {n for n, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    assert {n.split(".")[0] for n in learns} == {"encoder", "decoder"}
    assert all(p.grad is None for p in few.teacher.parameters())


def test_one_copy_learns_its_steps_on_clean_history_as_it_samples() -> None:
    student, few = _pair("entangled", "sample", full_noise_fraction=1.0)
    clip, seeds = testing.double(testing.clip(student.spec, 2, 4)), torch.arange(2)
    parts = []
    for one_copy in (False, True):
        student.config = replace(student.config, one_copy=one_copy)
        student.few_steps = few
        parts.append(student(clip, seeds)[1])
    torch.testing.assert_close(
        parts[0]["few_steps_vector"], parts[1]["few_steps_vector"], **TOLERANCE
    )
    assert not torch.allclose(parts[0]["vector"], parts[1]["vector"])


def test_frames_that_are_missing_are_not_learned() -> None:
    student, few = _pair("scd", "sample")
    student.few_steps = few
    clip = testing.double(testing.clip(student.spec, 2, 4))
    clip.valid["a"][:, -1] = False
    nonsense = clip.vectors["a"].clone()
    nonsense[:, -1] = 100.0
    seeds, lost = torch.arange(2), replace(clip, vectors={**clip.vectors, "a": nonsense})
    torch.testing.assert_close(student(clip, seeds)[0], student(lost, seeds)[0], **TOLERANCE)


def test_what_the_data_lacks_is_not_learned_from_the_teacher_either() -> None:
    student, few = _pair("scd", "sample")
    student.few_steps = few
    clip, seeds = testing.double(testing.clip(student.spec, 2, 4)), torch.arange(2)
    for name in ("a", "b"):
        clip.valid[name][:, 1:] = False
    assert student(clip, seeds)[1]["few_steps_vector"] == 0


@pytest.mark.parametrize(("num_steps", "teacher_steps"), [(2, 15), (4, 4), (3, 2)])
def test_steps_that_do_not_fit_are_refused(num_steps: int, teacher_steps: int) -> None:
    with pytest.raises(
        ValueError, match=f"multiple of distill_steps and more.*got {teacher_steps} and {num_steps}"
    ):
        FewSteps(teacher=testing.model(), num_steps=num_steps, teacher_steps=teacher_steps)


MODES = torch.tensor([[1.0, -0.5], [-1.0, 0.5]])


def _two_futures(batch: int, seed: int) -> Clip:
    """Return clips of two frames, each near one of `MODES` whatever was before."""
    random = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 2, (batch, 2), generator=random)
    x = MODES[which] + 0.1 * torch.randn(batch, 2, 2, generator=random)
    spec = Spec(vectors={"x": VectorSpec.unit(2)}, action=VectorSpec.unit(1))
    return replace(testing.clip(spec, batch, 2), vectors={"x": x})


def _learn(model: WorldModel, num_steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, 2 * (1 - step / num_steps))
        loss, _ = model(_two_futures(64, step), torch.arange(64) + 64 * step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _futures(model: WorldModel, num_steps: int) -> Tensor:
    """Return 500 imagined frames, (500, 2)."""
    history = _two_futures(500, seed=10_000).frames(0, 1)
    return rollout(model, history, torch.zeros(500, 1, 1), num_steps=num_steps).vectors["x"][:, 0]


def _energy_distance(a: Tensor, b: Tensor) -> float:
    """Distance between two distributions, 0 if they are the same (Szekely and Rizzo 2013)."""
    across, first, second = (torch.cdist(*pair).mean() for pair in ((a, b), (a, a), (b, b)))
    return float(2 * across - first - second)


def _share_at_modes(x: Tensor) -> float:
    return float((torch.cdist(x, MODES).amin(dim=1) < 0.3).float().mean())


def test_two_steps_reach_both_futures_as_many_steps_do_once_they_are_distilled() -> None:
    """One step gives the mean, which never happens; two undistilled steps stay between."""
    torch.manual_seed(0)
    config = testing.config(
        dim=48, num_heads=3, encoder_layers=1, open_gates=True, draws=2, window=1
    )
    spec = Spec(vectors={"x": VectorSpec.unit(2)}, action=VectorSpec.unit(1))
    teacher, student = (build_world_model(spec, config) for _ in range(2))
    _learn(teacher, 150)
    student.load_state_dict(teacher.state_dict())
    student.config = replace(student.config, least_visible=LEAST_VISIBLE)
    student.few_steps = FewSteps(teacher=teacher, num_steps=2, teacher_steps=8)
    _learn(student, 80)
    real = _two_futures(500, seed=20_000).vectors["x"][:, 1]
    mean, two, many = (_futures(teacher, n) for n in (1, 2, 16))
    few = _futures(student, 2)
    assert _share_at_modes(mean) == 0
    assert _share_at_modes(two) < 0.6
    assert _share_at_modes(many) > 0.9
    assert _share_at_modes(few) > 0.75
    assert 0.4 < (few[:, 0] > 0).float().mean() < 0.6
    assert _energy_distance(few, real) < 0.35 * _energy_distance(two, real)
    assert _energy_distance(few, many) < 0.35 * _energy_distance(two, many)


def test_the_teacher_goes_its_own_way_whatever_the_student_s_predictions_mean() -> None:
    student, few = _pair("scd", "sample")
    student.config = replace(student.config, residual=False)
    clip, seeds = testing.double(testing.clip(student.spec, 2, 4)), torch.arange(2)
    sequence = student.sequence(clip)
    history = sequence.packed[:, :-1]
    eps = torch.randn(6, student.layout.num_values, dtype=torch.float64)
    base = few.teacher.base(history, sequence.valid[:, :-1]).flatten()
    context = few.teacher.contexts(sequence, history, None)
    lead = few._lead(sequence, history, eps)
    expected, _ = few.teacher.sample(context, base, eps, Sampler(6, "heun"))
    reached = lead(1, lead(0, eps))
    torch.testing.assert_close(few.teacher.layout.clamp(reached), expected, **TOLERANCE)
    student.few_steps = few
    assert torch.isfinite(student(clip, seeds)[0])
