"""Where a policy is rolled out: in a simulator, or in what a world model imagines.

Axes: B episodes at once, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from scd_wm.assets import SHIPPED
from scd_wm.clip import Clip
from scd_wm.collect import make_env
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.envs.imagined_common import side_by_side
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.evaluation.clips import ClipPlace
from scd_wm.evaluation.evaluate import read_clips
from scd_wm.imagined import imagined_env, imagined_vector_env
from scd_wm.rollouts.played import honest_seeds
from scd_wm.training.run_data import open_run_data

MAX_STEPS = 100  # of an imagined episode, where nothing says what the environment's are


@dataclass
class World:
    """Where episodes are played, and from which starts."""

    name: str
    env: gym.Env  # of one episode
    seeds: list[int]
    starts: list[str]  # what each episode starts from, for people
    refused: list[Any]  # starts that are a success already
    max_steps: int | None
    fps: float | None
    described: dict[str, Any] = field(default_factory=dict)  # what else was used

    is_imagined = False

    def options(self, episode: int) -> dict[str, Any] | None:
        """Return how the environment is reset for an episode, beside its seed."""
        return None


@dataclass
class Imagination(World):
    """A world model and the histories that episodes start after."""

    model: str | Path = ""
    histories: Clip | None = None
    chosen: Sequence[int] = ()  # history of each episode
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    is_imagined = True

    def options(self, episode: int) -> dict[str, Any] | None:
        """Return the number of the episode's start."""
        return {"start": int(self.chosen[episode])}

    def batch(self) -> ImaginedVectorEnv:
        """Return all episodes as one vector environment."""
        return imagined_vector_env(self.model, self.histories, len(self.seeds), **self.kwargs)


def is_world_model(world: str) -> bool:
    """Return whether a text names a world model, and not a simulator.

    Raises:
        FileNotFoundError: If it is a path, and there is nothing there.
    """
    if world in SHIPPED or Path(world).is_dir():
        return True
    if "/" in world and "-v" not in world and ":" not in world:
        raise FileNotFoundError(
            f"no run folder {world}, and no environment of that name; shipped models are "
            f"{sorted(SHIPPED)}"
        )
    return False


def open_simulator(env_id: str, episodes: int, seed: int, max_steps: int | None) -> World:
    """Return a registered environment and seeds whose starts are no success.

    Raises:
        ValueError: If there is no such environment.
    """
    env = make_env(env_id, max_steps, {"render_mode": "rgb_array"})
    seeds, refused = honest_seeds(env, seed, episodes)
    limit = env.spec.max_episode_steps if env.spec is not None else None
    fps = env.metadata.get("render_fps")
    starts = [f"seed {number}" for number in seeds]
    return World(env_id, env, seeds, starts, refused, limit, fps)


def open_imagination(
    model: str,
    episodes: int,
    seed: int,
    *,
    data: str | Path | None = None,
    history: int = 1,
    max_steps: int | None = None,
    num_steps: int | None = None,
    device: str = "cpu",
) -> Imagination:
    """Return a world model and the first frames of recorded episodes to start from.

    Args:
        model: A run folder, an exported model or the name of a shipped one.
        episodes: How many to play; starts come again, with other noise, where there are fewer.
        seed: Of the first episode's noise.
        data: Where starts are taken from; None is what training held out.
        history: Real frames before each episode.
        max_steps: Of an episode; None takes the limit of the environment that was recorded.
        num_steps: Sampler steps of a frame; None takes the model's own.
        device: Where the model runs.

    Raises:
        FileNotFoundError: If there is no such model or data.
        KeyError, ValueError: If the data does not fit the model or no episode can be used.
    """
    dataset = open_run_data(model, data)
    usable, refused = honest_starts(dataset, history)
    chosen = [episode % len(usable) for episode in range(episodes)]
    used = usable[: max(chosen) + 1]
    histories = read_clips(dataset, [ClipPlace(index, 0) for index in used], history)
    limit = recorded_limit(dataset) if max_steps is None else max_steps
    kwargs: dict[str, Any] = {"max_steps": limit, "num_steps": num_steps, "device": device}
    env = imagined_env(model, histories, **kwargs)
    names = [dataset.episodes[index].name for index in used]
    described = {
        "data": str(dataset.info.path),
        "history": history,
        "num_starts": len(used),
        "num_steps": num_steps or env.rows.model.config.num_steps,
        "device": device,
    }
    return Imagination(
        model,
        env,
        [seed + episode for episode in range(episodes)],
        [names[start] for start in chosen],
        refused,
        limit,
        dataset.fps,
        described,
        model=model,
        histories=histories,
        chosen=chosen,
        kwargs=kwargs,
    )


def honest_starts(dataset: RobotDataset, history: int) -> tuple[list[int], list[str]]:
    """Return the episodes whose first frames are no success, and the names of the others.

    Raises:
        ValueError: If there are none.
    """
    usable: list[int] = []
    refused: list[str] = []
    for index, episode in enumerate(dataset.episodes):
        # The outcome of step t is that of frame t + 1; the first frame has none.
        success = dataset.arrays(index).outcome.get("success", np.zeros(1))[: history - 1]
        long_enough = episode.num_observations >= history
        if long_enough and not (success > 0.5).any():
            usable.append(index)
        else:
            refused.append(episode.name)
    if not usable:
        raise ValueError(
            f"no episode of {dataset.info.path} has {history} frames that are no success yet"
        )
    return usable, refused


def recorded_limit(dataset: RobotDataset) -> int:
    """Return the steps that the recorded environment allows an episode, after frame skip."""
    known = gym.registry.get(str(dataset.info.metadata.get("env_name")))
    limit = MAX_STEPS if known is None else known.max_episode_steps or MAX_STEPS
    return max(1, limit // dataset.options.frame_skip)


class Recorded(gym.Wrapper):
    """Keeps pictures of episodes: what cameras show, or else what `render` draws.

    Attributes:
        pictures: Of the current episode, (H, W, 3) uint8 each; None keeps none.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.pictures: list[np.ndarray] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode and keep a picture."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._keep(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take an action and keep a picture."""
        result = self.env.step(action)
        self._keep(result[0])
        return result

    def _keep(self, observation: Any) -> None:
        if self.pictures is None:
            return
        picture = picture_of(observation)
        if picture is None and self.env.render_mode is not None:
            drawn = self.env.render()
            picture = drawn if isinstance(drawn, np.ndarray) else None
        if picture is not None:
            self.pictures.append(picture)


def picture_of(observation: Any) -> np.ndarray | None:
    """Return what the cameras of an observation show side by side; None if it has none."""
    if not isinstance(observation, Mapping):
        return None
    cameras = [v for v in observation.values() if v.ndim == 3 and v.dtype == np.uint8]
    return side_by_side(cameras).copy() if cameras else None
