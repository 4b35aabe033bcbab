"""Probe B: how much attention goes to past frames, by layer, head and lag.

Axes: F frames, N tokens of a frame, S keys, H heads, C width of a head, G lags, 0 first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scd_wm.model.attention import attend_part


def attend_by_lag(
    q: Tensor, k: Tensor, v: Tensor, lags: Tensor, num_lags: int
) -> tuple[Tensor, Tensor]:
    """Attend to all keys, and say how much of the attention each lag gets.

    The softmax's mass on a set of keys is exp(m - M), with m the logarithm of the sum of the
    exponentials of its scores, which attention kernels keep, and M that of all keys. So the keys of
    each lag are attended to apart (with the logarithm, on a CPU without a map in memory; elsewhere
    with the map of one lag at a time) and joined, as in `scd_wm.model.attention.merge_parts`.

    Args:
        q: Queries as they enter the product, (F, N, H, C).
        k: Keys, (F, S, H, C).
        v: Values, (F, S, H, C).
        lags: How many frames back each key is, (S,) int from 0 to `num_lags` - 1.
        num_lags: G.

    Returns:
        The mix, (F, N, H, C), and the mass by lag, (F, N, H, G), which sums to 1.
    """
    found = sorted({int(lag) for lag in lags})
    parts = [attend_part(q, k[:, lags == lag], v[:, lags == lag]) for lag in found]
    log_sums = torch.cat([log_sum for _, log_sum in parts], dim=-1)  # (F, N, H, lags found)
    share = (log_sums - log_sums.logsumexp(-1, keepdim=True)).exp()
    mix = sum(part * share[..., i, None] for i, (part, _) in enumerate(parts))
    mass = share.new_zeros(*share.shape[:-1], num_lags)
    mass[..., found] = share
    assert isinstance(mix, Tensor)
    return mix, mass


def uniform_share(lags: Tensor) -> float:
    """Return the mass on the past if all keys got the same: F / (F + 1) for F equal past frames."""
    return float((lags > 0).double().mean())
