import pytest
import torch
from torch import nn

from scd_wm.training.ema import EMA


def linear() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, 2)


def test_the_average_starts_at_the_weights() -> None:
    model = linear()
    for name, parameter in model.named_parameters():
        assert torch.equal(EMA(model, 0.9).weights[name], parameter)


def test_the_decay_warms_up_to_its_target() -> None:
    ema = EMA(linear(), 0.99)
    assert [ema.decay_at(step) for step in (0, 10, 100)] == [1 / 10, 11 / 20, 101 / 110]
    assert ema.decay_at(10_000) == 0.99


def test_after_a_jump_the_distance_is_the_product_of_all_decays() -> None:
    model = linear()
    ema, start = EMA(model, 0.6), model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1.0
    left = 1.0
    for step in range(40):
        ema.update(step)
        left *= min(0.6, (1 + step) / (10 + step))
        distance = model.weight.detach() - ema.weights["weight"]
        torch.testing.assert_close(distance, torch.full_like(start, left), rtol=0, atol=1e-6)


def test_the_average_of_low_precision_weights_is_float32() -> None:
    model = linear().bfloat16()
    ema = EMA(model, 0.5)
    ema.update(100)
    assert ema.weights["weight"].dtype == torch.float32
    assert ema.weights["weight"] == pytest.approx(model.weight.detach().float())
