"""A diffuser that samples undisturbed: its features and where its attention goes, probes A and B.

Axes: L layers, S sampler steps, B clips, K frames of each that are denoised, F = B K of them, clip
by clip, N tokens, D width, H heads, C width of a head, G lags, 0 first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.model import noise
from scd_wm.probe.attention_mass import attend_by_lag, uniform_share
from scd_wm.probe.config import ProbeConfig
from scd_wm.probe.interventions import Intervention, sample
from scd_wm.probe.protocol import ProbedDiffuser, ProbedFrames
from scd_wm.probe.redundancy import Alike, compare

Array = NDArray[np.float64]
Tick = Callable[[], object]


@dataclass(frozen=True)
class Seen:
    """What is seen of a diffuser that samples undisturbed."""

    features: Tensor  # (L, S, F, N, D) tokens that leave each block, on the CPU
    alike: list[dict[str, Alike]]  # per layer and measure
    mass: Array  # (L, S, F, H, G) of attention, mean over the tokens of a frame
    uniform: float  # mass on the past if all keys got the same


@dataclass
class _Watcher:
    """Keeps what it is told of while a batch is sampled."""

    tokens: slice
    num_lags: int
    features: list[Tensor] = field(default_factory=list)  # (F, N, D), layers of a step in order
    masses: list[Tensor] = field(default_factory=list)  # (F, H, G)
    uniform: float = 0.0

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, lags: Tensor) -> Tensor:
        """Attend, and keep the mass by lag; see `ProbedAttend`."""
        mix, mass = attend_by_lag(q, k, v, lags, self.num_lags)
        self.masses.append(mass[:, self.tokens].mean(1))
        self.uniform = uniform_share(lags)
        return mix

    def saw(self, step: int, layer: int, tokens: Tensor) -> None:
        """Keep the tokens that leave a layer."""
        self.features.append(tokens[:, self.tokens].cpu())


@torch.no_grad()
def watch(diffuser: ProbedDiffuser, clips: Sequence[Clip], config: ProbeConfig, tick: Tick) -> Seen:
    """Sample undisturbed, and keep features and attention mass.

    All features are kept at once, L S F N D numbers: fewer clips or steps need less memory.

    Raises:
        ValueError: If a layer attends in another way than by what it was given.
    """
    num_layers = len(diffuser.blocks)
    features, masses = [], []
    for _, frames, eps in read_batches(diffuser, clips, config):
        watcher = _Watcher(diffuser.tokens, diffuser.history + 1)
        plan = (diffuser.blocks, eps, config.num_steps, Intervention())
        sample(frames, *plan, attend=watcher.attend, saw=watcher.saw)
        _check(watcher, num_layers, config.num_steps)
        features.append(_by_layer(watcher.features, num_layers))
        masses.append(_by_layer(watcher.masses, num_layers))
        tick()
    joined = torch.cat(features, dim=2)  # (L, S, F, N, D)
    num_clips = sum(len(clip.action_valid) for clip in clips)
    alike = [compare(layer, num_clips) for layer in joined]
    mass = torch.cat(masses, dim=2).double().cpu().numpy()
    return Seen(joined, alike, mass, watcher.uniform)


def _check(watcher: _Watcher, num_layers: int, num_steps: int) -> None:
    wanted = num_layers * num_steps
    for what, kept in (("ran blocks", watcher.features), ("asked to attend", watcher.masses)):
        if len(kept) != wanted:
            raise ValueError(
                f"the model {what} {len(kept)} times in {num_steps} steps of {num_layers} blocks; "
                f"each block must run and ask once a step, {wanted} times"
            )


def _by_layer(kept: Sequence[Tensor], num_layers: int) -> Tensor:
    """Return (L, S, ...) of what was kept layer after layer and step after step."""
    return rearrange(list(kept), "(s l) ... -> l s ...", l=num_layers)


def read_batches(
    diffuser: ProbedDiffuser, clips: Sequence[Clip], config: ProbeConfig
) -> Iterator[tuple[Clip, ProbedFrames, Tensor]]:
    """Yield each batch, its frames with their past, and noise, (F, M), the same at every call."""
    first = 0
    for clip in clips:
        frames = diffuser.read(clip)
        target = frames.target
        index = torch.arange(first, first + len(target))
        keys = noise.derive(torch.tensor([config.seed]), index)
        eps = noise.normal(keys, target.shape[1])
        yield clip, frames, eps.to(target)
        first += len(target)
