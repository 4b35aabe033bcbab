import numpy as np
import pytest
import torch

from scd_wm.clip import Clip
from scd_wm.evaluation.clips import choose_clips
from scd_wm.evaluation.evaluate import read_clips
from scd_wm.evaluation.readers import Readers, fit_readers
from scd_wm.imagination import Frames
from tests.evaluation.moving_disc import SIZE, MovingDisc

POSITIONS = {"disc_pos": 2}


def read(
    readers: Readers, source: MovingDisc, count: int = 24
) -> tuple[Clip, dict[str, torch.Tensor]]:
    places = choose_clips(source, 6, count, 1)
    clip = read_clips(source, places, 6)
    before, after = clip.frames(0, 1), clip.frames(1, 6)
    return clip, readers.read(
        Frames(before.images, before.vectors, {}),
        Frames(after.images, after.vectors, {}),
        [p.episode for p in places],
    )


def r2(real: torch.Tensor, got: torch.Tensor) -> float:
    return 1 - float((got - real).square().sum() / (real - real.mean(dim=(0, 1))).square().sum())


def test_actions_and_positions_are_read_from_episodes_that_were_not_fitted_on() -> None:
    readers = fit_readers(MovingDisc((20,) * 8, 5), MovingDisc((25,) * 30), POSITIONS, ("top",), 0)
    clip, got = read(readers, MovingDisc((20,) * 8, 5))
    assert got["action/vectors"].shape == clip.actions.shape
    assert r2(clip.actions, got["action/vectors"]) > 0.999
    assert r2(clip.actions, got["action/images"]) > 0.5
    away = (got["seen/disc_pos"] - clip.vectors["disc_pos"][:, 1:]).norm(dim=-1)
    assert away.mean() < 1.5
    assert SIZE > 20


def test_without_other_episodes_each_half_is_read_by_the_other() -> None:
    class Spy(MovingDisc):
        seen: set[int]

        def clip(self, episode: int, start: int, num_frames: int) -> Clip:
            self.seen.add(episode)
            return super().clip(episode, start, num_frames)

    source = Spy((20,) * 8)
    source.seen = set()
    readers = fit_readers(source, None, POSITIONS, (), 0)
    assert source.seen == set(range(8))
    assert sorted(readers.reader_of) == [0] * 4 + [1] * 4
    one, other = readers.readers
    half = np.array(readers.reader_of)
    only = MovingDisc((20,) * 8)
    for e in np.flatnonzero(half == 0):  # what is read of these must not depend on them
        only.actions[e] = only.actions[e] * 0 + 9
    again = fit_readers(only, None, POSITIONS, (), 0)
    assert again.readers[0].actions["vectors"].weight.equal(one.actions["vectors"].weight)
    assert not again.readers[1].actions["vectors"].weight.equal(other.actions["vectors"].weight)
    clip, got = read(readers, source)
    assert r2(clip.actions, got["action/vectors"]) > 0.999


def test_a_blurred_picture_is_read_like_a_sharp_one() -> None:
    readers = fit_readers(MovingDisc((20,) * 8, 5), MovingDisc((25,) * 30), POSITIONS, ("top",), 0)
    source = MovingDisc((20,) * 8, 5)
    places = choose_clips(source, 6, 24, 1)
    clip = read_clips(source, places, 6)
    sharp = clip.images["top"].float()
    blurred = sum(sharp.roll((i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
    episodes = [p.episode for p in places]
    errors = []
    for images in (sharp, blurred):
        frames = {"top": torch.as_tensor(images).round().to(torch.uint8)}
        before = Frames({k: v[:, :1] for k, v in frames.items()}, {}, {})
        got = readers.read(
            before, Frames({k: v[:, 1:] for k, v in frames.items()}, {}, {}), episodes
        )
        away = got["seen/disc_pos"] - clip.vectors["disc_pos"][:, 1:]
        errors.append(float(away.norm(dim=-1).mean()))
    assert errors[1] < 1.5 * errors[0]


def test_too_few_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="needs two episodes of 9 frames to fit on, there are 1"):
        fit_readers(MovingDisc((20,) * 2), None, POSITIONS, (), 0)
    with pytest.raises(ValueError, match="there are 0"):
        fit_readers(MovingDisc((20,) * 2), MovingDisc((5, 5)), POSITIONS, (), 0)
