"""One person's play: where the dream is now, how it came there, and the ways not taken.

A moment never changes, so that snapshots, branches and what can be undone share moments and going
back is exact.

Axes: A values of an action.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from scd_wm.imagination import RolloutState
from scd_wm.model import noise
from scd_wm.play.world import Shown, World

TRACE = 120  # frames of numbers that are kept for plots
MAX_BRANCHES = 8
MAX_SNAPSHOTS = 24
MAX_UNDO = 100  # frames
UNDO_BYTES = 2**28  # of all branches together

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """Where an episode began."""

    seed: int  # of the noise
    episode: int | None = None  # of the data; None: from nothing
    frame: int = 0


@dataclass(frozen=True)
class Numbers:
    """The numbers of a frame, without its images."""

    vectors: Mapping[str, np.ndarray]  # name: (D,)
    outcome: Mapping[str, float]


@dataclass(frozen=True)
class Moment:
    """All that is needed to go on from one frame."""

    state: RolloutState  # steps are taken from a clone of it
    shown: Shown
    start: Start
    time: int  # frames imagined since the start
    trace: tuple[Numbers, ...]  # of this frame, the last, and those before it


@dataclass
class Branch:
    """One line of play."""

    moments: deque[Moment]  # the last is now, those before it can be gone back to

    @property
    def now(self) -> Moment:
        """The moment that it has come to."""
        return self.moments[-1]


@dataclass
class Session:
    """A dream that is driven by hand.

    Args:
        world: What is played in.
        seed: Of the noise of the first episode.
        num_steps: Sampler steps of its first frame, where that is drawn; None: the model's own.
    """

    world: World
    seed: int = 0
    num_steps: int | None = None
    branches: dict[int, Branch] = field(init=False)
    snapshots: dict[int, Moment] = field(init=False, default_factory=dict)
    branch_id: int = field(init=False, default=1)  # of the branch that is played
    _last_id: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        first = None if self.world.data is None else 0
        moment = self._begin(Start(self.seed, first), self.num_steps, None)
        state_bytes = max(1, moment.state.cache.num_bytes)
        self.max_undo = max(4, min(MAX_UNDO, UNDO_BYTES // (MAX_BRANCHES * state_bytes)))
        self.branches = {1: self._line([moment])}

    @property
    def now(self) -> Moment:
        """The moment that is shown."""
        return self.branches[self.branch_id].now

    @property
    def num_undo(self) -> int:
        """Steps that can be undone."""
        return len(self.branches[self.branch_id].moments) - 1

    def step(
        self, action: object, num_steps: int | None = None, solver: str | None = None
    ) -> Moment:
        """Imagine the frame after an action, A numbers within the world's limits.

        Raises:
            ValueError: If the action is none, or as in `imagination.step`.
        """
        return self._go_on(self.world.actions.checked(action), num_steps, solver)

    def replay(self, num_steps: int | None = None, solver: str | None = None) -> Moment:
        """Imagine the frame after the action that was recorded at this time of the episode.

        Raises:
            ValueError: If none was, or as in `imagination.step`.
        """
        action = self.recorded_action()
        if action is None:
            raise ValueError("no action is recorded at this time; begin at an earlier frame")
        return self._go_on(action, num_steps, solver)

    def recorded_action(self) -> np.ndarray | None:
        """Return the action that was recorded at this time, (A,) float32, if there is one."""
        episode, frame = self.now.start.episode, self.recorded_frame()
        if episode is None or frame is None:
            return None
        return self.world.recorded_action(episode, frame)

    def recorded_frame(self) -> int | None:
        """Return the number of the frame that was recorded at this time, if there is one."""
        start = self.now.start
        if start.episode is None:
            return None
        frame = start.frame + self.now.time
        return frame if frame < self.world.num_frames(start.episode) else None

    def reset(
        self,
        episode: int | None,
        frame: int = 0,
        seed: int = 0,
        num_steps: int | None = None,
        solver: str | None = None,
    ) -> Moment:
        """Begin anew at a recorded frame, or for episode None from nothing.

        Raises:
            ValueError: If there is no such frame.
        """
        return self._add(self._begin(Start(seed, episode, frame), num_steps, solver))

    def undo(self, steps: int = 1) -> Moment:
        """Take back the last steps; resets and returns to snapshots count as one.

        Raises:
            ValueError: If there are not as many.
        """
        if not 1 <= steps <= self.num_undo:
            raise ValueError(f"{self.num_undo} steps can be undone, asked for {steps}")
        for _ in range(steps):
            self.branches[self.branch_id].moments.pop()
        return self.now

    def snapshot(self) -> int:
        """Keep this moment; return the number to `restore` it by.

        Raises:
            ValueError: If there are too many.
        """
        _check_room(self.snapshots, MAX_SNAPSHOTS, "snapshots")
        self.snapshots[self._new_id()] = self.now
        return self._last_id

    def restore(self, number: int) -> Moment:
        """Go to a snapshot; what is left behind can be had back by `undo`.

        Raises:
            ValueError: If there is no such snapshot.
        """
        return self._add(_found(self.snapshots, number, "snapshot"))

    def forget(self, number: int) -> Moment:
        """Give up a snapshot and return it.

        Raises:
            ValueError: If there is no such snapshot.
        """
        _found(self.snapshots, number, "snapshot")
        return self.snapshots.pop(number)

    def branch(self, own_noise: bool = False) -> int:
        """Go on from here as a new branch; the old one stays where it is.

        Args:
            own_noise: Give it other noise than the old branch will have; without, the same actions
                lead to the same frames in both.

        Returns:
            The number to `switch` to it by.

        Raises:
            ValueError: If there are too many.
        """
        _check_room(self.branches, MAX_BRANCHES, "branches")
        old = self.branches[self.branch_id]
        new = self._line(old.moments)
        if own_noise:
            state = self.now.state.clone()
            state.keys = noise.derive(state.keys, self._last_id + 1)  # no branch had this number
            new.moments[-1] = replace(old.now, state=state)
        self.branch_id = self._new_id()
        self.branches[self.branch_id] = new
        return self.branch_id

    def switch(self, number: int) -> Moment:
        """Go to another branch, where it was left.

        Raises:
            ValueError: If there is no such branch.
        """
        _found(self.branches, number, "branch")
        self.branch_id = number
        return self.now

    def drop(self, number: int) -> Moment:
        """Give up a branch; of the one that is played, go to the newest other one.

        Raises:
            ValueError: If there is no such branch, or it is the only one.
        """
        _found(self.branches, number, "branch")
        if len(self.branches) == 1:
            raise ValueError("the only branch cannot be given up")
        del self.branches[number]
        if number == self.branch_id:
            self.branch_id = max(self.branches)
        return self.now

    def _begin(self, start: Start, num_steps: int | None, solver: str | None) -> Moment:
        if start.episode is None:
            state, shown = self.world.from_nothing(start.seed, num_steps, solver)
        else:
            state, shown = self.world.from_frame(start.episode, start.frame, start.seed)
        return Moment(state, shown, start, 0, (Numbers(shown.vectors, shown.outcome),))

    def _go_on(self, action: np.ndarray, num_steps: int | None, solver: str | None) -> Moment:
        now = self.now
        state = now.state.clone()
        shown = self.world.step(state, action, num_steps, solver)
        trace = (*now.trace, Numbers(shown.vectors, shown.outcome))[-TRACE:]
        return self._add(Moment(state, shown, now.start, now.time + 1, trace))

    def _add(self, moment: Moment) -> Moment:
        self.branches[self.branch_id].moments.append(moment)
        return moment

    def _line(self, moments: deque[Moment] | list[Moment]) -> Branch:
        return Branch(deque(moments, maxlen=self.max_undo + 1))

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id


def _found(entries: Mapping[int, T], number: int, what: str) -> T:
    if number not in entries:
        raise ValueError(f"no {what} {number}; there are {list(entries) or 'none'}")
    return entries[number]


def _check_room(entries: Mapping[int, object], most: int, what: str) -> None:
    if len(entries) >= most:
        raise ValueError(f"there are {most} {what} already; give one up first")
