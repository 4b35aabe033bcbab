"""Learning on true rollouts, and noise on the frames of the history."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.imagination import rollout
from scd_wm.model import noise
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.flow import Sampler
from scd_wm.model.frames import Sequence
from scd_wm.model.own_history import noisy_history, own_history
from scd_wm.model.world_model import WorldModel

ARCHITECTURES = pytest.mark.parametrize("arch", ["scd", "entangled"])
BATCH, FRAMES = 8, 9


def make(arch: str, **changes: Any) -> WorldModel:
    build = testing.model if arch == "scd" else testing.entangled
    return build(**changes).double()


def keys_and_first(batch: int, num_frames: int) -> tuple[Tensor, list[int]]:
    """Return keys as `forward` derives them from seeds 0, 1, ..., and rows' first own frames."""
    keys = noise.derive(torch.arange(batch), 0)
    drawn = noise.uniform(keys, 2)[:, 1]
    return keys, (1 + (drawn * (num_frames - 2)).long()).tolist()


@ARCHITECTURES
@pytest.mark.parametrize("reach", [1, 3])
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_history_is_the_rollout_of_the_same_seeds(arch: str, reach: int, solver: str) -> None:
    """Passes for the gradient, of any reach, do not change what was imagined."""
    model = make(arch, self_forcing=reach, num_steps=3, solver=solver)
    clip = testing.double(testing.clip(model.spec, BATCH, FRAMES))
    sequence, (keys, first) = model.sequence(clip), keys_and_first(BATCH, FRAMES)
    own = own_history(model, sequence, keys)
    assert own.requires_grad == (reach > 1)
    assert len(set(first)) > 2
    for row in range(BATCH):
        alone = clip.map(lambda x, row=row: x[row : row + 1])  # type: ignore[misc]
        start, seed = first[row], torch.tensor([row])
        assert torch.equal(own[row, :start], sequence.packed[row, :start])
        frames = rollout(
            model, alone.frames(0, start), alone.actions[:, start - 1 : -1], seeds=seed
        )
        imagined = model.layout.unpack_vectors(own[row, start:])
        images = model.layout.unpack_images(own[row, start:])
        torch.testing.assert_close(
            imagined["proprio"], frames.vectors["proprio"][0], atol=1e-9, rtol=0
        )
        difference = images["top"].int() - frames.images["top"][0].int()
        assert difference.abs().max() <= 1  # where a pixel's value lies on the edge of two


@ARCHITECTURES
@pytest.mark.parametrize("reach", [1, 2, 4])
def test_gradients_go_back_through_so_many_steps_and_no_further(arch: str, reach: int) -> None:
    """With a window of one frame, an action is felt by a later frame through the frames between."""
    model = make(arch, self_forcing=reach, window=1, image_weight=0.0, vector_weight=0.0)
    clip = testing.double(testing.clip(model.spec, BATCH, FRAMES))
    for name in clip.outcome:
        clip.valid[name][:, :-1] = False  # the last frame alone has a loss
    clip.actions.requires_grad_()
    model(clip, torch.arange(BATCH))[0].backward()
    assert clip.actions.grad is not None
    felt, last = clip.actions.grad.abs().sum(-1) > 0, FRAMES - 2  # (B, T - 1), the last action
    for row, first in enumerate(keys_and_first(BATCH, FRAMES)[1]):
        # An action is felt through the frame that it leads to, if that was imagined.
        expected = [t == last or (t > last - reach and t + 1 >= first) for t in range(last + 1)]
        assert felt[row].tolist() == expected


@pytest.mark.parametrize("reach", [1, 3])
def test_the_gradient_is_that_of_a_slow_rollout_cut_off_at_the_reach(reach: int) -> None:
    """Frame by frame over whole histories, without cache, each frame detached that is too old."""
    model = make("scd", self_forcing=reach, window=1, interface_noise=0.0)
    clip = testing.double(testing.clip(model.spec, 2, 6))
    sequence, (keys, first) = model.sequence(clip), keys_and_first(2, 6)
    direction = torch.randn(model.layout.num_values, dtype=torch.float64)
    parameters = [p for p in model.parameters() if p.requires_grad]
    last = own_history(model, sequence, keys)[:, -1] @ direction
    for row in range(2):
        if reach == 1:
            assert not last.requires_grad
            continue
        found = torch.autograd.grad(last[row], parameters, retain_graph=True, allow_unused=True)
        slow = slow_rollout(model, sequence.rows(torch.tensor([row])), first[row], keys[row], reach)
        wanted = torch.autograd.grad(slow @ direction, parameters, allow_unused=True)
        for one, two in zip(found, wanted, strict=True):
            assert (one is None) == (two is None)
            if one is not None:
                torch.testing.assert_close(one, two, atol=1e-9, rtol=1e-7)


