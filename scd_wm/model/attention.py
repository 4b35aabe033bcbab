"""Who attends to whom: all to all, frames to their past, and parts of the keys apart.

Axes: B batch, T frames, N tokens, S keys, H heads, K width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from scd_wm.model import attention_flex


def attend_all(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Every query sees every key: (..., N, H, K) queries on (..., S, H, K) keys and values.

    `mask` is a bool that broadcasts to (..., H, N, S), True where a query may look.
    """
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(-3, -2)


def attend_banded(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """A frame sees all of itself and of the `window - 1` frames before it; axes (B, T, N, H, K).

    One call a frame on a slice of the keys: exact, with a backward on CPU, and cheaper than one
    call with a dense (T N) x (T N) mask. A GPU, which would wait for so many small calls, has one
    kernel for all: see `attention_flex`.
    """
    if attention_flex.is_chosen(q):
        return attention_flex.attend_banded(q, k, v, window)
    frames = []
    for t in range(q.shape[1]):
        seen = slice(max(0, t - window + 1), t + 1)
        frames.append(attend_all(q[:, t], k[:, seen].flatten(1, 2), v[:, seen].flatten(1, 2)))
    return torch.stack(frames, dim=1)


def attend_part(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend to a part of the keys, to be joined with others by `merge_parts`.

    Args:
        q: Queries, (B, N, H, K).
        k: Keys of the part, (B, S, H, K).
        v: Its values, (B, S, H, K).
        mask: Bool, (B, 1, 1, S), True where queries may look; each row has such a key.

    Returns:
        The mix, (B, N, H, K), and the logarithm of the sum of exponentials, (B, N, H, 1).
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    bias = None
    if mask is not None:
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -torch.inf)
    if q.device.type == "cpu":
        # What scaled_dot_product_attention calls on a CPU; it alone also gives the logarithm.
        op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        mix, log_sum = op(q, k, v, attn_mask=bias)
    else:
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        scores = scores if bias is None else scores + bias
        log_sum = scores.logsumexp(-1)
        mix = (scores - log_sum[..., None]).exp() @ v
    return mix.transpose(1, 2), rearrange(log_sum, "b h n -> b n h 1")


def merge_parts(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Return attention to the keys of both parts, from what `attend_part` gave for each."""
    total = torch.logaddexp(first[1], second[1])
    return first[0] * (first[1] - total).exp() + second[0] * (second[1] - total).exp()
