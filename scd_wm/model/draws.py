"""The mean loss of K noise draws, at the memory of one.

Autograd would keep the activations of all draws until one backward pass. But draws share nothing
except what they are given, so each can be differentiated down to that as soon as it is made; the
sum of these gradients then goes on to whatever came before, the encoder, in the usual backward
pass. The gradient is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")
Parts = dict[str, Tensor]
Loss = tuple[Tensor, Parts]
"""A scalar, and the parts that it is made of."""


def mean_loss(one: Callable[[S, int], Loss], count: int, shared: S) -> Loss:
    """Return the mean of `one(shared, draw)` over draws 0 to `count` - 1.

    Args:
        one: Returns the loss of a draw and its parts, scalars by name.
        count: Draws K.
        shared: What all draws are made from: tensors in any nest of dataclasses, dicts, lists and
            tuples.

    Returns:
        The means; the parts are for looking at and have no gradient.
    """
    total, parts = zip(*(one(shared, draw) for draw in range(count)), strict=True)
    return torch.stack(total).mean(), _mean_parts(parts)


def staged_mean_loss(
    one: Callable[[S, int], Loss], count: int, shared: S, parameters: Iterable[Tensor]
) -> Loss:
    """Return what `mean_loss` does, holding the activations of one draw at a time.

    The loss can be differentiated once: its gradients are known, not how they came about.

    Args:
        one: As for `mean_loss`; depends on nothing that has a gradient but `shared` and
            `parameters`.
        count: Draws K.
        shared: As for `mean_loss`.
        parameters: Leaves that `one` uses.
    """
    origins: list[Tensor] = []
    leaves: list[Tensor] = []

    def cut(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        origins.append(tensor)
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    own = _map_tensors(shared, cut)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not leaves and not trained:
        return mean_loss(one, count, shared)
    sums = _Sums([*leaves, *trained])  # first, since memory taken between activations scatters them
    losses: list[Tensor] = []
    seen: list[Parts] = []
    for draw in range(count):
        loss, parts = one(own, draw)
        sums.add_gradients(loss / count)
        losses.append(loss.detach())
        seen.append({name: part.detach() for name, part in parts.items()})
    mean = torch.stack(losses).mean()
    known: Any = _KnownGradient.apply  # torch gives it no type
    return known(mean, sums.found(), *origins, *trained), _mean_parts(seen)


def _mean_parts(draws: Iterable[Parts]) -> Parts:
    draws = list(draws)
    return {name: torch.stack([d[name].detach() for d in draws]).mean() for name in draws[0]}


class _Sums:
    """Sums of the gradients of several losses with respect to some tensors."""

    def __init__(self, inputs: list[Tensor]) -> None:
        self.inputs = inputs
        self.sums = [torch.zeros_like(tensor) for tensor in inputs]
        self.is_used = [False] * len(inputs)

    def add_gradients(self, loss: Tensor) -> None:
        """Add the gradients of one more loss."""
        # A backward pass has the precision that its forward pass chose: autocast would change it.
        with torch.autocast(loss.device.type, enabled=False):
            gradients = torch.autograd.grad(loss, self.inputs, allow_unused=True)
        for index, gradient in enumerate(gradients):
            if gradient is not None:
                self.sums[index].add_(gradient)
                self.is_used[index] = True

    def found(self) -> list[Tensor | None]:
        """Return the sums, None where no loss depended on the tensor."""
        return [s if used else None for s, used in zip(self.sums, self.is_used, strict=True)]


class _KnownGradient(torch.autograd.Function):
    """Makes a number a function of tensors with respect to which its gradients are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a staged loss has no second-order gradients (create_graph=True); "
                "call the world model with staged=False"
            )
        if ctx.gradients is None:
            raise RuntimeError(
                "a staged loss can be differentiated once; call the world model with staged=False"
            )
        gradients, ctx.gradients = ctx.gradients, None
        scaled: list[Tensor | None] = []
        while gradients:  # frees each as its multiple is made
            gradient = gradients.pop()
            scaled.append(None if gradient is None else gradient * incoming[0])
        return None, None, *reversed(scaled)


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a nest of tensors with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _map_tensors(v, change) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_tensors(v, change) for v in value)
    if is_dataclass(value) and not isinstance(value, type):
        new = {f.name: _map_tensors(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **new)
    return value
