"""The optimiser is torch's fused AdamW: the update of the plain one, parameter by parameter."""

from __future__ import annotations

import torch

from scd_wm import testing
from scd_wm.training.config import TrainConfig
from scd_wm.training.state import make_optimizer, set_learning_rates


def test_fused_updates_are_those_of_a_loop_over_the_parameters() -> None:
    config = TrainConfig(steps=5, encoder_lr=1e-2, decoder_lr=2e-2, weight_decay=0.1)
    fused, plain = testing.model().double(), testing.model().double()
    optimizers = [make_optimizer(model, config) for model in (fused, plain)]
    for group in optimizers[1].param_groups:
        group.update(fused=False, foreach=False)
    clip = testing.double(testing.clip(fused.spec, 2, 4))
    for step in range(5):
        for model, optimizer in zip((fused, plain), optimizers, strict=True):
            set_learning_rates(optimizer, config.lr_scale(step))
            model(clip, torch.arange(2) + step)[0].backward()
            optimizer.step()
            optimizer.zero_grad()
    assert {group["fused"] for group in optimizers[0].param_groups} == {True}
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
