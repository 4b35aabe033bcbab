"""Plays policies in the simulator and in imagination, from the same starts.

Axes: B episodes of a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from scd_wm.envs.imagined_env import ImaginedEnv
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.envs.null_worlds import NothingChanges, ShuffledActions
from scd_wm.evaluation.null_models import derangement
from scd_wm.evaluation.result import COPY_LAST, SHUFFLED, WORLD_MODEL
from scd_wm.imagined import imagined_vector_env
from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
from scd_wm.policy_evaluation.contestants import Contestant
from scd_wm.policy_evaluation.episode import REAL, Episode
from scd_wm.policy_evaluation.films import choose, film
from scd_wm.policy_evaluation.real_table import RealTable
from scd_wm.policy_evaluation.starts import Starts
from scd_wm.report.items import EpisodeFilm
from scd_wm.rollouts.played import Played, play, play_imagined
from scd_wm.rollouts.worlds import Recorded, picture_of
from scd_wm.spec import DEFAULT_FPS

Judge: TypeAlias = Callable[[Mapping[str, Tensor]], Tensor | np.ndarray]
"""Gives a chance of success, (B,), to observations by name: images (B, H, W, C) uint8 and vectors
(B, D) float32. One that has `check(spec)` is asked before, and raises ValueError if it cannot judge
such frames."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where all episodes are played."""

    config: PolicyEvaluationConfig
    starts: Starts
    real: gym.Env | RealTable
    dream: ImaginedEnv  # of one episode, beginning from any of the starts
    judge: Judge | None

    @property
    def films(self) -> bool:
        """Whether there is something to show."""
        return self.config.videos > 0 and bool(self.dream.rows.model.spec.cameras)

    def batch(self, count: int) -> ImaginedVectorEnv:
        """Return the dream as many."""
        one = self.dream.rows
        return imagined_vector_env(
            one.model,
            one.starts,
            count,
            max_steps=one.max_steps,
            num_steps=one.num_steps,
            action_space=one.single_action_space,
            view=one.view,
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Episodes of a policy from a few of the starts, in every world."""

    episodes: list[Episode]
    films: list[EpisodeFilm]


def batches(num_starts: int, at_once: int) -> list[range]:
    """Return which starts are imagined together.

    They depend on nothing else, so that any number of processes finds the same: what a row of a
    batch comes to depends on its size in the last digit.
    """
    count = -(-num_starts // at_once)
    ends = [i * num_starts // count for i in range(count + 1)]
    return [range(a, b) for a, b in pairwise(ends)]


def play_batch(stage: Stage, contestant: Contestant, rows: range, bar: Any) -> Batch:
    """Play a policy from some of the starts in every world.

    Args:
        stage: Where.
        contestant: Who acts.
        rows: Numbers of the starts, at least two.
        bar: A progress bar of episodes.
    """
    real, pictures = _play_real(stage, contestant, rows, bar)
    policy = contestant.together(stage.dream, len(rows))
    names = [stage.starts.names[row] for row in rows]
    worlds = {
        WORLD_MODEL: stage.batch(len(rows)),
        SHUFFLED: ShuffledActions(
            stage.batch(len(rows)), derangement(names, stage.config.seed + rows[0])
        ),
        COPY_LAST: NothingChanges(stage.batch(len(rows))),
    }
    episodes, films = list(real), []
    for world, envs in worlds.items():
        watch = _Watch(stage, len(rows), stage.films and world == WORLD_MODEL)
        seed = stage.config.seed + rows[0]
        played = play_imagined(envs, policy, seed, list(rows), watch)
        found = [
            watch.seen(_episode(contestant, name, world, p), row)
            for row, (name, p) in enumerate(zip(names, played, strict=True))
        ]
        if watch.films:
            films = [
                film(kind, (real[i], pictures[i]), (found[i], watch.films[i]), _fps(stage))
                for kind, i in choose(real, found, stage.config.videos)
            ]
        episodes += found
        bar.update(len(rows))
    return Batch(episodes=episodes, films=films)


def _play_real(
    stage: Stage, contestant: Contestant, rows: range, bar: Any
) -> tuple[list[Episode], list[list[np.ndarray]]]:
    """Return real episodes and their pictures, if there are any."""
    names = [stage.starts.names[row] for row in rows]
    pictures: list[list[np.ndarray]] = [[] for _ in rows]
    if isinstance(stage.real, RealTable):
        bar.update(len(rows))
        return stage.real.episodes(contestant.said.name, names), pictures
    env, policy = Recorded(stage.real), contestant.alone(stage.real)
    episodes = []
    for row, name, shown in zip(rows, names, pictures, strict=True):
        env.pictures = shown if stage.films else None
        played = play(env, policy, int(name), policy_seed=stage.config.seed + row)
        played = replace(played, seed=stage.config.seed + row)
        episodes.append(_episode(contestant, name, REAL, played))
        bar.update()
    return episodes, pictures


def _episode(contestant: Contestant, start: str, world: str, played: Played) -> Episode:
    return Episode(
        policy=contestant.said.name,
        start=start,
        seed=played.seed,
        world=world,
        success=played.success,
        total_reward=played.total_reward,
        num_steps=played.num_steps,
    )


def _fps(stage: Stage) -> float:
    return stage.dream.rows.model.spec.fps or DEFAULT_FPS


class _Watch:
    """Sees every imagined frame and keeps what is said of each episode.

    Args:
        stage: Has the judge.
        count: Episodes B.
        films: Whether pictures are kept.
    """

    def __init__(self, stage: Stage, count: int, films: bool) -> None:
        self.judge, self.device = stage.judge, stage.dream.rows.model.layout.delta_std.device
        self.films: list[list[np.ndarray]] = [[] for _ in range(count)] if films else []
        self._last: deque[np.ndarray] = deque(maxlen=stage.config.off_data_frames)
        self._highest: dict[str, np.ndarray] = {}

    def __call__(
        self, observations: Mapping[str, np.ndarray], info: Mapping[str, Any], alive: np.ndarray
    ) -> None:
        """Look at a frame of the episodes that go on."""
        for row in np.flatnonzero(alive) if self.films else ():
            picture = picture_of({k: v[row] for k, v in observations.items()})
            assert picture is not None, "worlds without cameras are not filmed"
            self.films[row].append(picture)
        if "start" in info:
            return  # the first frame is real
        if "success_probability" in info:
            self._keep("success_probability", info["success_probability"], alive)
        if "uncertainty" in info:
            is_first = len(self._last) < (self._last.maxlen or 0)  # nothing has lasted so long yet
            self._last.append(info["uncertainty"])
            self._keep("uncertainty", np.min(self._last, axis=0), alive, anew=is_first)
        if self.judge is not None:
            seen = {k: torch.from_numpy(v).to(self.device) for k, v in observations.items()}
            with torch.inference_mode():
                judged = torch.as_tensor(self.judge(seen)).float().cpu().numpy()
            self._keep("judged", judged, alive)

    def seen(self, episode: Episode, row: int) -> Episode:
        """Return an episode with what was said of its frames."""
        known = {name: float(values[row]) for name, values in self._highest.items()}
        return replace(
            episode,
            success_probability=known.get("success_probability"),
            uncertainty=known.get("uncertainty"),
            judged=known.get("judged"),
        )

    def _keep(
        self, name: str, values: np.ndarray, alive: np.ndarray, *, anew: bool = False
    ) -> None:
        """Keep the highest value of each episode that goes on, or forget what was before."""
        kept = self._highest.setdefault(name, np.zeros(len(alive)))
        kept[alive] = values[alive] if anew else np.maximum(kept[alive], values[alive])
