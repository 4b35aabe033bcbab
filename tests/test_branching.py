"""Forks, selections and replaced rows against rollouts that were never joined or parted."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.imagination import RolloutState, begin, step
from scd_wm.model import cache
from scd_wm.model.world_model import WorldModel

TOLERANCE: dict[str, Any] = {"atol": 1e-9, "rtol": 0.0}


@pytest.fixture(autouse=True, params=[0, 2048], ids=["many", "few"])
def _both_layouts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MANY_TOKENS", request.param)


@pytest.fixture(params=["prefix", "token_concat", "entangled", "fed"])
def model(request: pytest.FixtureRequest) -> WorldModel:
    if request.param == "entangled":
        return testing.entangled().double()
    if request.param == "fed":
        return testing.fed().double()
    return testing.model(context_mode=request.param).double()


def _history(model: WorldModel, batch: int, num_frames: int, seed: int = 0) -> Clip:
    return testing.double(testing.clip(model.spec, batch, num_frames, seed))


def _actions(batch: int, horizon: int) -> Tensor:
    random = torch.Generator().manual_seed(5)
    return torch.randn(batch, horizon, 2, generator=random, dtype=torch.float64)


def _imagine(model: WorldModel, state: RolloutState, actions: Tensor) -> Tensor:
    """Return packed frames, (B, T, M), in two sampler steps."""
    frames = []
    for t in range(actions.shape[1]):
        step(model, state, actions[:, t], num_steps=2)
        frames.append(state.last)
    return torch.stack(frames, dim=1)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 5])
@pytest.mark.parametrize("horizon", [None, 1, 8])
def test_a_fork_equals_as_many_copies(
    model: WorldModel, num_frames: int, horizon: int | None
) -> None:
    """From histories shorter and longer than the window, until all of them is out of sight."""
    history, seeds, actions = _history(model, 2, num_frames), torch.tensor([3, 8]), _actions(6, 8)
    forked = begin(model, history, seeds).fork(3, horizon, common_noise=True)
    copies = begin(
        model, history.map(lambda x: x.repeat_interleave(3, 0)), seeds.repeat_interleave(3)
    )
    expected = _imagine(model, copies, actions)
    torch.testing.assert_close(_imagine(model, forked, actions), expected, **TOLERANCE)


def test_a_fork_of_histories_of_unequal_length_equals_copies(model: WorldModel) -> None:
    long, short = (begin(model, _history(model, 1, n, n)) for n in (5, 2))
    start = begin(model, _history(model, 2, 4)).replace_rows([0], long).replace_rows([1], short)
    actions = _actions(4, 7)
    got = _imagine(model, start.fork(2, 2, common_noise=True), actions)
    for row, alone in enumerate((long, short)):
        pick = slice(2 * row, 2 * row + 2)
        expected = _imagine(model, alone.select([0, 0]), actions[pick])
        torch.testing.assert_close(got[pick], expected, **TOLERANCE)


@pytest.mark.parametrize("taken", [1, 4])
@pytest.mark.parametrize("rows", [[4], [5, 0], [1, 1, 4, 3], [2, 0, 5]])
def test_selected_branches_go_on_as_they_would_have(
    model: WorldModel, taken: int, rows: list[int]
) -> None:
    actions = _actions(6, 8)
    state = begin(model, _history(model, 2, 3)).fork(3, 2)
    _imagine(model, state, actions[:, :taken])
    chosen = state.select(rows)
    expected = _imagine(model, state, actions[:, taken:])[rows]
    got = _imagine(model, chosen, actions[rows, taken:])
    torch.testing.assert_close(got, expected, **TOLERANCE)


def test_a_fork_of_a_branch_equals_copies_of_it(model: WorldModel) -> None:
    state = begin(model, _history(model, 1, 3)).fork(4, 2)
    _imagine(model, state, _actions(4, 2))
    branch, actions = state.select([2]), _actions(3, 6)
    expected = _imagine(model, branch.select([0, 0, 0]), actions)
    got = _imagine(model, branch.fork(3, 2, common_noise=True), actions)
    torch.testing.assert_close(got, expected, **TOLERANCE)


def test_a_fork_leaves_the_state_as_it_was(model: WorldModel) -> None:
    state, untouched = (begin(model, _history(model, 2, 4)) for _ in range(2))
    _imagine(model, state.fork(3), _actions(6, 5))
    actions = _actions(2, 5)
    torch.testing.assert_close(
        _imagine(model, state, actions), _imagine(model, untouched, actions), **TOLERANCE
    )


def test_branches_have_noise_of_their_own_or_in_common(model: WorldModel) -> None:
    same = _actions(1, 2).expand(3, -1, -1)
    for common_noise in (True, False):
        state = begin(model, _history(model, 1, 2)).fork(3, common_noise=common_noise)
        frames = _imagine(model, state, same)
        equal = [torch.allclose(frames[0], frames[i], atol=1e-9) for i in (1, 2)]
        assert equal == [common_noise] * 2


@pytest.mark.parametrize("forked", [False, True])
def test_a_replaced_row_begins_anew_and_the_others_do_not_notice(
    model: WorldModel, forked: bool
) -> None:
    actions = _actions(3, 9)
    state = (
        begin(model, _history(model, 1, 3)).fork(3)
        if forked
        else begin(model, _history(model, 3, 3))
    )
    _imagine(model, state, actions[:, :2])
    fresh = begin(model, _history(model, 1, 2, seed=9), torch.tensor([42]))
    replaced = state.replace_rows([1], fresh)
    expected = _imagine(model, state.clone(), actions[:, 2:])
    expected[1:2] = _imagine(model, fresh.clone(), actions[1:2, 2:])
    torch.testing.assert_close(_imagine(model, replaced, actions[:, 2:]), expected, **TOLERANCE)


def test_a_snapshot_brings_back_what_was(model: WorldModel) -> None:
    state, actions = begin(model, _history(model, 1, 3)).fork(2, 1), _actions(2, 4)
    snapshot = state.clone()
    first = _imagine(model, state, actions)
    torch.testing.assert_close(_imagine(model, snapshot, actions), first, **TOLERANCE)


def test_a_row_does_not_depend_on_its_batch(model: WorldModel) -> None:
    history, actions = _history(model, 3, 4), _actions(3, 6)
    whole = _imagine(model, begin(model, history), actions)
    for row in range(3):
        pick = slice(row, row + 1)
        alone = begin(model, history.map(itemgetter(pick)), torch.tensor([row]))
        torch.testing.assert_close(_imagine(model, alone, actions[pick]), whole[pick], **TOLERANCE)


def test_branches_cost_one_history_and_what_they_add(model: WorldModel) -> None:
    state = begin(model, _history(model, 1, 5))
    forked = state.fork(256, 1)
    per_frame = state.cache.num_bytes / (state.cache.keys.shape[2] / model.layout.num_tokens)
    scratch = state.cache.num_scratch / model.layout.num_tokens
    window = model.config.window
    assert forked.cache.num_bytes == round(per_frame * (window + 256 * (1 + scratch)))
    step(model, forked, _actions(256, 1)[:, 0])
    assert forked.cache.num_bytes == round(per_frame * (window + 256 * (1 + scratch)))


def test_wrong_rows_are_refused(model: WorldModel) -> None:
    state = begin(model, _history(model, 2, 2))
    with pytest.raises(ValueError, match="branches must be at least 1, got 0"):
        state.fork(0)
    with pytest.raises(IndexError, match="no row 2; the state has rows 0 to 1"):
        state.select([0, 2])
    with pytest.raises(ValueError, match="1 rows to replace, but other has 2"):
        state.replace_rows([0], state)
