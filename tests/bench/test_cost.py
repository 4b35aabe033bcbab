"""The cost model agrees with the paper's formulas and with what torch runs."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from scd_wm import imagination, testing
from scd_wm.bench import cost, models
from scd_wm.bench.counting import count_flops
from scd_wm.bench.models import Entry
from scd_wm.bench.options import BenchOptions
from scd_wm.spec import CameraSpec, Spec, VectorSpec

# One number a token, so that embeddings and heads, which the model leaves out, are next to nothing.
SPEC = Spec(
    cameras={"cells": CameraSpec(height=8, width=8, channels=1, kind="latent")},
    action=VectorSpec.unit(2),
)
OPTIONS = BenchOptions()
PAPER = cost.Sizes(
    mode="entangled", dim=1024, tokens=64, history=16, steps=50, encoder_layers=8, decoder_layers=4
)


def entry(mode: str, **changes: object) -> Entry:
    config = models.make_config(dim=128, layers=(3, 2), window=4, num_steps=3)
    return models.entry(SPEC, replace(config, patch_size=1, **changes), mode)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("mode", models.MODES)
def test_a_frame_costs_what_torch_runs(mode: str) -> None:
    e = entry(mode)
    model = models.build(e, OPTIONS).eval()
    state = imagination.begin(model, models.history(e, 2, OPTIONS, e.config.window))
    action = models.actions(e, 2, OPTIONS)
    counted = count_flops(lambda: imagination.step(model, state, action))
    assert counted == pytest.approx(2 * cost.frame(e.sizes), rel=0.04)
    assert counted > 2 * cost.frame(e.sizes)  # adaLN and the embeddings


@pytest.mark.parametrize("mode", models.MODES)
@pytest.mark.parametrize("draws", [1, 3])
def test_a_training_step_costs_what_torch_runs(mode: str, draws: int) -> None:
    e = entry(mode, draws=draws)
    model = models.build(e, OPTIONS).train()
    clip, seeds = testing.clip(SPEC, 2, 7), torch.arange(2)

    def step() -> None:
        loss: torch.Tensor = model(clip, seeds)[0]
        loss.backward()  # type: ignore[no-untyped-call]  # torch's has no types

    expected = cost.training_step(e.sizes, batch=2, num_frames=7, draws=draws)
    assert count_flops(step) == pytest.approx(expected, rel=0.05)


def test_the_gains_are_those_that_the_method_promises() -> None:
    # "The gain is 1.7x at F = 16, 2.4x at F = 64, 3.7x at F = 150" and, of prefix, "3.4x at F = 16
    # and 7.0x at F = 150", for 8 + 4 layers, d = 1024, P = 64, T = 50.
    for mode, history, gain in (
        ("token_concat", 16, 1.7),
        ("token_concat", 64, 2.4),
        ("token_concat", 150, 3.7),
        ("prefix", 16, 3.4),
        ("prefix", 150, 7.0),
    ):
        rival = replace(PAPER, history=history)
        found = cost.frame(rival) / cost.frame(replace(rival, mode=mode))
        assert found == pytest.approx(gain, abs=0.06), (mode, history)


def test_a_frame_has_the_operations_of_the_formula() -> None:
    d, p, f, t = 1024, 64, 16, 50
    sizes = replace(PAPER, mode="prefix")
    encoder = 8 * (24 * d**2 * p + 4 * p**2 * f * d)
    assert cost.frame(sizes) == encoder + 4 * 4 * d**2 * p + t * 4 * (24 * d**2 * p + 8 * p**2 * d)
    decoder = t * 4 * (24 * d**2 * 2 * p + 4 * (2 * p) ** 2 * d)
    assert cost.frame(replace(sizes, mode="token_concat")) == encoder + decoder
    clean = 12 * (24 * d**2 * p + 4 * p**2 * f * d)
    noisy = t * 12 * (24 * d**2 * p + 4 * p**2 * (f + 1) * d)
    assert cost.frame(PAPER) == clean + noisy


def test_a_frame_in_training_sees_the_window_and_no_more() -> None:
    window, longer = replace(PAPER, history=4), replace(PAPER, history=5)
    differ = [
        cost.training_step(longer, batch=1, num_frames=num_frames, draws=2)
        - cost.training_step(window, batch=1, num_frames=num_frames, draws=2)
        for num_frames in (5, 6, 8)
    ]
    # One more frame of keys in 12 clean layers and in 2 draws of 12, and the backward pass.
    a_frame = 3 * (1 + 2) * 12 * 4 * 64**2 * 1024
    assert differ == [0, a_frame, 3 * a_frame]


def test_the_entangled_models_clean_pass_adds_no_layers_in_turn() -> None:
    assert cost.sequential_layers(PAPER) == 50 * 12
    assert cost.sequential_layers(replace(PAPER, mode="prefix")) == 8 + 50 * 4


def test_the_counter_sees_attention_with_and_without_a_gradient() -> None:
    q = torch.randn(2, 3, 5, 16, requires_grad=True)
    k = torch.randn(2, 3, 7, 16, requires_grad=True)
    product = 2 * 2 * 3 * 5 * 7 * 16
    with torch.no_grad():
        assert count_flops(lambda: F.scaled_dot_product_attention(q, k, k)) == 2 * product
    y = F.scaled_dot_product_attention
    backward = count_flops(lambda: torch.autograd.backward(y(q, k, k).sum()))
    assert backward == 7 * product  # two forwards; four gradients, and the scores once more
    with torch.inference_mode():
        assert count_flops(lambda: F.linear(q, torch.zeros(4, 16))) == 2 * 2 * 3 * 5 * 16 * 4
