"""Operations that torch really runs, for the cost model to be held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

BACKWARD_PRODUCTS = 5  # of attention: four gradients, and the scores once more; the forward has 2


def count_flops(run: Callable[[], object]) -> int:
    """Return the operations of the matrix products, convolutions and attention of a call."""
    with FlopCounterMode(display=False, custom_mapping=_on_cpu()) as counter:
        run()
    return counter.get_total_flops()


def _on_cpu() -> dict[Any, Any]:
    # torch's table has the attention kernels of GPUs only.
    return {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return 2 * _product(q, k)


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return BACKWARD_PRODUCTS * _product(q, k)


def _product(q: Any, k: Any) -> int:
    """Operations of queries (B, H, N, K) by keys (B, H, S, K), given as shapes."""
    batch, heads, num_queries, width = q
    return 2 * batch * heads * num_queries * k[2] * width
