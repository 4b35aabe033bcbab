"""The three probes of a causal video diffuser, on clips; `summary.py` makes sense of them.

Axes: L layers, S sampler steps, B clips, K frames of each that are denoised, F = B K of them, clip
by clip, M values of a frame, N tokens, D width, H heads, G lags, 0 first, R noise levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.probe.config import ProbeConfig
from scd_wm.probe.interventions import (
    NOTHING,
    Intervention,
    Layers,
    blind,
    replaced_outputs,
    sample,
    skipping,
)
from scd_wm.probe.protocol import ProbedDiffuser, ProbedFrames
from scd_wm.probe.watch import Seen, Tick, read_batches, watch
from scd_wm.progress import progress_bar

Array = NDArray[np.float64]

FULL, ONE_STEP, COPIED = "full", "one step", "last frame copied"
MIDDLE_ONCE, MIDDLE_SKIPPED = "middle once", "middle skipped"


@dataclass(frozen=True)
class Losses:
    """Loss at each noise level, as it is and with one layer changed."""

    full: Array  # (F, R)
    skipped: Array  # (L, F, R) the layer is left out while denoising; the past was read with it
    left_out: Array  # (L, F, R) ... also while the past is read
    blind: Array  # (L, F, R) the layer sees no past while denoising


@dataclass(frozen=True)
class Sampled:
    """Frames sampled with some layers changed."""

    error: Array  # (F,) from the real frame
    moved: Array  # (F,) from the frame that the whole network samples from the same noise


@dataclass(frozen=True)
class Probes:
    """All that was measured."""

    seen: Seen
    losses: Losses
    samples: dict[str, Sampled]  # by intervention
    groups: NDArray[np.int64]  # (F,) frames of one number belong to one episode


def middle_layers(num_layers: int, config: ProbeConfig) -> range:
    """Return the layers that count as the middle: all but the first and the last quarter.

    Raises:
        ValueError: If the configuration names layers that are not there.
    """
    if config.middle is None:
        edge = max(1, num_layers // 4)
        return range(edge, max(num_layers - edge, edge + 1))
    first, last = config.middle
    if not 0 <= first <= last < num_layers:
        raise ValueError(f"middle must be layers from 0 to {num_layers - 1}, got {first}:{last}")
    return range(first, last + 1)


def probe(
    diffuser: ProbedDiffuser,
    clips: Sequence[Clip],
    config: ProbeConfig,
    groups: Sequence[int] | None = None,
    progress: bool = False,
) -> Probes:
    """Probe a diffuser.

    Args:
        diffuser: In evaluation mode; what a user's own has to give is checked by
            `protocol.check_diffuser`.
        clips: Batches of clips of `history` + K frames, on the diffuser's device; together 5 clips
            or more.
        config: How.
        groups: The episode of each clip; None: all are of different ones.
        progress: Show a progress bar.

    Raises:
        ValueError: If there are too few clips or frames.
    """
    config.check_clips([len(c.action_valid) for c in clips], "given")
    per_clip = clips[0].num_frames - diffuser.history
    if per_clip < 2:
        raise ValueError(
            f"clips must have 2 frames or more after {diffuser.history} of history, got {per_clip}"
        )
    num_layers = len(diffuser.blocks)
    changes = interventions(num_layers, config)
    passes = len(clips) * (1 + 1 + 3 * num_layers + len(changes))
    with progress_bar(total=passes, desc="probe", unit="pass", disable=not progress) as bar:
        seen = watch(diffuser, clips, config, bar.update)
        losses = probe_losses(diffuser, clips, config, bar.update)
        samples = probe_samples(diffuser, clips, config, changes, bar.update)
    num_clips = len(losses.full) // per_clip
    every = np.array(range(num_clips) if groups is None else groups, dtype=np.int64)
    return Probes(seen, losses, samples, every.repeat(per_clip))


def interventions(num_layers: int, config: ProbeConfig) -> dict[str, Intervention]:
    """Return by name what is changed in the sampler."""
    middle = frozenset(middle_layers(num_layers, config))
    single = {f"once {i}": Intervention(once=frozenset({i})) for i in range(num_layers)}
    return {
        FULL: Intervention(),
        **single,
        MIDDLE_ONCE: Intervention(once=middle),
        MIDDLE_SKIPPED: Intervention(skipped=middle),
    }


@torch.no_grad()
def probe_losses(
    diffuser: ProbedDiffuser, clips: Sequence[Clip], config: ProbeConfig, tick: Tick
) -> Losses:
    """Measure the loss as it is and with each layer changed, with the same noise."""
    num_layers = len(diffuser.blocks)
    names = ("skipped", "left_out", "blind")
    full: list[Tensor] = []
    changed: dict[str, list[Tensor]] = {name: [] for name in names}
    for clip, frames, eps in read_batches(diffuser, clips, config):
        full.append(_losses(frames, eps, config))
        tick()
        rows: dict[str, list[Tensor]] = {name: [] for name in names}
        for layer in range(num_layers):
            layers = frozenset({layer})
            with replaced_outputs(diffuser.blocks, skipping(layers)):
                rows["skipped"].append(_losses(frames, eps, config))
                rows["left_out"].append(_losses(diffuser.read(clip), eps, config))
            rows["blind"].append(_losses(frames, eps, config, layers))
            for _ in names:
                tick()
        for name in names:
            changed[name].append(torch.stack(rows[name]))
    tables = {n: torch.cat(x, dim=1).double().cpu().numpy() for n, x in changed.items()}
    return Losses(torch.cat(full).double().cpu().numpy(), **tables)


def _losses(
    frames: ProbedFrames, eps: Tensor, config: ProbeConfig, without_past: Layers = NOTHING
) -> Tensor:
    """Return the loss of every frame at every level, (F, R)."""
    attend = blind(without_past)
    columns = []
    for level in config.levels:
        noisy = torch.lerp(frames.target, eps, level)
        columns.append(frames.loss(noisy, eps, level, attend))
    return torch.stack(columns, dim=1)


@torch.no_grad()
def probe_samples(
    diffuser: ProbedDiffuser,
    clips: Sequence[Clip],
    config: ProbeConfig,
    changes: Mapping[str, Intervention],
    tick: Tick,
) -> dict[str, Sampled]:
    """Sample frames under interventions, all from the same noise.

    Args:
        diffuser: To be probed.
        clips: Batches.
        config: How.
        changes: By name; `FULL`, no change, is what the others are compared with.
        tick: Called after each.

    Returns:
        By the same names; with `FULL` also of one sampler step, and of the last frame copied.
    """
    errors: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for _, frames, eps in read_batches(diffuser, clips, config):
        run = partial(sample, frames, diffuser.blocks, eps)
        plain = run(config.num_steps, Intervention())
        made = {}
        for name, change in changes.items():
            made[name] = plain if change == Intervention() else run(config.num_steps, change)
            tick()
        if FULL in changes:
            made[ONE_STEP] = run(1, Intervention())
            made[COPIED] = frames.last
        for name, frame in made.items():
            moved = frames.error(frames.target + (frame - plain))
            errors.setdefault(name, []).append((frames.error(frame), moved))
    return {name: _sampled(parts) for name, parts in errors.items()}


def _sampled(parts: Sequence[tuple[Tensor, Tensor]]) -> Sampled:
    error, moved = (torch.cat(x).double().cpu().numpy() for x in zip(*parts, strict=True))
    return Sampled(error, moved)
