import numpy as np
import pytest
import torch

from scd_wm.clip import collate
from scd_wm.evaluation.null_models import copy_last, derangement, describe_zero, zero_action
from scd_wm.spec import Spec, VectorSpec
from tests.evaluation.moving_disc import SPEC, MovingDisc


def test_copy_last_repeats_the_last_frame_of_the_history() -> None:
    clip = collate([MovingDisc((20,)).clip(0, 3, 4)])
    frames = copy_last(clip, torch.zeros(1, 5, 2), torch.zeros(1, dtype=torch.int64))
    assert frames.images["top"].shape == (1, 5, 32, 32, 3)
    for t in range(5):
        assert frames.images["top"][:, t].equal(clip.images["top"][:, -1])
        assert frames.vectors["disc_pos"][:, t].equal(clip.vectors["disc_pos"][:, -1])
        assert frames.outcome["success"][:, t].equal(clip.outcome["success"][:, -1])


def test_the_zero_action_is_the_nearest_to_0_that_was_recorded() -> None:
    actions = torch.tensor([[[-1.0, 0.5, -3.0]], [[1.0, 0.25, -2.0]]])
    zero = zero_action(actions)
    assert zero.tolist() == [0, 0.25, -2]
    action = VectorSpec(dim=3, mean=(0, 0, 1), std=(1, 1, 0.5), delta_std=(1, 1, 1))
    text = describe_zero(zero, Spec(vectors={"x": VectorSpec.unit(1)}, action=action))
    assert "clipped to the recorded range: [0.0, 0.25, -2.0]" in text
    assert "value 2 is 6.0 deviations from the mean" in text
    assert "clipped" not in describe_zero(torch.zeros(2), SPEC)


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
