"""Rollouts: batching, interleaving, causality, the start token, policies, errors."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.imagination import (
    Frames,
    begin,
    imagine,
    rollout,
    rollout_policy,
    stack,
    start_frame,
    step,
)
from scd_wm.model.decoder import DecoderContext
from scd_wm.model.frames import Base
from scd_wm.model.scd import SCDWorldModel
from scd_wm.spec import CameraSpec, Spec, VectorSpec

TOLERANCE: dict[str, Any] = {"atol": 1e-9, "rtol": 0.0}


@pytest.fixture(params=["prefix", "token_concat"])
def model(request: pytest.FixtureRequest) -> SCDWorldModel:
    return testing.model(context_mode=request.param).double()


def _history(model: SCDWorldModel, batch: int = 3, num_frames: int = 2) -> Clip:
    return testing.double(testing.clip(model.spec, batch, num_frames))


def _actions(batch: int = 3, horizon: int = 10) -> Tensor:
    random = torch.Generator().manual_seed(5)
    return torch.randn(batch, horizon, 2, generator=random, dtype=torch.float64)


def _assert_equal(a: Frames, b: Frames) -> None:
    for group in ("images", "vectors", "outcome"):
        for name, value in getattr(a, group).items():
            other = getattr(b, group)[name]
            torch.testing.assert_close(value.double(), other.double(), **TOLERANCE)


def test_a_cached_rollout_equals_one_that_reads_its_whole_history_again(
    model: SCDWorldModel,
) -> None:
    """Out to three windows: uncached means one banded pass over all frames so far."""
    horizon = 3 * model.config.window
    history, actions = _history(model), _actions(horizon=horizon)
    state = begin(model, history)
    packed = model.layout.pack(history)
    taken = torch.cat([history.actions, actions], dim=1)
    for t in range(horizon):
        normal = model.layout.normalise_vector("action", taken[:, : packed.shape[1]])
        valid = torch.ones(3, packed.shape[1], model.layout.num_tokens, dtype=torch.bool)
        with torch.inference_mode():
            context = model.encoder(packed, valid, normal, torch.ones(normal.shape[:2]).bool())[
                :, -1
            ]
            cached = state.clone()
            step(model, state, actions[:, t], num_steps=2)
            expected = model.encoder.step(
                packed[:, -1], valid[:, -1], normal[:, -1], valid[:, -1, 0], cached.cache
            )
        torch.testing.assert_close(expected, context, **TOLERANCE)
        packed = torch.cat([packed, state.last[:, None]], dim=1)


def test_rows_do_not_depend_on_the_batch_they_are_in(model: SCDWorldModel) -> None:
    history, actions, seeds = _history(model), _actions(), torch.tensor([3, 1, 4])
    whole = rollout(model, history, actions, seeds=seeds)
    for row in range(3):
        pick = slice(row, row + 1)
        alone = history.map(itemgetter(pick))
        images, vectors, outcome = (
            {k: v[pick] for k, v in group.items()}
            for group in (whole.images, whole.vectors, whole.outcome)
        )
        part = Frames(images, vectors, outcome)
        _assert_equal(rollout(model, alone, actions[pick], seeds=seeds[pick]), part)


def test_many_calls_equal_one_call(model: SCDWorldModel) -> None:
    history, actions = _history(model), _actions()
    state = begin(model, history)
    pieces = [*imagine(model, state, actions[:, :4]), *imagine(model, state, actions[:, 4:])]
    _assert_equal(stack(pieces), rollout(model, history, actions))


def test_interleaved_rollouts_do_not_disturb_each_other(model: SCDWorldModel) -> None:
    histories = [_history(model, num_frames=n) for n in (2, 4)]
    alone = [
        rollout(model, h, _actions(), seeds=torch.arange(3) + i) for i, h in enumerate(histories)
    ]
    states = [begin(model, h, torch.arange(3) + i) for i, h in enumerate(histories)]
    together: list[list[Frames]] = [[], []]
    for t in range(10):
        for i, state in enumerate(states):
            together[i].append(step(model, state, _actions()[:, t]))
    for frames, expected in zip(together, alone, strict=True):
        _assert_equal(stack(frames), expected)


def test_a_clone_goes_its_own_way(model: SCDWorldModel) -> None:
    state = begin(model, _history(model))
    copy = state.clone()
    for t in range(4):
        step(model, copy, -_actions()[:, t])
    expected = rollout(model, _history(model), _actions())
    _assert_equal(stack(list(imagine(model, state, _actions()))), expected)


def test_a_changed_future_action_never_changes_an_earlier_frame(model: SCDWorldModel) -> None:
    actions = _actions()
    changed = actions.clone()
    changed[:, 6] += 1
    before, after = (rollout(model, _history(model), a) for a in (actions, changed))
    proprio = [f.vectors["proprio"] for f in (before, after)]
    assert torch.equal(proprio[0][:, :6], proprio[1][:, :6])
    assert not torch.allclose(proprio[0][:, 6], proprio[1][:, 6])


def test_seeds_decide_the_noise(model: SCDWorldModel) -> None:
    same = _history(model).map(lambda x: x[:1].expand(3, *x.shape[1:]))
    actions = _actions()[:1].expand(3, -1, -1)
    x = rollout(model, same, actions, seeds=torch.tensor([7, 7, 8])).vectors["proprio"]
    torch.testing.assert_close(x[0], x[1], **TOLERANCE)
    assert not torch.allclose(x[0], x[2])


def test_every_imagined_frame_of_a_row_has_noise_of_its_own(
    model: SCDWorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []
    sample = model.sample

    def spy(context: DecoderContext, base: Base, eps: Tensor, *settings: Any) -> Any:
        drawn.append(eps)
        return sample(context, base, eps, *settings)

    monkeypatch.setattr(model, "sample", spy)
    rollout(model, _history(model), _actions(), num_steps=2)
    assert len(torch.unique(torch.cat(drawn)[:, 0])) == 30


def test_the_solver_is_a_choice_of_the_call_or_of_the_model(model: SCDWorldModel) -> None:
    history, actions = _history(model), _actions(horizon=3)
    settings = [(1, "euler"), (1, "heun"), (3, "euler"), (3, "heun")]
    once, same, euler, heun = (
        rollout(model, history, actions, num_steps=n, solver=solver) for n, solver in settings
    )
    _assert_equal(once, same)
    apart = (euler.vectors["proprio"] - heun.vectors["proprio"]).abs()
    assert (apart.flatten(1).amax(1) > 1e-3).all()
    model.config = replace(model.config, solver="heun")
    _assert_equal(rollout(model, history, actions, num_steps=3), heun)


def test_memory_of_a_rollout_does_not_grow(model: SCDWorldModel) -> None:
    state = begin(model, _history(model))
    size = state.cache.keys.numel()
    for t in range(10):
        step(model, state, _actions()[:, t])
    assert state.cache.keys.numel() == size


def test_a_rollout_begins_from_no_history_and_ignores_the_action_before_the_first_frame(
    model: SCDWorldModel,
) -> None:
    start = testing.double(start_frame(model.spec, 3))
    actions = _actions()
    changed = actions.clone()
    changed[:, 0] += 5
    first, second = (rollout(model, start, a) for a in (actions, changed))
    _assert_equal(first, second)
    assert first.images["top"].shape == (3, 10, 16, 24, 3)


def test_only_a_row_at_the_start_frame_ignores_its_action(model: SCDWorldModel) -> None:
    history = _history(model, num_frames=1)
    valid = {name: v.clone() for name, v in history.valid.items()}
    for v in valid.values():
        v[0] = False  # row 0 has no history, the others have one frame
    actions = _actions(horizon=1)
    before, after = (
        rollout(model, replace(history, valid=valid), a).vectors["proprio"]
        for a in (actions, actions + 1)
    )
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1:], after[1:]).any()


def test_an_unseen_last_frame_is_no_start_frame(model: SCDWorldModel) -> None:
    """Formats that store no last observation end in one; the action after it still counts."""
    history = _history(model, num_frames=3)
    for v in history.valid.values():
        v[:, -1] = False
    actions = _actions(horizon=1)
    before, after = (rollout(model, history, a).vectors["proprio"] for a in (actions, actions + 1))
    assert not torch.isclose(before, after).any()


def test_a_rollout_of_latents_begins_from_no_history() -> None:
    camera = CameraSpec(height=4, width=4, channels=5, kind="latent")
    spec = Spec(cameras={"code": camera}, action=VectorSpec.unit(2))
    model = testing.model(spec, patch_size=2)
    frames = rollout(model, start_frame(spec, 2), torch.zeros(2, 3, 2))
    assert frames.images["code"].shape == (2, 3, 4, 4, 5)
    assert frames.images["code"].dtype == torch.float32
    assert frames.outcome == {}


def test_outcomes_come_in_their_units(model: SCDWorldModel) -> None:
    outcome = rollout(model, _history(model), _actions()).outcome
    for name in ("terminated", "success"):
        assert ((outcome[name] > 0) & (outcome[name] < 1)).all()
    assert outcome["reward"].shape == (3, 10)


def test_a_policy_sees_imagined_observations_only(model: SCDWorldModel) -> None:
    history = _history(model)
    seen: list[Tensor] = []

    def policy(observation: dict[str, Tensor]) -> Tensor:
        seen.append(observation["proprio"])
        return 0.1 * observation["proprio"][:, :2]

    frames, actions = rollout_policy(model, history, policy, horizon=5)
    _assert_equal(frames, rollout(model, history, actions))
    torch.testing.assert_close(seen[0], history.vectors["proprio"][:, -1])
    torch.testing.assert_close(seen[3], frames.vectors["proprio"][:, 2])


def test_a_policy_sees_the_same_names_at_every_step(model: SCDWorldModel) -> None:
    history = _history(model)
    more = {**history.vectors, "force": history.vectors["proprio"]}
    history = replace(
        history, vectors=more, valid={**history.valid, "force": history.valid["proprio"]}
    )
    names: list[list[str]] = []

    def policy(observation: dict[str, Tensor]) -> Tensor:
        names.append(list(observation))
        return observation["proprio"][:, :2]

    rollout_policy(model, history, policy, horizon=3)
    assert names == [["top", "proprio"]] * 3


def test_wrong_inputs_are_refused(model: SCDWorldModel) -> None:
    history = _history(model)
    with pytest.raises(ValueError, match=r"actions must be \(3, 2\), got \(3, 5\)"):
        rollout(model, history, torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match="T >= 1"):
        rollout(model, history, torch.zeros(3, 0, 2))
    with pytest.raises(ValueError, match=r"history has no 'proprio'; it has \['top'\]"):
        rollout(model, replace(history, vectors={}), _actions())
    with pytest.raises(ValueError, match=r"seeds must be \(3,\), one a row, got \(2,\)"):
        begin(model, history, torch.arange(2))
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        rollout(model, history, _actions(), num_steps=0)
    with pytest.raises(ValueError, match=r"solver must be one of .*, got 'rk4'"):
        rollout(model, history, _actions(), solver="rk4")
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        rollout_policy(model, history, lambda o: o["proprio"], 0)
