import numpy as np
import pytest
import torch

from scd_wm.clip import collate
from scd_wm.evaluation.null_models import copy_last, derangement, zero_actions
from tests.evaluation.moving_disc import MovingDisc, perfect


def test_copy_last_repeats_the_last_frame_of_the_history() -> None:
    clip = collate([MovingDisc((20,)).clip(0, 3, 4)])
    frames = copy_last(clip, torch.zeros(1, 5, 2), torch.zeros(1, dtype=torch.int64))
    assert frames.images["top"].shape == (1, 5, 32, 32, 3)
    for t in range(5):
        assert frames.images["top"][:, t].equal(clip.images["top"][:, -1])
        assert frames.vectors["disc_pos"][:, t].equal(clip.vectors["disc_pos"][:, -1])
        assert frames.outcome["success"][:, t].equal(clip.outcome["success"][:, -1])


def test_zero_actions_leaves_the_disc_where_it_is() -> None:
    history = collate([MovingDisc((20,)).clip(0, 3, 4)])
    frames = zero_actions(perfect)(history, torch.ones(1, 3, 2), torch.zeros(1, dtype=torch.int64))
    last = history.vectors["disc_pos"][:, -1:]
    assert frames.vectors["disc_pos"].equal(last.expand(-1, 3, -1))


@pytest.mark.parametrize("sizes", [(2,), (5,), (3, 3), (4, 1, 2, 1), (6, 2, 1), (1,) * 9])
@pytest.mark.parametrize("seed", range(5))
def test_each_clip_borrows_from_another_and_each_lends_once(
    sizes: tuple[int, ...], seed: int
) -> None:
    episodes = [f"e{i}" for i, n in enumerate(sizes) for _ in range(n)]
    giver = derangement(episodes, seed)
    assert sorted(giver) == list(range(len(episodes)))
    assert (giver != np.arange(len(episodes))).all()
    if 2 * max(sizes) <= sum(sizes):
        assert all(episodes[a] != episodes[b] for a, b in enumerate(giver))


def test_one_clip_has_nobody_to_borrow_from() -> None:
    with pytest.raises(ValueError, match="2 clips or more"):
        derangement(["e"], 0)
