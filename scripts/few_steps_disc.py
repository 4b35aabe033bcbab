"""Distil two sampler steps from many in a small world of chance: what is gained and lost.

A red disc in 16 x 16 pixels takes random steps that no action tells of, so that many futures are
possible and one step gives their blurred mean. A model of 0.4 M parameters is trained, then a copy
of it learns to reach in two steps what it reaches in many. Printed for each, over three noise
seeds, with half the width of a 95 % interval over starts:

- position: the distance of the disc from where it went, in pixels;
- energy: that less half the mean distance of two futures from one start, in pixels. It is least
  where futures are as likely as they are in the world (energy score; Gneiting and Raftery 2007);
- sharpness: squared gradient over that of the real frames;
- shape: root mean square difference from a disc drawn at the place that was found, of 255;
- spread: standard deviation of futures from one start, in pixels.

usage: python scripts/few_steps_disc.py [TEACHER STEPS] [STUDENT STEPS] [SEED]
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
SAMPLERS = [("euler", 1), *((s, n) for s in ("euler", "heun") for n in (2, 3, 4, 8, 16))]
ROWS, COLUMNS = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")


def clips(batch: int, seed: int) -> tuple[Clip, Tensor]:
    """Return clips of three frames and where the disc is in them, (B, 3, 2)."""
    random = torch.Generator().manual_seed(seed)
    start = 5 + 6 * torch.rand(batch, 1, 2, generator=random)
    steps = STEP * torch.randn(batch, 2, 2, generator=random)
    place = torch.cat([start, start + steps.cumsum(1)], 1).clamp(RADIUS, SIZE - 1 - RADIUS)
    images = discs(place).round().to(torch.uint8)
    nothing = imagination.start_frame(SPEC, batch)
    clip = replace(
        nothing,
        images={"top": images},
        actions=torch.zeros(batch, 2, 1),
        valid={"top": torch.ones(batch, 3, dtype=torch.bool)},
        action_valid=torch.ones(batch, 2, dtype=torch.bool),
    )
    return clip, place


def discs(place: Tensor) -> Tensor:
    """Return images, 0 to 255, of a disc at each place, (..., H, W, 3)."""
    gap = torch.stack([COLUMNS, ROWS], dim=-1) - place[..., None, None, :]
    cover = (RADIUS + 0.5 - gap.norm(dim=-1)).clamp(0, 1)[..., None]
    return 255 + cover * (RED - 255)


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


def measure(model: WorldModel, solver: str, num_steps: int) -> str:
    """Return what a model imagines in some sampler steps, as text."""
    clip, place = clips(STARTS, seed=10**6)
    history, no_action = clip.frames(0, 2), torch.zeros(STARTS, 1, 1)
    futures = torch.stack([
        rollout(
            model.eval(), history, no_action, seeds=torch.arange(STARTS) + STARTS * k,
            num_steps=num_steps, solver=solver,
        ).images["top"][:, 0]
        for k in range(NOISE_SEEDS)
    ])  # fmt: skip
    found = middle(futures)  # (noise seeds, starts, 2)
    error = (found - place[:, 2]).norm(dim=-1).mean(0)
    apart = (found - found.roll(1, 0)).norm(dim=-1).mean(0)
    scores = {
        "position": error,
        "energy": error - apart / 2,
        "sharpness": gradient(futures).mean(0) / gradient(clip.images["top"][:, 2]).mean(),
        "shape": (futures - discs(found)).square().mean((0, 2, 3, 4)),
        "spread": found.std(dim=0).norm(dim=-1),
    }
    scores["shape"] = scores["shape"].sqrt()
    return ", ".join(f"{name} {interval(values)}" for name, values in scores.items())


def interval(values: Tensor) -> str:
    """Return the mean of values and half the width of its 95 % interval."""
    return f"{values.mean():.3f} ({1.96 * values.std() / len(values) ** 0.5:.3f})"


def middle(images: Tensor) -> Tensor:
    """Return the centre of what is not white, (..., 2)."""
    weight = 255 - images[..., 1].float()
    total = weight.sum((-2, -1)).clamp(min=1)
    return torch.stack([(weight * axis).sum((-2, -1)) / total for axis in (COLUMNS, ROWS)], -1)


def gradient(images: Tensor) -> Tensor:
    """Return the mean squared difference of neighbouring pixels, (...)."""
    pixels = images.float() / 255
    across = [pixels.diff(dim=axis).square().mean((-3, -2, -1)) for axis in (-3, -2)]
    return across[0] + across[1]


def main() -> None:
    """Run the experiment."""
    given = [int(text) for text in sys.argv[1:]]
    teacher_steps, student_steps, seed = [*given, *(600, 600, 0)[len(given) :]]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    teacher, student = (build_world_model(SPEC, CONFIG) for _ in range(2))
    print("teacher")
    learn(teacher, teacher_steps, 2e-3, 10**7 * seed)
    student.load_state_dict(teacher.state_dict())
    student.config = replace(CONFIG, draws=1, least_visible=LEAST_VISIBLE)
    student.few_steps = FewSteps(teacher=teacher, num_steps=2, teacher_steps=16)
    for name, model in (("teacher", teacher), ("student", student)):
        if model is student:
            learn(model, student_steps, 1e-3, 10**7 * seed + 500_000)
        for solver, num_steps in SAMPLERS:
            print(f"{name}, {solver} {num_steps}: {measure(model, solver, num_steps)}", flush=True)


if __name__ == "__main__":
    main()
