"""A small robot in memory, whose recordings are clean unless a test damages them.

A bright square is where vector `pos` says; action t moves it between frames t and t + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scd_wm.datasets.doctor import Diagnosis, diagnose
from scd_wm.datasets.doctor_exam import ExamConfig
from scd_wm.datasets.doctor_finding import Finding
from scd_wm.datasets.reader import EpisodeInfo, Field, SourceInfo

Episode = dict[str, Any]  # key: rows, or the error that reading them raises
SIZE = 32  # pixels
OUTCOMES = ("reward", "terminated", "success")


class MemoryReader:
    """A reader of episodes in memory; a key that an episode lacks is missing in it."""

    def __init__(self, episodes: Sequence[Episode], fps: float | None = 10.0, **info: Any) -> None:
        self.episodes = list(episodes)
        whole = {k: v for e in episodes for k, v in e.items() if isinstance(v, np.ndarray)}
        fields = {
            k: Field(v.shape[1:], v.dtype.name, "image" if v.ndim == 4 else "vector")
            for k, v in whole.items()
            if k not in ("action", *OUTCOMES)
        }
        self.info = SourceInfo(
            **{
                "path": Path("robot"),
                "format": "memory",
                "fields": fields,
                "action_dim": whole["action"].shape[1],
                "outcomes": tuple(name for name in OUTCOMES if name in whole),
                "fps": fps,
                "episodes": tuple(
                    EpisodeInfo(
                        name=f"demo_{i}",
                        num_actions=len(e["action"]),
                        has_last_observation=True,
                        missing=frozenset(fields) - e.keys(),
                    )
                    for i, e in enumerate(episodes)
                ),
                "skipped": (),
                "metadata": {},
                **info,
            }
        )

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        rows = self.episodes[episode][key]
        if isinstance(rows, Exception):
            raise rows
        return rows[start:stop]


def record(kind: str = "change", num_episodes: int = 12, num_steps: int = 60) -> list[Episode]:
    """Record a robot whose actions are changes of `pos`, or positions that it goes towards."""
    rng = np.random.default_rng(0)
    return [_episode(rng, kind, num_steps) for _ in range(num_episodes)]


def _episode(rng: np.random.Generator, kind: str, num_steps: int) -> Episode:
    wish = rng.normal(size=(num_steps + 8, 2))
    wish = np.stack([np.convolve(wish[:, i], np.ones(3) / 3, "valid") for i in range(2)], axis=1)
    pos = np.zeros((num_steps + 1, 2))
    pos[0] = rng.uniform(-0.5, 0.5, 2)
    actions = np.zeros((num_steps, 2))
    for t in range(num_steps):
        actions[t] = np.clip(wish[t] - 0.3 * pos[t], -2, 2) if kind == "change" else wish[t]
        step = 0.4 * actions[t] if kind == "change" else 0.7 * (actions[t] - pos[t])
        pos[t + 1] = pos[t] + step + 0.01 * rng.normal(size=2)
    return {
        "action": actions.astype(np.float32),
        "pos": pos.astype(np.float32),
        "top": pictures(pos),
    }


def pictures(pos: np.ndarray) -> np.ndarray:
    """Draw a soft bright spot at positions, (T, 2), as (T, SIZE, SIZE, 3) uint8."""
    grid = np.linspace(-2, 2, SIZE)
    squared = (grid[None, None] - pos[:, :1, None]) ** 2 + (
        grid[None, :, None] - pos[:, 1:, None]
    ) ** 2
    spot = 40 + 180 * np.exp(-squared / 0.3)
    return np.repeat(spot[..., None], 3, axis=3).astype(np.uint8)


def examined(
    episodes: Sequence[Episode], config: Mapping[str, Any] | None = None, **info: Any
) -> Diagnosis:
    """Return what the doctor says of episodes."""
    return diagnose(MemoryReader(episodes, **info), ExamConfig(**(config or {})))


def found(diagnosis: Diagnosis, code: str) -> Finding:
    """Return the only finding of a kind."""
    (finding,) = [f for f in diagnosis.findings if f.code == code]
    return finding


def serious(diagnosis: Diagnosis) -> list[str]:
    """Return the codes of all errors and warnings."""
    return [f.code for f in diagnosis.findings if f.severity != "info"]
