"""Distillation: a model learns to reach in few sampler steps what a frozen copy reaches in many.

One evaluation gives the mean of all futures, which is blurred where the future is uncertain; many
give one future, sharp. But a sampler draws nothing once it has its noise: from any x_s the teacher
gets to one certain frame. Each step of the student learns to land where the teacher gets to from
the x_s that the student's own steps before have led to (trajectories of a teacher: Luhman and
Luhman 2021, arXiv:2101.02388; from the learner's own states: Ross et al. 2011, arXiv:1011.0686).
The teacher's own way from the same noise would be a worse aim: the last step would have to make
good what the steps before have missed, which it cannot know, and would give the mean of it, a blur.
The teacher steps by Heun, as Euler's many steps still leave a part of the blur.

A sample prediction sees x_s in proportion to 1 - s, so its first step, at s = 1, would be blind:
it would lead to the mean whatever the noise, and one step less would decide which future it is. So
a student sees a part of the noise from the start (`least_visible`). And it is spared the ordinary
loss of frames, which teaches the mean of all futures that noise hides, not where one way leads.

Each reads the history once. What the teacher's steps add is evaluations of the denoiser without
gradients: of the light decoder alone in `scd`, of all layers in `entangled`.

Axes: B clips, T frames, F = B (T - 1) frames to predict, M values of a packed frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scd_wm.model import flow, losses, noise
from scd_wm.model.denoiser import DenoiserContext
from scd_wm.model.frames import Base, Sequence

if TYPE_CHECKING:
    from scd_wm.model.world_model import WorldModel

Lead = Callable[[int, Tensor], Tensor]
"""Maps (number of a student's step, x_s at its start) to x_s at its end, both (F, M)."""

LEAST_VISIBLE = 0.25  # share of x_s that a student sees at s = 1
_NOISE = 64  # purpose of the keys of the noise, beside those of `WorldModel`


@dataclass(frozen=True, kw_only=True)
class FewSteps:
    """What a model needs to learn from a teacher; it is no part of its weights.

    Args:
        teacher: A model of the same world; it does not change.
        num_steps: Steps T of the student.
        teacher_steps: Steps of the teacher, by Heun.
        weight: Of the loss beside that of the outcomes.

    Raises:
        ValueError: If the teacher's steps are not a multiple of the student's.
    """

    teacher: WorldModel
    num_steps: int
    teacher_steps: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_steps(self.num_steps, self.teacher_steps)

    def teacher_fingerprint(self) -> str:
        """Return a text that tells the teacher's weights from others."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.teacher.state_dict().items()):
            digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def losses(
        self,
        student: WorldModel,
        sequence: Sequence,
        history: Tensor,
        context: DenoiserContext,
        seeds: Tensor,
        average: losses.Average | None = None,
    ) -> dict[str, Tensor]:
        """Return the mean error of the student's steps, of each modality.

        It is in the units of the ordinary loss: of the residual, or of the velocity.

        Args:
            student: The model that learns.
            sequence: The clips, of T frames.
            history: Frames 0 to T - 2 as they were read, (B, T - 1, M).
            context: What the student has read of them, F frames.
            seeds: One int64 a row, (B,).
            average: Of the processes that share the batch; None: there is one.
        """
        index = torch.arange(history.shape[1]).to(seeds)
        keys = noise.derive(noise.derive(seeds, _NOISE)[:, None], index)
        eps = noise.normal(keys, student.layout.num_values).flatten(0, 1).to(history.dtype)
        base = student.base(history, sequence.valid[:, :-1]).flatten()
        if student.config.one_copy or student.config.fed_level is not None:
            # It has read noisy frames, where a sampler's history is clean; or was fed others.
            context = student.contexts(sequence, history, None, eps)
        levels, lead = flow.levels(self.num_steps), self._lead(sequence, history, eps)
        errors = list(_step_errors(student, context, base, eps, levels, lead))
        valid = student.layout.value_valid(sequence.valid[:, 1:]).flatten(0, 1)
        return losses.frame_losses(student.layout, torch.stack(errors).mean(0), valid, average)

    def _lead(self, sequence: Sequence, history: Tensor, eps: Tensor) -> Lead:
        """Return what leads from the start of a student's step to where the teacher ends it."""
        teacher = self.teacher.to(history.device)
        with torch.no_grad():
            base = teacher.base(history, sequence.valid[:, :-1]).flatten()
            context = teacher.contexts(sequence, history, None, eps)
        levels, stride = flow.levels(self.teacher_steps), self.teacher_steps // self.num_steps
        raw = _evaluations(teacher, context, levels)

        @torch.no_grad()
        def lead(step: int, x: Tensor) -> Tensor:
            first = step * stride

            def denoise(index: int, x: Tensor) -> Tensor:
                k = first + index
                return teacher.predicted(raw(k, x), x, levels[k], base)

            return flow.heun(denoise, x, levels[first : first + stride + 1])

        return lead


def check_steps(num_steps: int, teacher_steps: int) -> None:
    """Raise ValueError if a student of so many steps cannot learn from a teacher of so many."""
    if num_steps < 1 or teacher_steps <= num_steps or teacher_steps % num_steps:
        raise ValueError(
            "distill_teacher_steps must be a multiple of distill_steps and more, so that the "
            f"teacher passes the student's noise levels, got {teacher_steps} and {num_steps}"
        )


def _step_errors(
    student: WorldModel,
    context: DenoiserContext,
    base: Base,
    eps: Tensor,
    levels: list[float],
    lead: Lead,
) -> Iterator[Tensor]:
    """Yield the squared error of the raw prediction at each of the student's steps, (F, M).

    A step from s to s' moves x_s by (s - s') / s towards the predicted sample. What it should
    predict is therefore the point at which the line from x_s through where the teacher gets to
    ends, at s = 0.
    """
    raw_at, x = _evaluations(student, context, levels), eps
    for k, (now, then) in enumerate(pairwise(levels)):
        raw = raw_at(k, x)
        aim = x + (lead(k, x) - x) * (now / (now - then))
        yield (raw - student.raw_of(aim, x, now, base)).square()
        sample = student.predicted(raw.detach(), x, now, base)
        x = torch.lerp(sample, x, then / now)


def _evaluations(
    model: WorldModel, context: DenoiserContext, levels: list[float]
) -> Callable[[int, Tensor], Tensor]:
    """Return a function from (number of the level, x_s at it) to the raw prediction."""
    modulations = list(model.denoiser.schedule(levels[:-1], context.action))

    def evaluate(index: int, x: Tensor) -> Tensor:
        return model.evaluate(x, levels[index], modulations[index], context)[0]

    return evaluate
