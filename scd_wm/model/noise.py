"""Random numbers that depend on a key only: never on batch size, order, device or earlier draws.

A key is an int64 made from (row seed, frame, purpose). Numbers are a hash of (key, position): the
finaliser of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def derive(keys: Tensor, index: Tensor | int) -> Tensor:
    """Return new keys from `keys`, (...) int64, and an index that broadcasts with them."""
    index = torch.as_tensor(index, device=keys.device)
    return _mix(keys * _GOLDEN + (index + 1) * _MIX_2)


def _hash(keys: Tensor, size: int) -> Tensor:
    counter = torch.arange(1, size + 1, device=keys.device) * _GOLDEN
    return _mix(_mix(keys)[..., None] + counter)  # (..., size)


def uniform(keys: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `size` numbers in (0, 1) for each key, (..., size)."""
    numbers = (_shift(_hash(keys, size), 40).to(torch.float32) + 0.5) * 2.0**-24
    return numbers.clamp(max=1 - 2.0**-24).to(dtype)  # the largest of all rounds to 1


def normal(keys: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `size` standard normal numbers for each key, (..., size), by Box and Muller."""
    # In float64: float32 logarithms differ in the last bit between the vectorised part of a tensor
    # and its tail, so that the same row would differ between batches.
    half = (size + 1) // 2
    bits = _hash(keys, half)
    first = (_shift(bits, 40).to(torch.float64) + 0.5) * 2.0**-24
    second = (bits & 0xFFFFFF).to(torch.float64) * (2 * math.pi * 2.0**-24)
    radius = (-2 * first.log()).sqrt()
    pairs = torch.cat([radius * second.cos(), radius * second.sin()], dim=-1)
    return pairs[..., :size].to(dtype)
