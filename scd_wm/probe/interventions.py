"""A diffuser's blocks as they are, left out, without the past, or run at the first step only.

All of it happens in the network that denoises; the past is read as always, unless it says so.

Axes: F frames, M values of a frame, N tokens, D width, S keys, H heads, C width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from scd_wm.model import flow
from scd_wm.model.attention import attend_all
from scd_wm.probe.protocol import Blocks, ProbedAttend, ProbedFrames, attend_plainly

Layers = frozenset[int]
NOTHING: Layers = frozenset()
Output = Callable[[int, Tensor, Tensor], Tensor]
"""Takes a layer, its tokens in and out, (F, N, D); returns what goes on to the next layer."""


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """What is changed in which layers; nothing by default."""

    skipped: Layers = NOTHING  # let tokens pass as they came
    blind: Layers = NOTHING  # see the frame itself and no past
    blind_later: Layers = NOTHING  # the same from the sampler's second step on
    once: Layers = NOTHING  # run at the sampler's first step; later its update is added again


@contextmanager
def replaced_outputs(blocks: Blocks, output: Output) -> Iterator[None]:
    """While the context lasts, let what `output` returns leave each block.

    Blocks run all the same, so what they do besides, such as keeping keys, is done.
    """

    def hook(layer: int) -> Callable[..., Tensor]:
        def after(module: nn.Module, given: tuple[Any, ...], result: Tensor) -> Tensor:
            return output(layer, given[0], result)

        return after

    handles = [b.register_forward_hook(hook(layer)) for layer, b in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def skipping(layers: Layers) -> Output:
    """Return an output that lets tokens pass some layers as they came."""
    return lambda layer, given, result: given if layer in layers else result


def blind(layers: Layers, ask: ProbedAttend = attend_plainly) -> ProbedAttend:
    """Return an attention that sees no past in some layers, and in others is what `ask` does."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, lags: Tensor) -> Tensor:
        if layer not in layers:
            return ask(layer, q, k, v, lags)
        own = lags == 0
        return attend_all(q, k[:, own], v[:, own])

    return attend


@dataclass
class _Sampling:
    """A sampler under way: which step it is at, and updates of the first one."""

    intervention: Intervention
    step: int = 0
    updates: dict[int, Tensor] = field(default_factory=dict)  # per layer, (F, N, D)

    def output(self, layer: int, given: Tensor, result: Tensor) -> Tensor:
        """Return what leaves a block; see `Intervention`."""
        if layer in self.intervention.skipped:
            return given
        if layer not in self.intervention.once:
            return result
        if self.step == 0:
            self.updates[layer] = result - given
        return given + self.updates[layer]

    @property
    def without_past(self) -> Layers:
        """Layers that see no past at this step."""
        later = self.intervention.blind_later if self.step else NOTHING
        return self.intervention.blind | later


def sample(
    frames: ProbedFrames,
    blocks: Blocks,
    eps: Tensor,
    num_steps: int,
    intervention: Intervention,
    attend: ProbedAttend = attend_plainly,
    saw: Callable[[int, int, Tensor], None] | None = None,
) -> Tensor:
    """Sample frames by Euler steps from s = 1 to s = 0, with some layers changed.

    A layer that runs once adds at every later step the update that it made at the first: the
    difference between its output and its input there, so that what other layers add still counts.

    Args:
        frames: With their past.
        blocks: Of the diffuser.
        eps: Noise to begin with, (F, M).
        num_steps: Sampler steps T.
        intervention: What is changed.
        attend: What attends where the intervention does not.
        saw: Is told the step, the layer and the tokens that leave it, (F, N, D).

    Returns:
        The frames, (F, M).
    """
    levels, state = flow.levels(num_steps), _Sampling(intervention)

    def output(layer: int, given: Tensor, result: Tensor) -> Tensor:
        tokens = state.output(layer, given, result)
        if saw is not None:
            saw(state.step, layer, tokens)
        return tokens

    def denoise(step: int, noisy: Tensor) -> Tensor:
        state.step = step
        return frames.denoise(noisy, levels[step], blind(state.without_past, attend))

    with replaced_outputs(blocks, output):
        return flow.euler(denoise, eps, levels)
