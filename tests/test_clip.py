"""Clips: frames and actions stay aligned, whatever is done to them."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter

import pytest
import torch

from scd_wm import testing
from scd_wm.clip import Clip, collate


def _counting(num_frames: int) -> Clip:
    """A clip in which frame t holds t and the action from t to t + 1 holds t + 0.5."""
    time = torch.arange(float(num_frames))
    seen = torch.ones(num_frames, dtype=torch.bool)
    return Clip(
        images={},
        vectors={"time": time[:, None]},
        outcome={"reward": time - 0.5},  # of the action before
        actions=time[:-1, None] + 0.5,
        valid={"time": seen, "reward": time > 0},
        action_valid=seen[1:],
        episode="counting",
    )


def test_cut_frames_keep_the_actions_between_them_and_no_other() -> None:
    cut = collate([_counting(6), _counting(6)]).frames(2, 5)
    assert cut.num_frames == 3
    assert cut.vectors["time"][1, :, 0].tolist() == [2, 3, 4]
    assert cut.actions[1, :, 0].tolist() == [2.5, 3.5]
    assert cut.outcome["reward"][1].tolist() == [1.5, 2.5, 3.5]
    assert cut.valid["reward"].all()
    assert cut.action_valid.shape == (2, 2)
    assert cut.episodes == ("counting", "counting")


def test_one_frame_has_no_action() -> None:
    cut = collate([_counting(4)]).frames(3, 4)
    assert cut.num_frames == 1
    assert cut.actions.shape == (1, 0, 1)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (2, 2), (3, 2), (-1, 2), (0, -1), (0, 5)])
def test_frames_that_a_clip_does_not_have_are_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=rf"no frames {start} to {stop - 1} in a clip of 4"):
        collate([_counting(4)]).frames(start, stop)


def test_cutting_a_clip_without_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batched clips only"):
        _counting(4).frames(0, 2)


def test_collated_clips_are_the_rows_of_the_batch() -> None:
    spec = testing.image_spec()
    batch = testing.clip(spec, 3, 4)
    rows = [replace(batch.map(itemgetter(i)), episode=f"row {i}") for i in range(3)]
    again = collate(rows)
    for group in ("images", "vectors", "outcome", "valid"):
        for name, value in getattr(batch, group).items():
            assert torch.equal(getattr(again, group)[name], value)
    assert torch.equal(again.actions, batch.actions)
    assert torch.equal(again.action_valid, batch.action_valid)
    assert again.episodes == ("row 0", "row 1", "row 2")


def test_a_clip_whose_parts_do_not_fit_is_refused() -> None:
    clip = _counting(4)
    one_more = torch.zeros(4, 1)
    with pytest.raises(ValueError, match=r"action_valid must be \(4,\), got \(3,\)"):
        replace(clip, actions=one_more)
    with pytest.raises(ValueError, match=r"'time' has leading axes \(4,\), but with 4 actions"):
        replace(clip, actions=one_more, action_valid=torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"valid lacks \['reward'\]; it has \['time'\]"):
        replace(clip, valid={"time": clip.valid["time"]})
    with pytest.raises(ValueError, match="'reward' has leading axes"):
        replace(clip, valid={**clip.valid, "reward": torch.ones(3, dtype=torch.bool)})
