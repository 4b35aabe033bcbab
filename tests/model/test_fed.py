"""SCD with a fed encoder: its cached rollout, what it may see, its training, its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.imagination import contexts
from scd_wm.model import noise
from scd_wm.model.decoder import DecoderContext
from scd_wm.model.denoiser import DenoiserContext
from scd_wm.model.fed import FedWorldModel
from scd_wm.model.flow import Sampler
from scd_wm.model.frames import Frame

from .learning import learn_one_clip, silent_parameters
from .passes import check_cached_rollout

TOLERANCE: dict[str, Any] = {"atol": 1e-9, "rtol": 0.0}
EVERY_KIND = pytest.mark.parametrize(
    "changes",
    [
        {"resume_layer": 0},
        {"resume_layer": 1, "residual": False},
        {"resume_layer": 1, "prediction": "velocity", "residual": False},
        {"resume_layer": 1, "least_visible": 0.3},
        {"resume_layer": 0, "context_mode": "prefix"},
        {"resume_layer": 0, "context_mode": "token_concat", "prediction": "velocity"},
    ],
)


@EVERY_KIND
@pytest.mark.parametrize(("num_steps", "solver"), [(1, "euler"), (3, "heun")])
def test_a_cached_rollout_equals_passes_over_the_whole_history(
    changes: dict[str, Any], num_steps: int, solver: str
) -> None:
    check_cached_rollout(testing.fed(**changes).double(), num_steps, solver)


@EVERY_KIND
def test_a_later_frame_or_action_never_changes_an_earlier_prediction(
    changes: dict[str, Any],
) -> None:
    """In training: the fed frame is the one to predict, so frame 5 is in prediction 4 at least."""
    model = testing.fed(full_noise_fraction=1.0, **changes).double()
    clip = testing.double(testing.clip(model.spec, 2, 7))
    actions = clip.actions.clone()
    actions[:, 4:] += 1.0
    vectors = {"proprio": clip.vectors["proprio"].clone()}
    vectors["proprio"][:, 5:] -= 1.0
    raw = [_raw(model, c) for c in (clip, replace(clip, actions=actions, vectors=vectors))]
    torch.testing.assert_close(raw[0][:, :4], raw[1][:, :4], **TOLERANCE)
    assert not torch.allclose(raw[0][:, 4], raw[1][:, 4])


def _raw(model: FedWorldModel, clip: Clip) -> Tensor:
    """Return raw predictions of training's draw 0, (B, T - 1, M)."""
    sequence, seeds = model.sequence(clip), torch.arange(2)
    history = sequence.packed[:, :-1]
    context = model.contexts(sequence, history, noise.derive(seeds, 1))
    base = model.base(history, sequence.valid[:, :-1]).flatten()
    noised = model.draw(sequence, history, context, base, seeds, 0)
    modulation = model.denoiser.modulate(noised.condition)
    raw, _ = model.evaluate(noised.frames, noised.level[:, None], modulation, context)
    return raw.reshape(2, history.shape[1], -1)


@pytest.mark.parametrize(("level", "is_seen"), [(1.0, False), (0.8, True)])
def test_the_frame_to_predict_is_seen_only_below_full_noise(level: float, is_seen: bool) -> None:
    """With the decoder at s = 1, the target can be known by way of the fed frame alone."""
    model = testing.fed(full_noise_fraction=1.0, fed_level=level).double()
    clip = testing.double(testing.clip(model.spec, 2, 4))
    vectors = {"proprio": clip.vectors["proprio"].clone()}
    vectors["proprio"][:, 3] += 1.0
    first, second = (_raw(model, c)[:, -1] for c in (clip, replace(clip, vectors=vectors)))
    assert torch.equal(first, second) is not is_seen


def test_fed_levels_are_spread_from_the_least_to_one() -> None:
    model = testing.fed(fed_level=0.6)
    sequence = model.sequence(testing.clip(model.spec, 200, 6))
    history = sequence.packed[:, :-1]
    level = model._feed(sequence, history, torch.arange(200), None).level
    assert 0.6 <= float(level.min()) < 0.62
    assert 0.98 < float(level.max()) <= 1
    assert float(level.mean()) == pytest.approx(0.8, abs=0.02)
    assert (model._feed(sequence, history, None, None).level == 1).all()


def test_what_training_feeds_is_hidden_by_noise_that_no_draw_shares() -> None:
    """Two points of the line from one noise to the frame would give the frame away."""
    model = testing.fed(draws=2, prediction="velocity", residual=False)
    sequence, seeds = model.sequence(testing.clip(model.spec, 2, 4)), torch.arange(2)
    history, target = sequence.packed[:, :-1], sequence.packed[:, 1:].flatten(0, 1)
    feed = model._feed(sequence, history, noise.derive(seeds, 1), None)
    level = feed.level[:, None]
    fed = (feed.frames - (1 - level) * target) / level
    assert float(fed.std()) == pytest.approx(1.0, abs=0.1)
    drawn = [model._draw_noise(seeds, history, draw)[1] for draw in range(2)]
    noises = torch.stack([eps.flatten() for eps in (fed, *drawn)])
    off = torch.corrcoef(noises) - torch.eye(3)
    assert float(off.abs().max()) < 5 / noises.shape[1] ** 0.5


def test_what_cannot_be_known_is_not_learned() -> None:
    """Frames of N(0, 1): with x_s alone, the least squared error is s^2 / (s^2 + (1 - s)^2).

    That is 1 / 2 at s = 0.5. A frame fed at 0.8 is a second look of it, (0.2 / 0.8)^2 precise: with
    both the least is 1 / (2 + 1 / 16).
    """
    changes: dict[str, Any] = {"prediction": "velocity", "residual": False, "interface_noise": 0.0}
    model = testing.fed(testing.state_spec(), full_noise_fraction=0.0, **changes)
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    for index in range(50):
        loss, _ = model(_unknown(model, index), torch.arange(64) + 64 * index)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        assert _half_noise_error(model, _unknown(model, -1)) > 0.45


