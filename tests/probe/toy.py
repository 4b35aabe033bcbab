"""A causal diffuser small enough to be worked by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.probe.protocol import ProbedAttend, ProbedFrames

NUM_TOKENS = 2
GAINS = (1.0, 0.5, -0.3)


class ToyBlock(nn.Module):
    """Adds a multiple of the noise level, and of what attention finds, to every token."""

    def __init__(self, gain: float, mixes: bool) -> None:
        super().__init__()
        self.gain, self.mixes = gain, mixes

    def forward(self, x: Tensor, level: float, attend: Callable[[Tensor], Tensor]) -> Tensor:
        mix = attend(x[..., None, :])[..., 0, :]
        return x + self.gain * level + (0.1 * mix if self.mixes else 0.0)


class ToyFrames(ProbedFrames):
    """All vectors of a clip's frames as two tokens."""

    def __init__(self, clip: Clip, blocks: nn.ModuleList) -> None:
        frames = torch.cat(list(clip.vectors.values()), -1)  # (B, T, M)
        super().__init__(frames[:, 1:].flatten(0, 1), frames[:, :-1].flatten(0, 1))
        self.blocks = blocks

    def denoise(self, noisy: Tensor, level: float, attend: ProbedAttend) -> Tensor:
        x, past = (rearrange(y, "f (n d) -> f n d", n=NUM_TOKENS) for y in (noisy, self.last))
        lags = torch.tensor([1] * NUM_TOKENS + [0] * NUM_TOKENS)
        for layer, block in enumerate(self.blocks):

            def mix(q: Tensor, layer: int = layer) -> Tensor:
                keys = torch.cat([past[:, :, None], q], 1)
                return attend(layer, q, keys, keys, lags)

            x = block(x, level, mix)
        return x.flatten(1)


class Toy:
    """Three blocks; see `ToyBlock`."""

    grid = None
    history = 1
    tokens = slice(0, NUM_TOKENS)

    def __init__(self, mixes: bool = True) -> None:
        self.blocks = nn.ModuleList(ToyBlock(gain, mixes) for gain in GAINS)

    def read(self, clip: Clip) -> ToyFrames:
        return ToyFrames(clip, self.blocks)


def toy() -> Toy:
    """Return a toy, as `scd-wm probe tests.probe.toy:toy` asks for it."""
    return Toy()


def clips(num_frames: int, batches: int = 2, size: int = 3) -> list[Clip]:
    """Return batches of random clips of a world of two vectors, 2 + 4 values."""
    return [testing.clip(testing.state_spec(), size, num_frames, seed) for seed in range(batches)]


def a_number() -> int:
    """Return what cannot be probed."""
    return 7
