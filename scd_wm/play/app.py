"""What a page may ask for, by name, without any HTTP.

One model serves all pages, one call after the other; each page has a session of its own.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scd_wm.play import wire
from scd_wm.play.session import Session
from scd_wm.play.world import World

MAX_SESSIONS = 4
MAX_SEED = 2**31 - 1

Json = dict[str, Any]


class SessionGoneError(Exception):
    """The session that a page speaks of is not there."""


@dataclass
class Played:
    """What was done since the start."""

    num_sessions: int = 0
    num_frames: int = 0  # imagined
    busy_s: float = 0.0  # spent imagining them


class App:
    """All sessions in one world.

    Args:
        world: What is played in.
        seed: Of the noise of a session's first episode.
    """

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world, self.seed, self.played = world, seed, Played()
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # the last one used is last
        self._lock = threading.Lock()
        self._moves: dict[str, Callable[[Session, Json], object]] = {
            "reset": _reset,
            "undo": lambda session, told: session.undo(_whole(told, "steps", 1)),
            "snapshot": lambda session, _: session.snapshot(),
            "restore": lambda session, told: session.restore(_whole(told, "id")),
            "forget": lambda session, told: session.forget(_whole(told, "id")),
            "branch": lambda session, told: session.branch(_flag(told, "own_noise")),
            "switch": lambda session, told: session.switch(_whole(told, "id")),
            "drop": lambda session, told: session.drop(_whole(told, "id")),
        }  # what may change all that a page shows

    @property
    def names(self) -> tuple[str, ...]:
        """What can be called."""
        return ("open", "step", "peek", *self._moves)

    def call(self, name: str, arguments: Mapping[str, Any]) -> Json:
        """Do what a page asks for.

        Args:
            name: One of `names`.
            arguments: From JSON; all but "open" hold the "session" that "open" told.

        Raises:
            KeyError: If there is nothing of this name.
            SessionGoneError: If the session is not there, or no longer.
            ValueError: If an argument is wrong.
        """
        with self._lock:
            if name == "open":
                return self._open()
            told = dict(arguments)
            session = self._session(told.get("session"))
            if name == "step":
                return self._step(session, told)
            if name == "peek":
                episode, frame = _whole(told, "episode"), _whole(told, "frame")
                return wire.recorded_json(self.world, episode, frame)
            self._moves[name](session, told)
            return _everything(session, _flag(told, "beside"))

    def _open(self) -> Json:
        """Start a session; the one that was idle longest makes room."""
        session = Session(self.world, self.seed)
        if len(self._sessions) >= MAX_SESSIONS:
            self._sessions.popitem(last=False)
        key = secrets.token_urlsafe(16)
        self._sessions[key] = session
        self.played.num_sessions += 1
        told = {"session": key, "world": wire.world_json(self.world)}
        return told | _everything(session)

    def _session(self, key: object) -> Session:
        if not isinstance(key, str) or key not in self._sessions:
            raise SessionGoneError(
                f"this page's session has ended (at most {MAX_SESSIONS} pages at a time); reload "
                "the page to start a new one"
            )
        self._sessions.move_to_end(key)
        return self._sessions[key]

    def _step(self, session: Session, arguments: Json) -> Json:
        how = _sampler(arguments)
        started = time.perf_counter()
        if _flag(arguments, "replay"):
            session.replay(*how)
        else:
            session.step(arguments.get("action"), *how)
        took_s = time.perf_counter() - started
        self.played.num_frames += 1
        self.played.busy_s += took_s
        view = wire.view_json(session, _flag(arguments, "beside"))
        return view | {"imagined_ms": round(1000 * took_s, 2)}


def _everything(session: Session, beside: bool = False) -> Json:
    """Return all that a page shows."""
    return wire.view_json(session, beside) | wire.places_json(session)


def _reset(session: Session, arguments: Json) -> None:
    seed = _whole(arguments, "seed", 0)
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be 0 to {MAX_SEED}, got {seed}")
    from_nothing = arguments.get("episode") is None
    episode = None if from_nothing else _whole(arguments, "episode")
    session.reset(episode, _whole(arguments, "frame", 0), seed, *_sampler(arguments))


def _sampler(arguments: Json) -> tuple[int | None, str | None]:
    """Return sampler steps and solver; None takes the model's own.

    Raises:
        ValueError: If they are none.
    """
    steps = None if arguments.get("num_steps") is None else _whole(arguments, "num_steps")
    solver = arguments.get("solver")
    if solver is not None and not isinstance(solver, str):
        raise ValueError(f"solver must be a name, got {solver!r}")
    return steps, solver


def _whole(arguments: Json, name: str, default: int | None = None) -> int:
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return value


def _flag(arguments: Json, name: str) -> bool:
    value = arguments.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value
