"""What training adds to the data: noise on the context, own predictions in the history."""

from __future__ import annotations

import pytest
import torch

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.imagination import begin, rollout, step
from scd_wm.model import noise
from scd_wm.model.own_history import own_history
from scd_wm.model.scd import SCDWorldModel


def test_interface_noise_has_the_stated_deviation_where_the_context_has_one() -> None:
    model = SCDWorldModel(testing.image_spec(), testing.config(interface_noise=0.05))
    sequence = model.sequence(testing.clip(model.spec, 8, 4))
    history = sequence.packed[:, :-1]
    with torch.no_grad():
        model.encoder.final.modulation.bias.fill_(1.0)  # scale 1 + 1, applied after the noise
        clean, noisy = (model.contexts(sequence, history, keys) for keys in (None, _keys(8)))
    assert model.decoder.join is not None
    added = torch.linalg.solve(model.decoder.join.weight, (noisy.tokens - clean.tokens).mT).mT
    assert added.std().item() == pytest.approx(2 * 0.05, rel=0.03)
    assert abs(added.mean()) < 0.004


def test_a_rollout_has_no_interface_noise() -> None:
    loud, quiet = testing.model(interface_noise=3.0), testing.model(interface_noise=0.0)
    clip, actions = testing.clip(loud.spec, 2, 2), torch.ones(2, 3, 2)
    frames = [rollout(m, clip, actions).vectors["proprio"] for m in (loud, quiet)]
    assert torch.equal(*frames)
    longer = testing.clip(loud.spec, 2, 4)
    assert not torch.equal(*(m(longer, torch.arange(2))[0] for m in (loud, quiet)))


@pytest.mark.parametrize("context_mode", ["prefix", "token_concat"])
def test_own_history_is_what_a_rollout_from_its_first_own_frame_imagines(context_mode: str) -> None:
    model = testing.model(context_mode=context_mode, self_rollouts=2).double()
    clip = testing.double(testing.clip(model.spec, 12, 7))
    sequence = model.sequence(clip)
    real, own = sequence.packed[:, :-1], own_history(model, sequence, _keys(12))
    draws = noise.uniform(_keys(12), 2)
    passes, first = (draws[:, 0] * 3).long().tolist(), (1 + (draws[:, 1] * 5).long()).tolist()
    assert set(passes) == {0, 1, 2}
    assert len(set(first)) > 2
    for row in range(12):
        kept = first[row] if passes[row] else real.shape[1]
        assert torch.equal(own[row, :kept], real[row, :kept])
        for t, frame in enumerate(_imagined(model, clip, row, kept, passes[row])):
            if kept + t < real.shape[1]:
                torch.testing.assert_close(own[row, kept + t], frame, atol=1e-9, rtol=0)


def test_own_history_leaves_what_is_missing_missing() -> None:
    model = testing.model(self_rollouts=1)
    clip = testing.clip(model.spec, 12, 6)
    clip.valid["proprio"][:, 2] = False
    sequence = model.sequence(clip)
    own = own_history(model, sequence, _keys(12))
    assert not torch.equal(own[:, 2], sequence.packed[:, 2])
    assert (own[:, 2, model.layout.segments[-1].values] == 0).all()


def test_draws_at_full_noise_tell_a_sample_prediction_nothing_so_k_equal_one() -> None:
    """Which also holds every repeated tensor of the loss to one order of draws, rows and frames."""
    clip = testing.clip(testing.image_spec(), 3, 4)
    one, three = (
        testing.model(draws=k, full_noise_fraction=1.0, refine_channels=4)(clip, _keys(3))
        for k in (1, 3)
    )
    for name, part in one[1].items():
        torch.testing.assert_close(three[1][name], part)


def _keys(batch: int) -> torch.Tensor:
    return noise.derive(torch.arange(batch), 0)


def _imagined(
    model: SCDWorldModel, clip: Clip, row: int, num_real: int, horizon: int
) -> list[torch.Tensor]:
    """Return the packed frames of a one-step rollout from the first frames of a row."""
    if horizon == 0:
        return []
    alone = clip.map(lambda x: x[row : row + 1])
    state, frames = begin(model, alone.frames(0, num_real)), []
    for t in range(horizon):
        if num_real - 1 + t < alone.actions.shape[1]:
            step(model, state, alone.actions[:, num_real - 1 + t], num_steps=1)
            frames.append(state.last[0].clone())
    return frames
