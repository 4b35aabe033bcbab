"""From a causal diffuser to SCD: every weight has its parent, and what can be the same is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scd_wm import testing
from scd_wm.imagination import rollout
from scd_wm.model.conversion import Split, convert, new_weights, origins
from scd_wm.model.decoder import DiffusionDecoder
from scd_wm.model.entangled import EntangledWorldModel
from scd_wm.model.fed import FedWorldModel, ResumingDecoder
from scd_wm.model.world_model import WorldModel

TOLERANCE: dict[str, Any] = {"atol": 1e-9, "rtol": 0.0}
HEAD_OF_THE_DECODER = ("query", "embed", "action", "noise_level", "outcome", "final", "head")


def parent(num_layers: int = 5, **changes: Any) -> EntangledWorldModel:
    sizes = {"encoder_layers": num_layers - 1, "decoder_layers": 1, "interface_noise": 0.0}
    return testing.entangled(**{**sizes, **changes}).double()


def blind(model: EntangledWorldModel, layers: list[int]) -> None:
    """Let layers take nothing from attention, and so nothing from the past."""
    for layer in layers:
        out = list(model.network.blocks)[layer].attention.out
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)


def idle(model: EntangledWorldModel, layers: list[int]) -> None:
    """Let layers do nothing."""
    for layer in layers:
        modulation = list(model.network.blocks)[layer].modulation
        nn.init.zeros_(modulation.weight)
        nn.init.zeros_(modulation.bias)


def imagined(model: WorldModel, num_steps: int) -> Tensor:
    """Return vectors and outcomes of 8 frames, out of sight of the history."""
    clip = testing.double(testing.clip(model.spec, 2, 3))
    actions = torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(1)).double()
    frames = rollout(model, clip, actions, num_steps=num_steps)
    return torch.cat(
        [*frames.vectors.values(), *(o[..., None] for o in frames.outcome.values())], -1
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"least_visible": 0.4}, {"prediction": "velocity", "residual": False}],
)
def test_a_decoder_of_layers_that_do_not_look_back_is_the_parent_at_full_noise(
    changes: dict[str, Any],
) -> None:
    """All layers are there, in their order: one step, at s = 1, is the parent's to rounding."""
    model = parent(**changes)
    blind(model, [3, 4])
    child = convert(model, Split((0, 1, 2), (3, 4)))
    torch.testing.assert_close(imagined(child, 1), imagined(model, 1), **TOLERANCE)
    assert not torch.allclose(imagined(child, 2), imagined(model, 2), atol=1e-4)


@pytest.mark.parametrize("fed_level", [1.0, 0.5])
def test_with_an_encoder_that_does_not_look_at_the_noisy_frame_it_is_so_at_every_level(
    fed_level: float,
) -> None:
    """Layers 0 and 4 are copied, those between are idle: nothing of the fed frame is left."""
    model = parent()
    blind(model, [0, 4])
    idle(model, [1, 2, 3])
    child = convert(model, Split((0, 1, 2, 3), (0, 4)), fed_level=fed_level)
    assert child.config.resume_layer == 1
    torch.testing.assert_close(imagined(child, 3), imagined(model, 3), **TOLERANCE)
    clip, seeds = testing.double(testing.clip(model.spec, 3, 4)), torch.arange(3)
    torch.testing.assert_close(child(clip, seeds)[0], model(clip, seeds)[0], **TOLERANCE)


def test_layers_that_the_decoder_lacks_are_those_of_the_encoder() -> None:
    """What the encoder's layer 1 does at full noise is added at every level."""
    model = parent(3)
    blind(model, [0, 2])
    child = convert(model, Split((0, 1), (0, 2)))
    torch.testing.assert_close(imagined(child, 1), imagined(model, 1), **TOLERANCE)
    idle(model, [1])
    other = convert(model, Split((0, 1), (0, 2)))
    assert not torch.allclose(imagined(child, 1), imagined(other, 1), atol=1e-4)


@pytest.mark.parametrize("mode", ["resume", "prefix", "token_concat"])
@pytest.mark.parametrize("fed_level", [0.8, None])
def test_every_weight_is_its_parents_or_named_as_new(mode: str, fed_level: float | None) -> None:
    """Names by hand: the encoder's layer 2 is the parent's 3, the decoder's 0 its 1, and so on."""
    if mode == "resume" and fed_level is None:
        pytest.skip("goes on from what the encoder was fed")
    model, split = parent(refine_channels=4), Split((0, 1, 3), (1, 4))
    child = convert(model, split, context_mode=mode, fed_level=fed_level)
    theirs, mine = model.network.state_dict(), child.state_dict()
    expected: dict[str, str] = {}
    layers = {"encoder": {0: 0, 1: 1, 2: 3}, "decoder": {0: 1, 1: 4}}
    for part, order in layers.items():
        kinds = ("embed", "action", "noise_level") + (("query",) if fed_level else ())
        kinds = (*HEAD_OF_THE_DECODER, "refiners") if part == "decoder" else kinds
        for name in theirs:
            if name.split(".")[0] in kinds:
                expected[f"{part}.{name}"] = name
            for index, layer in order.items():
                if name.startswith(f"blocks.{layer}."):
                    expected[f"{part}.blocks.{index}.{name.split('.', 2)[2]}"] = name
    assert dict(origins(child, split)) == {k: f"network.{v}" for k, v in expected.items()}
    for name, source in expected.items():
        assert torch.equal(mine[name], theirs[source])
    new = {name.rsplit(".", 2)[0] for name in new_weights(child, split)}
    readers = {"decoder", "decoder.readers.0", "decoder.readers.1"} if mode == "prefix" else set()
    assert new == readers | (set() if fed_level else {"encoder.final"})