def _unknown(model: FedWorldModel, seed: int) -> Clip:
    """Return clips whose vectors are standard normal, each of its own."""
    clip, rng = testing.clip(model.spec, 64, 3), torch.Generator().manual_seed(seed)
    vectors = {k: torch.randn(v.shape, generator=rng) for k, v in clip.vectors.items()}
    return replace(clip, vectors=vectors)


def _half_noise_error(model: FedWorldModel, clip: Clip) -> float:
    """Return the mean squared error of frames that a velocity model predicts at s = 0.5."""
    sequence, seeds = model.sequence(clip), torch.arange(64)
    history, target = sequence.packed[:, :-1], sequence.packed[:, 1:].flatten(0, 1)
    _, eps = model._draw_noise(seeds, history, 0)
    context = model.contexts(sequence, history, noise.derive(seeds, 1))
    noisy = (target + eps) / 2
    level = torch.full((len(noisy),), 0.5)
    modulation = model.denoiser.modulate(model.denoiser.condition(level, context.action))
    raw, _ = model.evaluate(noisy, level[:, None], modulation, context)
    return float((noisy - raw / 2 - target).square().mean())


@EVERY_KIND
def test_staged_draws_have_the_gradients_of_plain_autograd(changes: dict[str, Any]) -> None:
    """The decoder's own layers make what all draws share, so they get gradients by two ways."""
    gradients = []
    for staged in (True, False):
        model = testing.fed(draws=3, self_rollouts=1, **changes).double()
        clip = testing.double(testing.clip(model.spec, 3, 4))
        model(clip, torch.arange(3), staged=staged)[0].backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for name, expected in gradients[1].items():
        if expected is not None:
            torch.testing.assert_close(gradients[0][name], expected, **TOLERANCE)


@EVERY_KIND
def test_every_parameter_gets_a_gradient(changes: dict[str, Any]) -> None:
    model = testing.fed(self_rollouts=1, refine_channels=4, **changes)
    silent = silent_parameters(model)
    expected = ["decoder.embed.missing"]  # the decoder's frames are predicted, never missing
    if model.config.context_mode == "resume" and model.config.resume_layer == 0:
        # What is the same in both frames cancels.
        biases = [f"decoder.embed.projections.{i}.bias" for i in range(2)]
        expected = ["decoder.query", "decoder.embed.place", *biases, *expected]
    assert sorted(silent) == sorted(expected)


@pytest.mark.parametrize("changes", [{}, {"context_mode": "token_concat", "resume_layer": 0}])
def test_it_learns_one_clip_in_which_the_action_decides(changes: dict[str, Any]) -> None:
    config = testing.fed(full_noise_fraction=0.5, **changes).config
    learned = learn_one_clip(config, num_frames=3, num_steps=100)
    assert learned.error < 0.3 * learned.variance
    assert learned.error < 0.3 * learned.shuffled


def test_interface_noise_is_in_proportion_to_each_token() -> None:
    fixed: dict[str, Any] = {"fed_level": 1.0, "context_mode": "token_concat", "resume_layer": 0}
    model = testing.fed(interface_noise=0.1, **fixed)
    exact = testing.fed(interface_noise=0.0, **fixed)
    sequence = model.sequence(testing.clip(model.spec, 50, 3))
    history, keys = sequence.packed[:, :-1], torch.arange(50)
    noisy, c = (_tokens(m.contexts(sequence, history, keys)) for m in (model, exact))
    share = (noisy - c).std(dim=(0, 2)) / c.std(-1, correction=0).square().mean(0).sqrt()
    torch.testing.assert_close(share, torch.full_like(share, 0.1), rtol=0.1, atol=0.0)


def _tokens(context: DenoiserContext) -> Tensor:
    assert isinstance(context, DecoderContext)
    return context.tokens


def test_features_of_contexts_are_those_of_a_rollout_and_know_nothing_of_the_noise() -> None:
    model = testing.fed(prediction="velocity", residual=False)
    clip = testing.clip(model.spec, 2, 5)
    features = contexts(model, clip)
    packed, valid = model.layout.pack(clip), model.layout.token_valid(clip.valid)
    actions = model.layout.normalise_vector("action", clip.actions)
    cache = model.empty_cache(2)
    for t in range(4):
        frame = Frame(packed[:, t], valid[:, t], actions[:, t], clip.action_valid[:, t])
        eps = torch.randn(2, model.layout.num_values)
        with torch.inference_mode():
            found = model.next_frame(frame, cache, eps, Sampler(1))
        torch.testing.assert_close(found.context, features[:, t], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [testing.entangled, testing.model, testing.fed])
def test_every_draw_has_noise_of_its_own(make: Any) -> None:
    model = make(draws=2)
    history = torch.zeros(2, 3, model.layout.num_values)
    first, second = (model._draw_noise(torch.arange(2), history, draw)[1] for draw in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fed_level": 1.2}, "fed_level must be none, or between 0 and 1"),
        ({"fed_level": 0.8, "arch": "entangled"}, "fed_level must be none, or between 0 and 1"),
        ({"context_mode": "resume"}, '"resume" only where fed_level is given'),
        ({"resume_layer": 1}, "resume_layer must be at most 0"),
        (
            {"fed_level": 1.0, "context_mode": "resume", "resume_layer": 3},
            "resume_layer must be at most 2",
        ),
    ],
)
def test_a_config_that_means_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        testing.config(**changes)
