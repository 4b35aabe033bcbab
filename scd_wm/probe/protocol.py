"""What a causal video diffuser gives to be probed; `entangled.py` is an example of it.

A model of your own needs three things: its blocks as modules that take and return tokens, a way to
read a clip, and an attention that asks `attend` in place of attending itself.

    scd-wm probe my_module:my_function DATA --out DIR

calls `my_function()`, which returns a `ProbedDiffuser`; `scd_wm.probe.measure.probe` is the same
from Python.

Axes: B clips, K frames of each that are denoised, F = B K of them, clip by clip, M values of a
frame, N tokens of a frame as the blocks see it, S keys, D width, H heads, C width of a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from torch import Tensor, nn

from scd_wm.clip import Clip
from scd_wm.model.attention import attend_all
from scd_wm.named_object import load_named

Blocks = Sequence[nn.Module] | nn.ModuleList

ProbedAttend = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Attends for a layer while frames are denoised.

Takes the layer, queries as they enter the scaled dot product (so rotated and normed already),
(F, N, H, C), keys and values, (F, S, H, C), and how many frames back each key is, (S,) int, 0 for
the frame being denoised. Returns the mix, (F, N, H, C).
"""


def attend_plainly(layer: int, q: Tensor, k: Tensor, v: Tensor, lags: Tensor) -> Tensor:
    """Attend to all keys in every layer: a model as it is; see `ProbedAttend`."""
    return attend_all(q, k, v)


class ProbedFrames(ABC):
    """Frames to be denoised, and a past that was read.

    The path is x_s = (1 - s) x + s eps, from data x at s = 0 to noise at s = 1.

    Args:
        target: The frames themselves, x, as the network sees them, (F, M).
        last: The frame before each, (F, M).
    """

    def __init__(self, target: Tensor, last: Tensor) -> None:
        self.target, self.last = target, last

    @abstractmethod
    def denoise(self, noisy: Tensor, level: float, attend: ProbedAttend) -> Tensor:
        """Run all blocks once and return the sample x^ that the network predicts, (F, M).

        Args:
            noisy: x_s, (F, M).
            level: s, above 0.
            attend: Has to do the attention of every layer.
        """

    def loss(self, noisy: Tensor, eps: Tensor, level: float, attend: ProbedAttend) -> Tensor:
        """Return the training loss of every frame at a noise level, (F,).

        Unless told otherwise the squared error of the velocity eps - x, which is that of the sample
        over s^2.
        """
        sample = self.denoise(noisy, level, attend)
        return ((sample - self.target) / level).square().mean(1)

    def error(self, sample: Tensor) -> Tensor:
        """Return the error of sampled frames, (F,): unless told otherwise the mean square."""
        return (sample - self.target).square().mean(1)


class ProbedDiffuser(Protocol):
    """A causal video diffuser that can be probed."""

    @property
    def blocks(self) -> Blocks:
        """The layers in order. Each takes tokens (F, N, D) first and returns them as (F, N, D)."""

    @property
    def tokens(self) -> slice:
        """Which of the N tokens are the frame; the others are not looked at."""

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the image that the first of these tokens are; None if they are none.

        For pictures of the features.
        """

    @property
    def history(self) -> int:
        """Past frames that every probed frame sees."""

    def read(self, clip: Clip) -> ProbedFrames:
        """Read batched clips of `history` + K frames, to denoise the last K of each."""


PARTS = ("blocks", "tokens", "grid", "history", "read")


def check_diffuser(found: object, name: str) -> ProbedDiffuser:
    """Return an object that can be probed.

    Raises:
        ValueError: If it cannot; says what it lacks.
    """
    missing = [part for part in PARTS if not hasattr(found, part)]
    if missing:
        raise ValueError(
            f"{name} is a {type(found).__name__} without {', '.join(missing)}; to be probed a "
            f"model needs {', '.join(PARTS)}, see scd_wm.probe.protocol"
        )
    diffuser = cast("ProbedDiffuser", found)
    if len(diffuser.blocks) < 2 or diffuser.history < 1:
        raise ValueError(
            f"{name} must have 2 blocks or more and a history of 1 frame or more, it has "
            f"{len(diffuser.blocks)} and {diffuser.history}"
        )
    return diffuser


def is_function(text: str) -> bool:
    """Say whether a text is of the form module:function."""
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), name])


def load_diffuser(text: str) -> ProbedDiffuser:
    """Return what a function of the user's gives to be probed.

    Args:
        text: "module:function".

    Raises:
        ValueError: If there is no such function, or what it gives cannot be probed.
    """
    function = load_named(text, "model")
    if not callable(function):
        raise ValueError(f"{text!r} is a {type(function).__name__}, which cannot be called")
    return check_diffuser(function(), f"what {text} gives")
