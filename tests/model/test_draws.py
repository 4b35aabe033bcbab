"""K noise draws differentiated one by one: the gradient of all together, the memory of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.model.world_model import WorldModel

SEEDS = torch.arange(3)
MODELS: dict[str, Callable[..., WorldModel]] = {
    "prefix": testing.model,
    "token_concat": partial(testing.model, context_mode="token_concat"),
    "entangled": testing.entangled,
    "one copy": partial(testing.entangled, one_copy=True, clean_fraction=0.4),
}
EVERY = pytest.mark.parametrize("name", MODELS)


def with_gaps(clip: Clip) -> Clip:
    """Take away a first frame with its action, a vector in the middle and outcomes."""
    valid = {name: v.clone() for name, v in clip.valid.items()}
    for v in valid.values():
        v[0, 0] = False
    valid["proprio"][1, 2] = False
    valid["success"][:, 3] = False
    action_valid = clip.action_valid.clone()
    action_valid[0, 0] = False
    return replace(clip, valid=valid, action_valid=action_valid)


def gradients(model: WorldModel, clip: Clip, staged: bool) -> dict[str, Tensor | None]:
    """Return the gradient of twice the loss by parameter, with the loss and its parts."""
    model.zero_grad()
    loss, parts = model(clip, SEEDS, staged=staged)
    (2 * loss).backward()
    found = {f"grad {name}": p.grad for name, p in model.named_parameters()}
    return found | {"loss": loss.detach(), **parts}


def norm(tensors: list[Tensor]) -> float:
    return float(torch.cat([tensor.flatten().double() for tensor in tensors]).norm())


@EVERY
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("changes", [{}, {"self_rollouts": 2, "refine_channels": 4}])
def test_the_gradient_is_that_of_all_draws_together(
    name: str, dtype: torch.dtype, tolerance: float, changes: dict[str, Any]
) -> None:
    model = MODELS[name](draws=4, **changes).to(dtype)
    clip = with_gaps(testing.clip(model.spec, 3, 5))
    clip = testing.double(clip) if dtype == torch.float64 else clip
    plain, staged = gradients(model, clip, False), gradients(model, clip, True)
    assert [n for n in plain if plain[n] is None] == [n for n in staged if staged[n] is None]
    pairs = [(a, b) for a, b in zip(plain.values(), staged.values(), strict=True) if a is not None]
    apart = [a - b for a, b in pairs if b is not None]
    assert norm(apart) < tolerance * norm([a for a, _ in pairs])
    for a, difference in zip((a for a, _ in pairs), apart, strict=True):
        assert norm([difference]) <= 10 * tolerance * norm([a])  # none hides behind larger ones


def test_parts_that_do_not_train_are_left_alone() -> None:
    model = testing.model(draws=3).double()
    clip = testing.double(testing.clip(model.spec, 3, 4))
    expected = gradients(model, clip, False)
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    for name, gradient in gradients(model, clip, True).items():
        if name.startswith("grad encoder"):
            assert gradient is None
        elif gradient is not None:
            torch.testing.assert_close(gradient, expected[name])


def test_a_model_that_does_not_train_has_a_loss_all_the_same() -> None:
    model = testing.model(draws=2).requires_grad_(False)
    loss, _ = model(testing.clip(model.spec, 3, 4), SEEDS)
    assert loss > 0
    assert not loss.requires_grad


def test_gradients_reach_the_clip() -> None:
    model = testing.model(draws=2).double()
    clip = testing.double(testing.clip(model.spec, 3, 4))
    found = []
    for staged in (False, True):
        vectors = {name: v.clone().requires_grad_() for name, v in clip.vectors.items()}
        loss, _ = model(replace(clip, vectors=vectors), SEEDS, staged=staged)
        found.append(torch.autograd.grad(loss, vectors["proprio"])[0])
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found)


@EVERY
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # slower, not wrong
def test_bfloat16_products_have_the_gradient_of_bfloat16_products(name: str) -> None:
    """Against float64: as far from it as plain autograd, which adds the draws in bfloat16."""
    model = MODELS[name](draws=4)
    clip = testing.clip(model.spec, 3, 4)
    found = []
    for staged in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = model(clip, SEEDS, staged=staged)
        found.append(torch.autograd.grad(loss, model.decoder_parameters(), allow_unused=True))
    exact = model.double()(testing.double(clip), SEEDS)[0]
    true = torch.autograd.grad(exact, model.decoder_parameters(), allow_unused=True)
    errors = [
        norm([a - b for a, b in zip(g, true, strict=True) if a is not None and b is not None])
        for g in found
    ]
    assert 0 < errors[1] < 1.1 * errors[0] < 0.1 * norm([g for g in true if g is not None])


class Held:
    """Counts the bytes that autograd holds for backward passes, and the most there were."""

    def __init__(self, model: WorldModel) -> None:
        self.now = self.peak = 0
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(self, tensor: Tensor) -> _Counted:
        return _Counted(self, tensor)


class _Counted:
    def __init__(self, held: Held, tensor: Tensor) -> None:
        # Detached: an operation that keeps its own result would otherwise keep itself alive.
        self.held, self.tensor, self.num_bytes = held, tensor.detach(), 0
        if tensor.untyped_storage().data_ptr() not in held.weights:
            self.num_bytes = tensor.numel() * tensor.element_size()
        held.now += self.num_bytes
        held.peak = max(held.peak, held.now)

    def __del__(self) -> None:
        self.held.now -= self.num_bytes


def held_at_most(name: str, draws: int, staged: bool) -> int:
    model = MODELS[name](draws=draws)
    held = Held(model)
    with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda counted: counted.tensor):
        loss, _ = model(testing.clip(model.spec, 3, 4), SEEDS, staged=staged)
        loss.backward()
    assert held.now == 0
    return held.peak


@EVERY
def test_four_draws_hold_what_one_does(name: str) -> None:
    one = held_at_most(name, draws=1, staged=True)
    assert held_at_most(name, draws=4, staged=True) <= 1.02 * one
    assert held_at_most(name, draws=4, staged=False) > 2 * one


def test_without_gradients_nothing_is_differentiated() -> None:
    model = testing.model(draws=3)
    clip = testing.clip(model.spec, 3, 4)
    with torch.no_grad():
        weights = {name: p.detach() for name, p in model.named_parameters()}
        loss, parts = torch.func.functional_call(model, weights, (clip, SEEDS))
        expected, same = model(clip, SEEDS, staged=False)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts, same)


def test_what_a_staged_loss_cannot_do_is_said() -> None:
    model = testing.model(draws=2)
    clip = testing.clip(model.spec, 3, 4)
    loss, _ = model(clip, SEEDS)
    with pytest.raises(RuntimeError, match=r"no second-order gradients .* with staged=False"):
        torch.autograd.grad(loss, model.decoder.query, create_graph=True)
    loss, _ = model(clip, SEEDS)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"can be differentiated once; .* with staged=False"):
        loss.backward()
    loss, _ = model(clip, SEEDS, staged=False)
    torch.autograd.grad(loss, model.decoder.query, create_graph=True)
