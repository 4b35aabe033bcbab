"""Guidance: the sampler goes past what a blurred context would have predicted.

    x^ = x^(c') + g (x^(c) - x^(c')),    c' = c + noise

After classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598), with a noisy context in
place of none (Bai et al. 2026, arXiv:2602.10095). g = 1 is no guidance. It takes a second
evaluation of the decoder at every step, and no second pass of the encoder.

Axes: B frames, N tokens in a frame, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from scd_wm.model import noise
from scd_wm.model.denoiser import DenoiserContext
from scd_wm.model.flow import Sampler

_NUM_VALUES = 4  # of a frame's noise that tell it from others; in half precision one would not


def blurred(context: Tensor, eps: Tensor, deviation: float) -> Tensor:
    """Return a context c, (B, N, D), with noise on it.

    Args:
        context: c.
        eps: Noise that the frame is sampled from, (B, M). The noise on c is a function of it, so it
            depends on nothing but the row and its frame, as all randomness of a rollout.
        deviation: Of the noise, in deviations of the values of each token.
    """
    # Of float32: devices may differ in the last bits of float64, and a key tells of every bit.
    bits = eps[:, :_NUM_VALUES].float().view(torch.int32).long()
    keys = reduce(noise.derive, bits.unbind(-1))
    scale = deviation * context.std(-1, correction=0, keepdim=True)
    return context + scale * noise.normal(keys, context[0].numel(), context.dtype).view_as(context)


def contexts(
    make: Callable[[Tensor], DenoiserContext],
    c: Tensor,
    eps: Tensor,
    sampler: Sampler,
    deviation: float,
) -> tuple[DenoiserContext, DenoiserContext | None]:
    """Return what a denoiser knows of the past, and what guidance leads away from, if there is any.

    Args:
        make: Prepares a context for the denoiser.
        c: The context, (B, N, D).
        eps: As in `blurred`.
        sampler: Says how much guidance there is.
        deviation: As in `blurred`.
    """
    return make(c), None if sampler.guidance == 1 else make(blurred(c, eps, deviation))
