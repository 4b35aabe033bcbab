"""Faster execution of a world model for imagination: weights laid out as the processor reads them.

An engine is a way to run the same network; what it imagines is the same but for rounding.

plain   torch's own layers, as in training
packed  linear layers in oneDNN's blocked layout, with the activation that follows; on a CPU
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from scd_wm.model.world_model import WorldModel

# Below as many multiplications the call of oneDNN costs more than it saves.
LEAST_WORK = 2**20
PACKED_DTYPES = (torch.float32,)


def has_packed_operators() -> bool:
    """Return whether this build of torch has oneDNN's linear layer with packed weights."""
    has_ops = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and has_ops


class PackedLinear(nn.Linear):
    """A linear layer that multiplies by a packed copy of another one's weight.

    Args:
        like: The layer whose parameters it shares.
        has_gelu: Whether GELU, by tanh, follows.
    """

    def __init__(self, like: nn.Linear, has_gelu: bool = False) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = like.in_features, like.out_features
        self.weight, self.bias, self.has_gelu = like.weight, like.bias, has_gelu
        self.how = ("gelu", [], "tanh") if has_gelu else ("none", [], "")
        self._pack()

    def _pack(self) -> None:
        weight = self.weight.detach()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.version = self.weight._version

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() * self.out_features < LEAST_WORK or torch.is_grad_enabled():
            x = super().forward(x)
            return nn.functional.gelu(x, approximate="tanh") if self.has_gelu else x
        if self.version != self.weight._version:
            self._pack()
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, *self.how)


def prepare(model: WorldModel, engine: str = "auto") -> WorldModel:
    shared = [*model.parameters(), *model.buffers()]
    fast = copy.deepcopy(model, {id(x): x for x in shared})
    for parent in list(fast.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(parent, nn.Sequential):
                continue
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
            if isinstance(child, nn.Sequential):
                setattr(parent, name, nn.Sequential(*_packed(child)))
    return fast


def _packed(layers: nn.Sequential) -> Iterator[nn.Module]:
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.GELU):
            continue
        if isinstance(layer, nn.Linear):
            yield PackedLinear(layer, isinstance(after, nn.GELU))
        else:
            yield layer
