"""Distil two sampler steps from sixteen in a small world of chance: what is gained and lost.

A red disc in 16 x 16 pixels takes random steps that no action tells of, so that many futures are
possible and one step gives their blurred mean. A model of 0.4 M parameters is trained, then a copy
of it learns to reach in two steps what it reaches in sixteen. Printed for each, over three noise
seeds: the distance of the disc from where it went, the sharpness (squared gradient over that of the
real frames) and the spread of futures from one start, both distances in pixels.

usage: python scripts/few_steps_disc.py [TEACHER STEPS] [STUDENT STEPS] [LEAST_VISIBLE]
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import torch
from torch import Tensor

from scd_wm import imagination
from scd_wm.clip import Clip
from scd_wm.imagination import rollout
from scd_wm.model.build import build_world_model
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.few_steps import LEAST_VISIBLE, FewSteps
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import CameraSpec, Spec, VectorSpec

SIZE, RADIUS, STEP = 16, 2.5, 1.5  # pixels
RED = torch.tensor([219.0, 41.0, 41.0])
SPEC = Spec(cameras={"top": CameraSpec(height=SIZE, width=SIZE)}, action=VectorSpec.unit(1))
CONFIG = WorldModelConfig(
    dim=64, num_heads=4, encoder_layers=2, decoder_layers=2, patch_size=4, window=2,
    open_gates=True, draws=2,
)  # fmt: skip
BATCH, WARMUP, STARTS, NOISE_SEEDS = 16, 50, 400, 3
ROWS, COLUMNS = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")


def clips(batch: int, seed: int) -> tuple[Clip, Tensor]:
    """Return clips of three frames and where the disc is in them, (B, 3, 2)."""
    random = torch.Generator().manual_seed(seed)
    start = 5 + 6 * torch.rand(batch, 1, 2, generator=random)
    steps = STEP * torch.randn(batch, 2, 2, generator=random)
    place = torch.cat([start, start + steps.cumsum(1)], 1).clamp(RADIUS, SIZE - 1 - RADIUS)
    gap = torch.stack([COLUMNS, ROWS], dim=-1) - place[..., None, None, :]
    cover = (RADIUS + 0.5 - gap.norm(dim=-1)).clamp(0, 1)[..., None]
    images = (255 + cover * (RED - 255)).round().to(torch.uint8)
    nothing = imagination.start_frame(SPEC, batch)
    clip = replace(
        nothing,
        images={"top": images},
        actions=torch.zeros(batch, 2, 1),
        valid={"top": torch.ones(batch, 3, dtype=torch.bool)},
        action_valid=torch.ones(batch, 2, dtype=torch.bool),
    )
    return clip, place


def learn(model: WorldModel, num_steps: int, rate: float, first_seed: int) -> None:
    """Train a model, on other clips in every step."""
    optimizer, started = torch.optim.AdamW(model.parameters(), lr=rate), time.process_time()
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARMUP, 2 * (1 - step / num_steps))
        seed = first_seed + step
        loss, _ = model(clips(BATCH, seed)[0], torch.arange(BATCH) + BATCH * seed)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    print(f"  {num_steps} steps, {time.process_time() - started:.0f} CPU s", flush=True)


def measure(model: WorldModel, num_steps: int) -> str:
    """Return what a model imagines in some sampler steps, as text."""
    clip, place = clips(STARTS, seed=10**6)
    history, no_action = clip.frames(0, 2), torch.zeros(STARTS, 1, 1)
    futures = [
        rollout(
            model.eval(), history, no_action, seeds=torch.arange(STARTS) + STARTS * k,
            num_steps=num_steps,
        ).images["top"][:, 0]
        for k in range(NOISE_SEEDS)
    ]  # fmt: skip
    found = torch.stack([middle(images) for images in futures])
    error = (found - place[:, 2]).norm(dim=-1).mean()
    sharpness = torch.stack([gradient(images) for images in futures]).mean()
    sharpness = sharpness / gradient(clip.images["top"][:, 2])
    spread = found.std(dim=0).norm(dim=-1).mean()
    return f"position {error:.3f} px, sharpness {sharpness:.3f}, spread {spread:.3f} px"


def middle(images: Tensor) -> Tensor:
    """Return the centre of what is not white, (B, 2)."""
    weight = 255 - images[..., 1].float()
    total = weight.sum((-2, -1)).clamp(min=1)
    return torch.stack([(weight * axis).sum((-2, -1)) / total for axis in (COLUMNS, ROWS)], -1)


def gradient(images: Tensor) -> Tensor:
    """Return the mean squared difference of neighbouring pixels."""
    pixels = images.float() / 255
    return pixels.diff(dim=-3).square().mean() + pixels.diff(dim=-2).square().mean()


def main() -> None:
    """Run the experiment."""
    given = [float(text) for text in sys.argv[1:]]
    teacher_steps, student_steps, least = [*given, *(600, 600, LEAST_VISIBLE)[len(given) :]]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher, student = (build_world_model(SPEC, CONFIG) for _ in range(2))
    print("teacher")
    learn(teacher, int(teacher_steps), 2e-3, 0)
    for num_steps in (1, 2, 4, 16):
        print(f"  T = {num_steps}: {measure(teacher, num_steps)}", flush=True)
    student.load_state_dict(teacher.state_dict())
    student.config = replace(CONFIG, least_visible=least)
    student.few_steps = FewSteps(teacher=teacher, num_steps=2, teacher_steps=16)
    print(f"student, least_visible {least:g}")
    learn(student, int(student_steps), 1e-3, 500_000)
    print(f"  T = 2: {measure(student, 2)}")


if __name__ == "__main__":
    main()
