"""Attention of frames to their past in one fused kernel, for GPUs: FlexAttention.

(Dong et al. 2024, arXiv:2412.05496.) It skips blocks of keys that nobody in a block of queries may
see, so it costs what the visible part does, needs no dense mask, and launches one kernel where
slices take one a frame. What is visible is worked out once for each shape and kept. On a CPU it has
no backward pass and is slower than slices.

Axes: B batch, T frames, N tokens, H heads, K width of a head.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

KERNELS = ("flex", "sliced")
VARIABLE = "SCD_WM_ATTENTION"  # of the environment: names one of them in place of our choice
HAS_TRITON = importlib.util.find_spec("triton") is not None
_FLEX: Callable[..., Tensor] = flex_attention  # its own type allows what we never ask for
_MASKS = 64  # shapes whose masks are kept


def is_chosen(q: Tensor, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether queries are to be attended for by the functions below.

    They are on a CUDA GPU with Triton, in the precisions that its kernels have.

    Raises:
        ValueError: If the environment names a kernel that there is not.
    """
    forced = environment.get(VARIABLE, "")
    if forced and forced not in KERNELS:
        raise ValueError(f"{VARIABLE} must be one of {KERNELS} or empty, got {forced!r}")
    if forced:
        return forced == "flex"
    return q.is_cuda and q.dtype != torch.float64 and HAS_TRITON


def attend_banded(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Do what `scd_wm.model.attention.attend_banded` does; axes (B, T, N, H, K)."""
    num_frames, num_tokens = q.shape[1:3]
    mask = band_mask(num_frames, num_tokens, window, q.device)
    mix = _attend(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), mask)
    return rearrange(mix, "b (t n) h k -> b t n h k", t=num_frames)


def attend_history(
    keys: Tensor, values: Tensor, window: int, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Do what `scd_wm.model.entangled.attend_history` does: (B T, N', H, K) on (B, T, N, H, K)."""
    batch, num_frames, num_clean = keys.shape[:3]
    num_noisy = q.shape[1]
    q, k, v = (rearrange(x, "(b t) n h k -> b (t n) h k", b=batch) for x in (q, k, v))
    k, v = (torch.cat([past.flatten(1, 2), new], 1) for past, new in ((keys, k), (values, v)))
    mask = history_mask(num_frames, num_clean, num_noisy, window, q.device)
    return rearrange(_attend(q, k, v, mask), "b (t n) h k -> (b t) n h k", t=num_frames)


@lru_cache(_MASKS)
def band_mask(num_frames: int, num_tokens: int, window: int, device: torch.device) -> BlockMask:
    """Return who sees whom where a frame sees itself and the `window - 1` frames before it."""

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        lag = query // num_tokens - key // num_tokens
        return (lag >= 0) & (lag < window)

    size = num_frames * num_tokens
    return create_block_mask(sees, None, None, size, size, device=device)


@lru_cache(_MASKS)
def history_mask(
    num_frames: int, num_clean: int, num_noisy: int, window: int, device: torch.device
) -> BlockMask:
    """Return who sees whom where a noisy frame sees clean ones and, after all those, itself.

    Args:
        num_frames: Frames T; noisy frame t sees clean frames t - `window` + 1 to t.
        num_clean: Tokens of a clean frame.
        num_noisy: Tokens of a noisy frame.
        window: Clean frames that are seen.
        device: Where the mask is to be.
    """
    start = num_frames * num_clean  # of the noisy keys

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        frame = query // num_noisy
        lag = frame - key // num_clean
        is_own = frame == (key - start) // num_noisy
        return torch.where(key < start, (lag >= 0) & (lag < window), is_own)

    num_queries = num_frames * num_noisy
    return create_block_mask(sees, None, None, num_queries, start + num_queries, device=device)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """Attend with axes (B, S, H, K)."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    # Without compilation, which a CPU is not given here, it would be a dense mask in disguise.
    attend = _compiled() if q.is_cuda else _FLEX
    return attend(q, k, v, block_mask=mask).transpose(1, 2)


@cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_FLEX)
