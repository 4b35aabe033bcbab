"""A data set of a disc that moves by its action, and world models that know it more or less."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.evaluation.locate import TrackedColour
from scd_wm.imagination import Frames
from scd_wm.spec import CameraSpec, Spec, VectorSpec

SIZE = 32
BLUE = TrackedColour((40, 60, 230), 60)
SPEC = Spec(
    cameras={"top": CameraSpec(height=SIZE, width=SIZE)},
    vectors={"disc_pos": VectorSpec.unit(2)},
    action=VectorSpec.unit(2),
    outcomes=("reward", "success"),
    fps=10.0,
)


def draw(position: Tensor, radius: float = 4.0) -> Tensor:
    """Draw a blue disc with smooth edges on white, (..., H, W, 3) uint8; (x, y) is its centre."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    gap = torch.stack([x, y], dim=-1) - position[..., None, None, :]
    cover = (radius + 0.5 - gap.norm(dim=-1)).clamp(0, 1)[..., None]
    return (255 + cover * (torch.tensor(BLUE.rgb) - 255)).round().to(torch.uint8)


def outcome_of(position: Tensor) -> dict[str, Tensor]:
    return {"reward": position[..., 0] / SIZE, "success": (position[..., 0] > SIZE / 2).float()}


@dataclass(frozen=True)
class Episode:
    name: str
    num_observations: int


class MovingDisc:
    """Episodes in which the disc takes random steps of one or two pixels."""

    def __init__(self, lengths: tuple[int, ...], seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.episodes = [Episode(f"episode_{i}", n) for i, n in enumerate(lengths)]
        self.actions = [torch.randn(n - 1, 2, generator=generator) for n in lengths]
        starts = [SIZE / 2 + torch.randn(1, 2, generator=generator) for _ in lengths]
        self.positions = [
            torch.cat([s, s + a.cumsum(0)]) for s, a in zip(starts, self.actions, strict=True)
        ]

    def clip(self, episode: int, start: int, num_frames: int) -> Clip:
        rows = slice(start, start + num_frames)
        position = self.positions[episode][rows]
        assert len(position) == num_frames, "the clip leaves the episode"
        seen = torch.ones(num_frames, dtype=torch.bool)
        known = torch.arange(start, start + num_frames) > 0
        return Clip(
            images={"top": draw(position)},
            vectors={"disc_pos": position},
            outcome=outcome_of(position),
            actions=self.actions[episode][start : start + num_frames - 1],
            valid={"top": seen, "disc_pos": seen.clone(), "reward": known, "success": known},
            action_valid=seen[1:],
            episode=self.episodes[episode].name,
        )


def perfect(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
    """The true world."""
    position = history.vectors["disc_pos"][:, -1:] + actions.cumsum(dim=1)
    return Frames({"top": draw(position)}, {"disc_pos": position}, outcome_of(position))


def noisy(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
    """The true world with steps that are off by noise keyed by the clip's seed."""
    noise = [
        torch.randn(actions.shape[1:], generator=torch.Generator().manual_seed(int(s)))
        for s in seeds
    ]
    return perfect(history, actions + 0.3 * torch.stack(noise), seeds)