def slow_rollout(
    model: WorldModel, sequence: Sequence, first: int, key: Tensor, reach: int
) -> Tensor:
    """Return the last frame of the history of one row, (M,)."""
    frames = [sequence.packed[:, t] for t in range(first)]
    num_history = sequence.packed.shape[1] - 1
    for t in range(first, num_history):
        before = frames[-1] if t > num_history - reach else frames[-1].detach()
        history = torch.stack([*frames[:-1], before], dim=1)
        part = Sequence(
            sequence.packed[:, : t + 1], sequence.valid[:, : t + 1],
            sequence.action[:, :t], sequence.action_valid[:, :t],
        )  # fmt: skip
        context = model.contexts(part, history, None)
        eps = noise.normal(noise.derive(key, t - first), model.layout.num_values, torch.float64)
        base = model.base(history, part.valid[:, :-1]).flatten()
        sample, _ = model.sample(context, base, eps.expand(t, -1), Sampler(model.config.num_steps))
        frames.append(sample[-1:])
        if t < num_history - reach + 1:
            frames[-1] = frames[-1].detach()
    return frames[-1][0]


@ARCHITECTURES
def test_what_is_missing_stays_missing(arch: str) -> None:
    model = make(arch, self_forcing=1, history_noise=0.5)
    clip = testing.double(testing.clip(model.spec, BATCH, FRAMES))
    clip.valid["proprio"][:, 4] = False
    sequence, keys = model.sequence(clip), keys_and_first(BATCH, FRAMES)[0]
    own = noisy_history(model, sequence, own_history(model, sequence, keys), keys)
    assert (own[:, 4, model.layout.segments[-1].values] == 0).all()
    assert not torch.equal(own[:, 4], sequence.packed[:, 4])


@ARCHITECTURES
def test_the_loss_does_not_depend_on_how_rows_are_batched(arch: str) -> None:
    model = make(arch, self_forcing=2, history_noise=0.5, draws=2)
    clip = testing.double(testing.clip(model.spec, 3, 6))
    loss = model(clip, torch.arange(3))[0]
    rows = [
        model(clip.map(lambda x, i=i: x[i : i + 1]), torch.tensor([i]))[0]  # type: ignore[misc]
        for i in range(3)
    ]
    torch.testing.assert_close(torch.stack(rows).mean(), loss, atol=1e-9, rtol=0)


@ARCHITECTURES
def test_without_corruption_the_loss_is_the_plain_one_to_the_bit(arch: str) -> None:
    """And with it, it is another."""
    clip, seeds = testing.clip(testing.image_spec(), 3, 6), torch.arange(3)
    build = testing.model if arch == "scd" else testing.entangled
    plain = build()
    history = plain.sequence(clip).packed[:, :-1]
    context = plain.contexts(plain.sequence(clip), history, noise.derive(seeds, 1))
    parts = plain.draw_losses(clip, plain.sequence(clip), history, context, seeds, 0)
    zero = build(history_noise=0.0, self_forcing=0)(clip, seeds)
    for name, part in parts.items():
        assert torch.equal(zero[1][name], part)
    for changes in ({"history_noise": 0.1}, {"self_forcing": 1}):
        assert not torch.equal(build(**changes)(clip, seeds)[0], zero[0])


def test_noise_on_history_has_uniform_levels_in_deviations_of_the_residual() -> None:
    model = testing.model(history_noise=0.5)
    clip = testing.clip(model.spec, 400, 6)
    clip = replace(clip, images={"top": torch.full_like(clip.images["top"], 127)})
    sequence = model.sequence(clip)
    real, keys = sequence.packed[:, :-1], noise.derive(torch.arange(400), 0)
    added = (noisy_history(model, sequence, real, keys) - real) / model.layout.delta_std
    pixels = added[..., model.layout.segments[0].values]  # 1152 of them tell a frame's level
    level = pixels.std(dim=-1).flatten().sort().values
    assert abs(pixels.mean()) < 0.002
    uniform = torch.linspace(0, 0.5, len(level))
    assert (level - uniform).abs().max() < 0.04  # Kolmogorov and Smirnov's distance, in levels
    assert level.max() < 0.55
    frames = pixels.std(dim=-1)  # levels of the frames of a clip have nothing in common
    assert abs(torch.corrcoef(frames.T)[0, 1]) < 0.15
    vector = added[..., model.layout.segments[-1].values]
    assert vector.square().mean().item() == pytest.approx(0.5**2 / 3, rel=0.1)


def test_noise_leaves_pixels_in_their_range() -> None:
    model = testing.model(history_noise=9.0)
    sequence = model.sequence(testing.clip(model.spec, 3, 5))
    noisy = noisy_history(model, sequence, sequence.packed[:, :-1], torch.arange(3))
    assert noisy[..., model.layout.segments[0].values].abs().max() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history_noise": -0.1}, r"history_noise must be at least 0, got -0.1"),
        ({"self_forcing": -1}, r"self_forcing must be at least 0, got -1"),
        ({"self_forcing": 1, "self_rollouts": 2}, r"self_rollouts must be 0 with self_forcing.*2"),
        ({"arch": "entangled", "one_copy": True, "history_noise": 0.1}, r"history_noise must be 0"),
        ({"arch": "entangled", "one_copy": True, "self_forcing": 1}, r"0 with one_copy=true, got"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        WorldModelConfig(dim=32, num_heads=2, encoder_layers=1, decoder_layers=1, **changes)
