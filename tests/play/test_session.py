"""Play without a page: frames are those of rollouts, and going back is exact."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import scd_wm
from scd_wm import testing
from scd_wm.assets import SHIPPED
from scd_wm.autoencoder.conv import ConvAutoencoder, ConvConfig
from scd_wm.clip import collate
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.play import session as session_module
from scd_wm.play.actions import action_range
from scd_wm.play.session import MAX_BRANCHES, MAX_SNAPSHOTS, Moment, Session
from scd_wm.play.wire import places_json, view_json, world_json
from scd_wm.play.world import Shown, World
from scd_wm.spec import CameraSpec, Spec, VectorSpec

ACTIONS = np.random.default_rng(3).uniform(-1, 1, (6, 2)).tolist()


@pytest.fixture
def session(world: World) -> Session:
    return Session(world)


def drive(session: Session, actions: list[list[float]], num_steps: int = 2) -> list[Moment]:
    return [session.step(action, num_steps) for action in actions]


def same(a: Shown, b: Shown) -> bool:
    """Say whether frames are equal, bit for bit."""
    return (
        all(np.array_equal(a.images[k], b.images[k]) for k in {*a.images, *b.images})
        and all(np.array_equal(a.vectors[k], b.vectors[k]) for k in {*a.vectors, *b.vectors})
        and a.outcome == b.outcome
    )


def all_same(a: list[Moment], b: list[Moment]) -> bool:
    return len(a) == len(b) and all(same(x.shown, y.shown) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("frame", [0, 1, 5, 7])
def test_a_start_shows_exactly_the_recorded_frame(
    session: Session, data: RobotDataset, frame: int
) -> None:
    shown = session.reset(0, frame).shown
    np.testing.assert_array_equal(shown.images["top"], data.images(0, "top", frame, frame + 1)[0])
    np.testing.assert_array_equal(
        shown.vectors["proprio"], data.arrays(0).vectors["proprio"][frame]
    )
    assert {*shown.outcome} == ({"reward", "terminated", "success"} if frame else set())
    assert session.recorded_frame() == frame
    assert (session.recorded_action() is None) == (frame == 7)


def test_frames_are_those_of_a_rollout_after_the_frames_before_the_start(
    session: Session, data: RobotDataset
) -> None:
    session.reset(0, 5, seed=11)
    moments = drive(session, ACTIONS, num_steps=3)
    history = collate([data.clip(0, 3, 3)])
    wanted = scd_wm.rollout(
        session.world.model,
        history,
        torch.tensor([ACTIONS]),
        seeds=torch.tensor([11]),
        num_steps=3,
    )
    for t, moment in enumerate(moments):
        shown = moment.shown
        np.testing.assert_array_equal(shown.images["top"], wanted.images["top"][0, t].numpy())
        np.testing.assert_array_equal(
            shown.vectors["proprio"], wanted.vectors["proprio"][0, t].numpy()
        )
        assert shown.outcome == {k: float(v[0, t]) for k, v in wanted.outcome.items()}
        assert moment.time == t + 1


def test_recorded_actions_are_replayed_to_the_last(session: Session, data: RobotDataset) -> None:
    session.reset(1, 1)
    actions = torch.from_numpy(np.array(data.arrays(1).actions[None, 1:]))
    wanted = scd_wm.rollout(
        session.world.model, collate([data.clip(1, -1, 3)]), actions, seeds=torch.tensor([0])
    )
    for t in range(3):
        shown = session.replay().shown
        np.testing.assert_array_equal(shown.images["top"], wanted.images["top"][0, t].numpy())
    assert session.recorded_frame() == 4
    with pytest.raises(ValueError, match="no action is recorded at this time"):
        session.replay()
    session.step([0, 0])
    assert session.recorded_frame() is None


def test_undo_goes_back_exactly(session: Session) -> None:
    first = drive(session, ACTIONS)
    assert session.undo(4) is first[1]
    assert session.num_undo == 2
    drive(session, [[0.9, -0.9]])  # another way, taken back too
    session.undo()
    assert all_same(drive(session, ACTIONS[2:]), first[2:])


def test_there_is_no_more_to_undo_than_was_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(world)
    with pytest.raises(ValueError, match="0 steps can be undone, asked for 1"):
        session.undo()
    monkeypatch.setattr(session_module, "UNDO_BYTES", 0)  # as with a large model
    session = Session(world)
    drive(session, ACTIONS)
    assert session.num_undo == session.max_undo == 4
    assert session.undo(4).time == 2


def test_branches_go_on_apart_and_alike_under_the_same_actions(session: Session) -> None:
    left = drive(session, ACTIONS[:2])[-1]
    branch = session.branch()
    there = drive(session, ACTIONS[2:])
    assert session.switch(1) is left  # the first branch has stayed
    assert all_same(drive(session, ACTIONS[2:]), there)
    session.undo(4)
    assert not same(drive(session, [[1, 1]])[-1].shown, there[0].shown)
    assert session.switch(branch) is there[-1]
    assert session.undo(4) is left


def test_a_branch_may_have_noise_of_its_own(session: Session) -> None:
    drive(session, ACTIONS[:2])
    branches = [session.branch(own_noise=True)]
    session.switch(1)
    branches.append(session.branch(own_noise=True))
    frames = []
    for number in (1, *branches):
        session.switch(number)
        frames.append(drive(session, ACTIONS[2:3])[-1].shown)
    pairs = ((frames[0], frames[1]), (frames[0], frames[2]), (frames[1], frames[2]))
    assert not any(same(a, b) for a, b in pairs)


def test_snapshots_are_gone_back_to_exactly_and_as_often_as_one_likes(session: Session) -> None:
    drive(session, ACTIONS[:2])
    number = session.snapshot()
    wanted = drive(session, ACTIONS[2:])
    session.reset(1)
    for _ in range(2):
        session.restore(number)
        assert all_same(drive(session, ACTIONS[2:]), wanted)
    session.undo(5)  # 4 frames, and the return to the snapshot
    assert session.now is wanted[-1] or same(session.now.shown, wanted[-1].shown)
    session.forget(number)
    with pytest.raises(ValueError, match=f"no snapshot {number}; there are none"):
        session.restore(number)


def test_there_is_room_for_so_many_branches_and_snapshots(session: Session) -> None:
    for _ in range(MAX_SNAPSHOTS):
        session.snapshot()
    with pytest.raises(ValueError, match=f"there are {MAX_SNAPSHOTS} snapshots already"):
        session.snapshot()
    numbers = [session.branch() for _ in range(MAX_BRANCHES - 1)]
    with pytest.raises(ValueError, match=f"there are {MAX_BRANCHES} branches already"):
        session.branch()
    session.drop(numbers[-1])
    assert session.branch_id == numbers[-2]
    for number in [1, *numbers[:-2]]:
        session.drop(number)
    with pytest.raises(ValueError, match="the only branch"):
        session.drop(session.branch_id)
    with pytest.raises(ValueError, match="no branch 1"):
        session.switch(1)


def test_from_nothing_the_seed_decides(session: Session) -> None:
    first = session.reset(None, seed=1)
    assert same(session.reset(None, seed=1).shown, first.shown)
    assert not same(session.reset(None, seed=2).shown, first.shown)
    assert session.recorded_frame() is None
    with pytest.raises(ValueError, match="no action is recorded"):
        session.replay()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([0.0], "an action has 2 values, got 1 values"),
        ("ab", "an action has 2 values"),
        (None, "an action has 2 values, got None"),
        ([0.0, float("nan")], "value 2 of the action must be a number, got nan"),
        ([True, 0.0], "value 1 of the action must be a number, got True"),
        ([0.0, -1.5], "value 2 of the action must be within -1 to 1, got -1.5"),
    ],
)
def test_an_action_that_is_none_changes_nothing(
    session: Session, action: Any, message: str
) -> None:
    before = session.now
    with pytest.raises(ValueError, match=message):
        session.step(action)
    assert session.now is before


@pytest.mark.parametrize(
    ("episode", "frame", "message"),
    [
        (2, 0, "no episode 2; the data has 0 to 1"),
        (-1, 0, "no episode -1"),
        (1, 5, "no frame 5 in episode 1, .*: it has 0 to 4"),
        (0, -1, "no frame -1"),
    ],
)
def test_a_frame_that_is_not_there_changes_nothing(
    session: Session, episode: int, frame: int, message: str
) -> None:
    before = session.now
    with pytest.raises(ValueError, match=message):
        session.reset(episode, frame)
    assert session.now is before


def test_actions_are_within_the_usual_range_or_that_of_the_data() -> None:
    usual = action_range(testing.image_spec().action)
    assert (usual.low, usual.high, usual.rest) == ((-1, -1), (1, 1), (0, 0))
    joints = VectorSpec(dim=2, mean=(0.1, 40.0), std=(0.02, 7.0), delta_std=(0.001, 0.5))
    other = action_range(joints)
    assert other.low == pytest.approx((0.04, 19.0))
    assert other.high == pytest.approx((0.16, 61.0))
    assert other.rest == (0.1, 40.0)
    assert other.hold


def test_whether_actions_hold_is_guessed_right_for_the_shipped_models() -> None:
    def holds(name: str) -> bool:
        config = json.loads((SHIPPED[name] / "config.json").read_text(encoding="utf-8"))
        return action_range(Spec.from_json(config["spec"]).action).hold

    assert holds("push_t_tiny")  # where the pusher shall be
    assert not holds("lift_tiny")  # how fast the hand shall go


def test_numbers_of_the_last_frames_are_kept(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "TRACE", 3)
    moments = drive(session, ACTIONS[:4])
    outcomes = [numbers.outcome for numbers in session.now.trace]
    assert outcomes == [moment.shown.outcome for moment in moments[-3:]]


def test_a_world_without_cameras_and_data_is_played_too() -> None:
    world = World("state", testing.model(testing.state_spec()).eval())
    session = Session(world)
    assert {*session.step([0.5, 0.5]).shown.vectors} == {"a", "b"}
    told = view_json(session, beside=True) | places_json(session) | world_json(world)
    json.dumps(told, allow_nan=False)
    assert told["images"] == {}
    assert told["recorded_images"] is None
    with pytest.raises(ValueError, match="no data set to begin from"):
        session.reset(0)


def test_a_world_of_latents_shows_pixels(data: RobotDataset) -> None:
    torch.manual_seed(0)
    autoencoder = ConvAutoencoder(ConvConfig(channels=4, downscale=4, width=8)).eval()
    latent = CameraSpec(height=4, width=6, channels=4, kind="latent", downscale=4)
    spec = replace(testing.image_spec(), cameras={"top": latent})
    with pytest.raises(ValueError, match="give the autoencoder"):
        World("latent", testing.model(spec, patch_size=2), data)
    world = World("latent", testing.model(spec, patch_size=2).eval(), data, autoencoder)
    session = Session(world)
    np.testing.assert_array_equal(session.now.shown.images["top"], data.images(0, "top", 0, 1)[0])
    shown = session.step([0, 0]).shown.images["top"]
    assert shown.shape == (16, 24, 3)
    assert shown.dtype == np.uint8


def test_history_must_be_a_frame_at_least(data: RobotDataset) -> None:
    with pytest.raises(ValueError, match="history must be 1 or more, got 0"):
        World("small", testing.model(), data, history=0)


def test_all_branches_with_noise_of_their_own_differ(session: Session) -> None:
    """Also those that leave one moment from different branches."""
    session.branch()
    first = session.branch(own_noise=True)
    session.switch(1)
    second = session.branch(own_noise=True)
    keys = [session.branches[number].now.state.keys for number in (1, first, second)]
    assert len({int(key) for (key,) in keys}) == 3


def test_a_whole_number_of_any_size_is_told_to_be_too_large(session: Session) -> None:
    with pytest.raises(ValueError, match="must be within"):
        session.step([10**400, 0])
