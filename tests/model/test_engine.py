"""Engines imagine what plain torch imagines, and follow the weights that they share."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from scd_wm import testing
from scd_wm.imagination import begin, imagine, start_frame, step, warm_up
from scd_wm.model import engine
from scd_wm.model.build import build_world_model
from scd_wm.model.engine import chosen, prepare
from scd_wm.model.flow import Sampler
from scd_wm.model.world_model import WorldModel

KINDS: list[dict[str, Any]] = [
    {"arch": "scd", "context_mode": "prefix"},
    {"arch": "scd", "context_mode": "token_concat"},
    {"arch": "entangled"},
    {"arch": "scd", "context_mode": "resume", "fed_level": 0.8, "resume_layer": 1},
]
RUN_KINDS = [*KINDS, {**KINDS[0], "guidance": 1.5}]


@pytest.fixture(autouse=True)
def _all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let even small products be packed, and a frame be a piece of its own."""
    monkeypatch.setattr(engine, "LEAST_WORK", 0)
    monkeypatch.setattr(engine, "PIECE_BYTES", 1)


def world(kind: dict[str, Any], **changes: Any) -> WorldModel:
    config = testing.config(refine_channels=4, num_steps=3, **kind, **changes)
    return testing.untied(build_world_model(testing.image_spec(), config)).eval()


def imagined(model: WorldModel, batch: int, branches: int = 1) -> Tensor:
    """Return packed frames of rollouts, one of which begins anew on the way."""
    state = begin(model, testing.clip(model.spec, batch, 5))
    actions = torch.linspace(-1, 1, 2).expand(batch * branches, 4, 2)
    if branches > 1:
        state = state.fork(branches)
    frames = []
    for t in range(4):
        if t == 1:
            state = state.replace_rows([0], begin(model, start_frame(model.spec, 1)))
        step(model, state, actions[:, t])
        frames.append(state.last)
    return torch.cat(frames)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("kind", RUN_KINDS)
@pytest.mark.parametrize(("batch", "branches"), [(1, 1), (3, 1), (2, 3)])
def test_packed_imagines_the_same(kind: dict[str, Any], batch: int, branches: int) -> None:
    model = world(kind)
    fast = prepare(model, "packed")
    expected = imagined(model, batch, branches)
    assert relative_error(imagined(fast, batch, branches), expected) < 1e-5
    assert not torch.equal(imagined(fast, batch, branches), expected)  # it did go another way


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
@pytest.mark.parametrize("kind", RUN_KINDS)
def test_compiled_imagines_the_same(kind: dict[str, Any]) -> None:
    model = world(kind)
    fast = prepare(model, "compile")
    warm_up(fast, 2)
    expected = imagined(model, 2)
    assert relative_error(imagined(fast, 2), expected) < 1e-5


def test_the_model_itself_stays_as_it_is() -> None:
    model = world(KINDS[0])
    before = {name: type(module) for name, module in model.named_modules()}
    fast = prepare(model, "packed")
    assert {name: type(module) for name, module in model.named_modules()} == before
    mine, shared = dict(model.named_parameters()), dict(fast.named_parameters())
    assert list(mine) == list(shared)
    assert all(mine[name] is shared[name] for name in mine)


def test_weights_changed_in_place_are_packed_anew() -> None:
    model = world(KINDS[0])
    fast = prepare(model, "packed")
    before = imagined(fast, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    expected = imagined(model, 1)
    assert relative_error(expected, before) > 1e-2
    assert relative_error(imagined(fast, 1), expected) < 1e-5


def test_loaded_weights_are_packed_anew() -> None:
    model, other = world(KINDS[2]), testing.untied(world(KINDS[2]), seed=1)
    fast = prepare(model, "packed")
    model.load_state_dict(other.state_dict())
    assert relative_error(imagined(fast, 1), imagined(other, 1)) < 1e-5


def test_gradients_are_those_of_plain_layers() -> None:
    layers = nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.GELU(approximate="tanh")))
    fast = copy.deepcopy(layers)
    engine._pack(fast)
    x = torch.randn(5, 4)
    grads = [torch.autograd.grad(m(x).sum(), list(m.parameters())) for m in (layers, fast)]
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


def test_a_gelu_of_another_kind_stays() -> None:
    layers = nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.GELU()))
    x = torch.randn(5, 4)
    expected = layers(x).detach()
    engine._pack(layers)
    with torch.inference_mode():
        assert torch.allclose(layers(x), expected, atol=1e-6)


def test_auto_is_packed_where_that_can_be() -> None:
    model = world(KINDS[0])
    assert chosen(model) == "packed"
    assert chosen(model.double()) == "plain"
    assert chosen(model, "compile") == "compile"


def test_engines_that_cannot_be_are_refused() -> None:
    model = world(KINDS[0])
    with pytest.raises(ValueError, match=r"engine must be one of .*, got 'fast'"):
        prepare(model, "fast")
    with pytest.raises(ValueError, match=r"'packed' computes in float32, .* in torch.float64"):
        prepare(model.double(), "packed")
    with pytest.raises(ValueError, match="'packed' runs on a CPU, the model is on meta"):
        prepare(model.to("meta"), "packed")


class NoWaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Refuses what brings a value from the device to Python, for which a GPU would be waited."""

    WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.WAITS, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", RUN_KINDS)
@pytest.mark.parametrize("name", ["plain", "packed"])
def test_a_step_never_waits_for_the_device(kind: dict[str, Any], name: str) -> None:
    model = prepare(world(kind), name)
    state = begin(model, testing.clip(model.spec, 2, 5))
    forked = state.fork(2)
    watch = NoWaiting()  # type: ignore[no-untyped-call]  # nor here
    with watch:
        for _ in imagine(model, state, torch.zeros(2, 2, 2)):
            pass
        step(model, forked, torch.zeros(4, 2))
    with pytest.raises(AssertionError, match="waits for the device"), watch:
        state.last.sum().item()


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_made_only_where_it_is_seen(kind: dict[str, Any]) -> None:
    for prediction, num_steps, is_seen in (("sample", 1, 0), ("sample", 2, 1), ("velocity", 1, 1)):
        model = world(kind, prediction=prediction)
        assert model.needs_noise(Sampler(num_steps)) == is_seen
        clip, actions = testing.clip(model.spec, 1, 4), torch.zeros(1, 2)
        lasts = []
        for seed in (0, 1):
            state = begin(model, clip, torch.tensor([seed]))
            step(model, state, actions, num_steps)
            lasts.append(state.last)
        assert torch.equal(*lasts) != is_seen


@pytest.mark.parametrize("prediction", ["sample", "velocity"])
def test_a_frame_without_noise_is_the_one_that_any_noise_gives(
    prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = world(KINDS[0], prediction=prediction)
    state = begin(model, testing.clip(model.spec, 2, 4))
    found = []
    for _ in range(2):
        one = state.clone()
        step(model, one, torch.zeros(2, 2), 1)
        found.append(one.last)
        monkeypatch.setattr(model, "needs_noise", lambda sampler: True)
    assert torch.equal(*found)
