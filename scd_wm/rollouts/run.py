"""`scd-wm rollout`: what a policy comes to, in a simulator or in what a world model imagines.

OUT/summary.json   success with an interval, return, length, seeds, and what was used
OUT/episodes.csv   every episode, and what it started from
OUT/episodes.mp4   the first episodes side by side

Axes: B episodes at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from scd_wm.evaluate_run import check_out, default_device
from scd_wm.policies.batched import check_policy
from scd_wm.policies.protocol import BatchedPolicy, Policy
from scd_wm.policies.robomimic_policy import RobomimicPolicy
from scd_wm.progress import progress_bar
from scd_wm.report.build import write_bytes
from scd_wm.report.drawing import Panel, compose, resize
from scd_wm.report.video import encode_mp4
from scd_wm.rollouts.played import Played, as_csv, play, play_imagined, sum_up
from scd_wm.rollouts.policies import check_can_imagine, for_many, for_one, load_policy
from scd_wm.rollouts.worlds import (
    Imagination,
    Recorded,
    World,
    is_world_model,
    open_imagination,
    open_simulator,
    picture_of,
)
from scd_wm.spec import DEFAULT_FPS
from scd_wm.training import files

FORMAT = "scd_wm rollout"
SUMMARY, EPISODES, FILM = "summary.json", "episodes.csv", "episodes.mp4"
PANEL_WIDTH = 256
COLUMNS = 4  # of panels
NO_LIMIT = 10**9  # steps

Engine = Literal["scd_wm", "robomimic"]


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How many episodes are played, where from, and by whose loop.

    Raises:
        ValueError: If a number is out of range.
    """

    episodes: int = 50
    seed: int = 0  # of the first episode
    max_steps: int | None = None  # of an episode; None takes the environment's limit
    engine: Engine = "scd_wm"  # whose loop: ours, or robomimic's `run_rollout`
    videos: int = 4  # episodes that are filmed
    data: Path | None = None  # of starts in imagination; None is what training held out
    history: int = 1  # real frames before an imagined episode
    num_steps: int | None = None  # sampler steps of an imagined frame; None takes the model's own

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("history", 1), ("seed", 0), ("videos", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if self.engine not in get_args(Engine):
            raise ValueError(f"engine must be one of {get_args(Engine)}, got {self.engine!r}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be 1 or more, got {self.max_steps}")


def rollout_run(
    policy: str,
    world: str,
    out: str | Path,
    config: RolloutConfig | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Play episodes of a policy and write what came of it.

    Episode i has seed `seed` + i, in imagination too, where all are imagined in one batch; starts
    that are a success already are refused. An episode ends with its first success.

    Args:
        policy: A checkpoint of robomimic, a name of the registry, or "module:function".
        world: A Gymnasium id; or a run folder, an exported model or the name of a shipped one.
        out: Folder to write, whole or not at all; an earlier one is replaced.
        config: How many episodes, and from where.
        device: Where networks run; None is a CUDA device if there is one.

    Returns:
        What summary.json holds.

    Raises:
        FileExistsError: If `out` holds something else.
        FileNotFoundError: If there is no such checkpoint, run or data.
        ModuleNotFoundError: If robomimic is needed and not installed.
        ValueError: If policy and world do not fit.
    """
    out, config = Path(out), RolloutConfig() if config is None else config
    device = device or default_device()
    check_out(out, FORMAT)
    if is_imagined := is_world_model(world):
        check_can_imagine(policy)
    loaded = load_policy(policy, device)
    if config.engine == "robomimic" and not isinstance(loaded, RobomimicPolicy):
        raise ValueError(f"robomimic's own loop plays its checkpoints only, not {policy!r}")
    place = _open(world, is_imagined, config, device)
    try:
        if loaded is not None:
            check_policy(loaded, place.env.observation_space, place.env.action_space)
        started = time.monotonic()
        played, films = _play_all(policy, loaded, place, config)
        seconds = time.monotonic() - started
    finally:
        place.env.close()
    summary = {
        "format": FORMAT,
        "policy": policy,
        "world": world,
        "kind": "imagination" if is_imagined else "simulator",
        "engine": config.engine,
        **sum_up(played),
        "mean_steps": float(np.mean([p.num_steps for p in played])),
        "max_steps": place.max_steps,
        "seconds": round(seconds, 2),
        **place.described,
        "seeds": place.seeds,
        "starts": place.starts,
        "starts_refused": place.refused,
    }
    with files.new_folder(out) as folder:
        rows = zip(place.starts, played, strict=True)
        files.write_text(
            folder / EPISODES, as_csv({"start": start, **asdict(p)} for start, p in rows)
        )
        _write_film(folder / FILM, films, played, place)
        files.write_json(folder / SUMMARY, summary)
    return summary


def _open(world: str, is_imagined: bool, config: RolloutConfig, device: str) -> World:
    if not is_imagined:
        if config.data is not None:
            raise ValueError(f"data is for starts in imagination, and {world} is a simulator")
        return open_simulator(world, config.episodes, config.seed, config.max_steps)
    return open_imagination(
        world,
        config.episodes,
        config.seed,
        data=config.data,
        history=config.history,
        max_steps=config.max_steps,
        num_steps=config.num_steps,
        device=device,
    )


Films = list[list[np.ndarray]]
"""Pictures of the first episodes."""


def _play_all(
    text: str, loaded: BatchedPolicy | None, place: World, config: RolloutConfig
) -> tuple[list[Played], Films]:
    """Play every episode by the loop that was asked for."""
    if config.engine == "robomimic":
        assert isinstance(loaded, RobomimicPolicy), "checked before"
        return _by_robomimic(loaded, place, config.videos)
    if isinstance(place, Imagination):
        policy = for_many(text, loaded, place.env, len(place.seeds))
        return imagine_all(policy, place, config.videos)
    return _in_simulator(for_one(text, loaded, place.env), place, config.videos)


def _in_simulator(policy: Policy, place: World, videos: int) -> tuple[list[Played], Films]:
    env, films = Recorded(place.env), _films(videos, len(place.seeds))
    played: list[Played] = []
    with progress_bar(total=len(place.seeds), unit="episode") as bar:
        for index, seed in enumerate(place.seeds):
            env.pictures = films[index] if index < len(films) else None
            played.append(play(env, policy, seed))
            _show(bar, played)
    return played, films


def imagine_all(
    policy: BatchedPolicy, place: Imagination, videos: int = 0
) -> tuple[list[Played], Films]:
    """Imagine every episode in one batch; a row that is over goes on unseen.

    Returns:
        The episodes, and pictures of the first `videos`.
    """
    films = _films(videos, len(place.seeds))
    with progress_bar(total=place.max_steps, unit="step") as bar:
        played = play_imagined(
            place.batch(),
            policy,
            place.seeds[0],
            place.chosen,
            lambda observations, _, alive: _film(films, observations, alive),
            bar,
        )
    return played, films


def _by_robomimic(policy: RobomimicPolicy, place: World, videos: int) -> tuple[list[Played], Films]:
    """Play every episode by robomimic's `run_rollout`, one after the other."""
    from scd_wm.envs.robomimic_env import RobomimicEnv
    from scd_wm.robomimic_setup import load_robomimic

    load_robomimic("robomimic.utils.train_utils", "robomimic.utils.env_utils")
    from robomimic.utils import env_utils, train_utils

    recorded, films = Recorded(place.env), _films(videos, len(place.seeds))
    ours = RobomimicEnv.of(recorded, observations=list(policy.observation_shapes))
    env = env_utils.wrap_env_from_config(ours, config=policy.config)  # stacks frames
    rollout = policy.rollout_policy()
    played: list[Played] = []
    with progress_bar(total=len(place.seeds), unit="episode") as bar:
        for index, seed in enumerate(place.seeds):
            recorded.pictures = films[index] if index < len(films) else None
            ours.prepare(seed, place.options(index))
            policy.reset(seed)
            before = rollout.cpu_s
            found = train_utils.run_rollout(
                rollout, env, place.max_steps or NO_LIMIT, terminate_on_success=True
            )
            played.append(
                Played(
                    seed,
                    bool(found["Success_Rate"]),
                    found["Horizon"],
                    float(found["Return"]),
                    rollout.cpu_s - before,
                )
            )
            _show(bar, played)
    return played, films


def _show(bar: Any, played: Sequence[Played]) -> None:
    won = sum(p.success for p in played)
    bar.set_postfix_str(f"{won}/{len(played)} succeeded", refresh=False)
    bar.update()


def _films(videos: int, episodes: int) -> Films:
    return [[] for _ in range(min(videos, episodes))]


def _film(films: Films, observations: Mapping[str, np.ndarray], alive: np.ndarray) -> None:
    """Keep a picture of every filmed episode that was not over before."""
    for row, film in enumerate(films):
        picture = picture_of({k: v[row] for k, v in observations.items()}) if alive[row] else None
        if picture is not None:
            film.append(picture)


def _write_film(path: Path, films: Films, played: Sequence[Played], place: World) -> None:
    """Write the filmed episodes side by side, each held at its end; nothing if there are none."""
    films = [film for film in films if film]
    if not films:
        return
    longest = max(map(len, films))
    first = 1 if place.is_imagined else None
    panels = []
    for film, episode, start in zip(films, played, place.starts, strict=False):
        frames = np.stack([*film, *[film[-1]] * (longest - len(film))])
        verdict = f"success in {episode.num_steps}" if episode.success else "no success"
        panels.append(Panel(f"{start}: {verdict}", resize(frames, PANEL_WIDTH), first))
    shown = compose(panels, min(COLUMNS, len(panels)), 1, PANEL_WIDTH)
    write_bytes(path, encode_mp4(shown, place.fps or DEFAULT_FPS))


def table(summary: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what is worth knowing of a summary, name and value."""
    low, high = (100 * value for value in summary["success_interval"])
    share = f"{summary['success']}/{summary['episodes']}"
    rows: list[tuple[str, Any]] = [
        ("success", f"{share} ({low:.0f} to {high:.0f} %)"),
        ("mean return", summary["mean_total_reward"]),
        ("mean steps", summary["mean_steps"]),
        ("seeds", f"{summary['seeds'][0]} to {summary['seeds'][-1]}"),
        ("starts refused", len(summary["starts_refused"])),
        ("CPU s a decision", summary["cpu_s_a_decision"]),
    ]
    names = ("data", "num_starts", "history", "num_steps")
    return rows + [(name, summary[name]) for name in names if name in summary]
