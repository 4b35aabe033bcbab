"""The world model as a whole: what it starts as, what it learns, what its presets are."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from scd_wm import testing
from scd_wm.imagination import rollout
from scd_wm.model.config import WorldModelConfig
from scd_wm.model.presets import PRESETS, paper
from scd_wm.model.scd import SCDWorldModel
from scd_wm.spec import CameraSpec, Spec, VectorSpec

from .learning import learn_one_clip, silent_parameters

EVERY_KIND = pytest.mark.parametrize(
    "changes",
    [
        {"context_mode": mode, "prediction": kind, "residual": residual}
        for mode in ("prefix", "token_concat")
        for kind, residual in (("sample", True), ("sample", False), ("velocity", False))
    ],
)


def test_an_untrained_residual_model_copies_the_last_frame() -> None:
    model = SCDWorldModel(testing.image_spec(), testing.config())
    clip = testing.clip(model.spec, 2, 3)
    frames = rollout(model, clip, torch.zeros(2, 4, 2), num_steps=3)
    for t in range(4):
        assert torch.equal(frames.images["top"][:, t], clip.images["top"][:, -1])
        torch.testing.assert_close(frames.vectors["proprio"][:, t], clip.vectors["proprio"][:, -1])


def test_an_untrained_residual_model_loses_the_squared_change_in_units_of_its_deviation() -> None:
    spec = replace(testing.state_spec(), outcomes=())
    model = SCDWorldModel(spec, testing.config(full_noise_fraction=1.0))
    clip = testing.clip(spec, 3, 4)
    loss, parts = model(clip, torch.arange(3))
    change = [(v[:, 1:] - v[:, :-1]).square().mean() for v in clip.vectors.values()]
    torch.testing.assert_close(parts["vector"], torch.stack(change).mean())
    torch.testing.assert_close(loss, parts["vector"])


@EVERY_KIND
def test_every_kind_learns_one_clip_in_which_the_action_decides(changes: dict[str, Any]) -> None:
    config = testing.config(full_noise_fraction=0.5, **changes)
    learned = learn_one_clip(config, num_frames=3, num_steps=80)
    assert learned.error < 0.3 * learned.variance
    assert learned.error < 0.3 * learned.shuffled


def test_where_there_is_no_last_frame_the_prediction_is_not_relative() -> None:
    model = testing.model()
    last = torch.ones(2, model.layout.num_values)
    valid = torch.ones(2, model.layout.num_tokens, dtype=torch.bool)
    valid[1] = False
    base = model.base(last, valid)
    assert torch.equal(base.value, torch.stack([last[0], 0 * last[0]]))
    assert torch.equal(base.scale, torch.stack([model.layout.delta_std, last[0]]))


@EVERY_KIND
def test_every_parameter_gets_a_gradient(changes: dict[str, Any]) -> None:
    model = testing.model(self_rollouts=1, refine_channels=4, **changes)
    silent = silent_parameters(model)
    # The decoder's frames are predicted, never missing.
    assert silent == ["decoder.embed.missing"]


def test_values_that_are_not_valid_do_not_change_the_loss() -> None:
    model = testing.model()
    clip = testing.clip(model.spec, 2, 4)
    valid = {k: v.clone() for k, v in clip.valid.items()}
    valid["proprio"][:, 2] = False
    valid["success"][:, 3] = False
    clip = replace(clip, valid=valid)
    vectors = {"proprio": clip.vectors["proprio"].clone()}
    vectors["proprio"][:, 2] = 1e6
    outcome = {k: v.clone() for k, v in clip.outcome.items()}
    outcome["success"][:, 3] = 1 - outcome["success"][:, 3]
    other = replace(clip, vectors=vectors, outcome=outcome)
    assert torch.equal(model(clip, torch.arange(2))[0], model(other, torch.arange(2))[0])


def test_encoder_and_decoder_parameters_are_all_parameters_once() -> None:
    model = testing.model()
    both = [*model.encoder_parameters(), *model.decoder_parameters()]
    assert len({id(p) for p in both}) == len(both)
    assert {id(p) for p in both} == {id(p) for p in model.parameters()}


def _count(spec: Spec, config: WorldModelConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in SCDWorldModel(spec, config).parameters())


def test_the_paper_preset_has_the_parameters_of_scd_m() -> None:
    """Latents 8x8 of 32 channels, 4 discrete actions.

    What differs from the released SCD-M: a learned place for each token and a learned token for
    what is missing (ours starts from no history), an outcome query (none here, the spec has no
    outcome), biases.
    """
    camera = CameraSpec(height=8, width=8, channels=32, kind="latent")
    spec = Spec(cameras={"latent": camera}, action=VectorSpec.unit(4))
    count = _count(spec, paper())
    assert abs(count / 233.6e6 - 1) < 0.01
    ours_only = 4 * 64 * 1024  # place and missing, in encoder and decoder
    assert abs((count - ours_only) / 233.6e6 - 1) < 0.01
    expected = {
        "dim": 1024,
        "num_heads": 16,
        "encoder_layers": 8,
        "decoder_layers": 4,
        "mlp_ratio": 4,
        "rope_theta": 10_000.0,
        "context_mode": "token_concat",
        "prediction": "velocity",
        "interface_noise": 0.05,
        "draws": 2,
        "num_steps": 50,
        "full_noise_fraction": 0.0,
    }
    assert expected.items() <= asdict(paper()).items()


def test_state_and_tiny_presets_are_as_large_as_they_say() -> None:
    vectors = {"pusher_pos": VectorSpec.unit(2), "block_pose": VectorSpec.unit(4)}
    action = VectorSpec.unit(2)
    assert _count(Spec(vectors=vectors, action=action), PRESETS["state"]()) >= 800_000
    camera = {"top_image": CameraSpec(height=64, width=64)}
    image_spec = Spec(cameras=camera, vectors={"pusher_pos": VectorSpec.unit(2)}, action=action)
    count = _count(image_spec, PRESETS["tiny"]())
    assert 2_000_000 <= count <= 5_000_000  # 5 M parameters are 10 MB in half precision


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_heads must be a divisor of 32, got 3"),
        ({"num_heads": 4}, "head width must be a multiple of 16, got 8"),
        (
            {"context_mode": "add"},
            r"context_mode must be one of \('prefix', 'token_concat', 'resume'\), got 'add'",
        ),
        ({"prediction": "noise"}, "prediction must be one of"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"full_noise_fraction": 1.5}, "full_noise_fraction must be between 0 and 1, got 1.5"),
        ({"least_visible": -0.5}, "least_visible must be between 0 and 1, got -0.5"),
    ],
)
def test_a_bad_config_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        testing.config(**changes)