def test_a_prefix_of_what_the_noisy_frame_is_itself_changes_nothing() -> None:
    """Keys and values twice are attended to as once: the readers have the layers' own weights.

    Without outcomes no query is in the way; the action is the mean one, of which readers are made.
    """
    spec = replace(testing.image_spec(), outcomes=())
    model = testing.entangled(spec, encoder_layers=2, decoder_layers=1).double()
    child = convert(model, Split((0, 1), (2,)), context_mode="prefix")
    decoder, block = child.denoiser, list(model.network.blocks)[2]
    assert isinstance(decoder, DiffusionDecoder)
    n = model.layout.num_tokens
    x = torch.randn(2, n, 32, dtype=torch.float64)
    action, valid = torch.zeros(2, 2, dtype=torch.float64), torch.ones(2, dtype=torch.bool)
    condition = model.network.condition(torch.ones(2).double(), model.network.action(action, valid))
    context = decoder.context(x, torch.zeros(2, model.layout.num_values).double(), action, valid)
    assert not context.tokens.any()  # nothing is added to the noisy tokens
    seen: list[tuple[Tensor, Tensor]] = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append((k, v))
        return v

    with torch.no_grad():
        block(x, block.modulation(condition), decoder.table[:, :n], attend)
    # The reader's LayerNorm has an epsilon of 1e-5, the block's 1e-6.
    torch.testing.assert_close(context.prefix[0], seen[0], atol=1e-4, rtol=0.0)


def test_an_unfed_encoder_ends_in_a_plain_norm_and_token_concat_has_nothing_new() -> None:
    child = convert(parent(), Split((0, 1, 2), (3, 4)), context_mode="token_concat", fed_level=None)
    final = child.encoder.final  # type: ignore[union-attr]  # of SCDWorldModel
    assert not any(p.any() for p in final.parameters())  # type: ignore[union-attr]
    assert len(child.denoiser.readers) == 0  # type: ignore[arg-type]


def test_numbers_of_layers_are_the_first_and_both_ends() -> None:
    assert Split.of_counts(25, 10, 30) == Split(
        tuple(range(25)), (0, 1, 2, 3, 4, 25, 26, 27, 28, 29)
    )  # the paper's
    assert Split.of_counts(6, 3, 8) == Split((0, 1, 2, 3, 4, 5), (0, 6, 7))
    assert Split.of_counts(1, 1, 1) == Split((0,), (0,))


def test_the_decoder_goes_on_after_the_layers_that_the_encoder_has_too() -> None:
    assert Split((0, 1, 2), (3, 4)).resume_layer == 0
    assert Split((0, 1, 2), (0, 1, 4)).resume_layer == 2
    assert Split((0, 2), (1, 4)).resume_layer == 1
    assert Split((0, 1, 2), (2, 4)).resume_layer == 1


def test_the_child_is_of_its_own_and_the_parent_as_before() -> None:
    model = parent()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    child = convert(model, Split((0, 1), (0, 4)))
    assert torch.equal(random, torch.get_rng_state())
    assert isinstance(child, FedWorldModel)
    assert isinstance(child.denoiser, ResumingDecoder)
    with torch.no_grad():
        for parameter in child.parameters():
            parameter.zero_()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_training_goes_on_from_the_parents_loss() -> None:
    """A few steps from a converted model, on the clip that the parent has learned."""
    model = parent(full_noise_fraction=1.0)
    clip, seeds = testing.double(testing.clip(model.spec, 4, 3)), torch.arange(4)
    child = convert(model, Split((0, 1, 2, 3), (0, 4)))
    optimiser = torch.optim.Adam(child.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss, _ = child(clip, seeds)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Split((), (1,)), "the encoder has no layers"),
        (lambda: Split((0,), ()), "the decoder has no layers"),
        (lambda: Split((1, 0), (1,)), "in rising order, got 1,0"),
        (lambda: Split((0,), (1, 1)), "layers of the decoder must be .* got 1,1"),
        (lambda: Split((-1, 0), (1,)), "must be 0 or more"),
        (lambda: Split.of_counts(6, 2, 5), r"6\+2 needs more layers than there are, 5"),
        (lambda: Split.of_counts(0, 2, 5), "the encoder has no layers"),
        (lambda: convert(parent(), Split((0, 5), (1,))), "no layer 5 for the encoder: .* 0 to 4"),
        (lambda: convert(parent(), Split((0,), (1, 7))), "no layer 7 for the decoder"),
        (lambda: convert(testing.model(), Split((0,), (1,))), "the model is SCD already"),
        (lambda: convert(testing.fed(), Split((0,), (1,))), "the model is SCD already"),
        (
            lambda: convert(parent(), Split((0,), (1,)), fed_level=None),
            '"resume" only where fed_level is given',
        ),
    ],
)
def test_a_split_that_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
