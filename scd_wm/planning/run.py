"""Plan in a world model and act in a simulator, beside policies that say what success is worth.

OUT/summary.json   success with intervals, time and model evaluations of a decision, seeds
OUT/episodes.csv   every episode of every policy
OUT/episode_N.mp4  what was executed, what was foreseen of it, and where each plan leads
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium.spaces import Box

from scd_wm.collect import make_env
from scd_wm.envs.imagined_common import observation_space
from scd_wm.evaluate_run import check_out, default_device
from scd_wm.imagination.latents import Latents
from scd_wm.planning.video import Film
from scd_wm.policies.batched import SingleEnvPolicy, check_policy
from scd_wm.policies.goal_texts import parse_goal
from scd_wm.policies.mpc import MPC, MPCConfig
from scd_wm.policies.planner import ActionLimits, Planner
from scd_wm.policies.planners import PLANNERS, make_planner
from scd_wm.policies.prior import PolicyPrior
from scd_wm.policies.protocol import Policy
from scd_wm.policies.registry import EXPERTS, make_policy
from scd_wm.progress import progress_bar
from scd_wm.rollouts.played import Played, as_csv, honest_seeds, play, sum_up
from scd_wm.rollouts.policies import KINDS, load_policy
from scd_wm.spec import Spec
from scd_wm.training import files
from scd_wm.training.checkpoint import load_world_autoencoder, load_world_model

FORMAT = "scd_wm plan"
SUMMARY, EPISODES = "summary.json", "episodes.csv"
PRIOR = "prior"  # the planner that a policy proposes to
ALONE = "policy"  # that policy, without planning
NAMES = (*PLANNERS, PRIOR)
OTHER_RATE = 0.01  # relative difference of rates that is not rounding


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """How plans are made, and how many episodes are played.

    Raises:
        ValueError: If a number is below 1.
    """

    goal: str = "success"  # see scd_wm.policies.goal_texts
    planners: tuple[str, ...] = ("icem",)  # of NAMES; each plays all episodes
    prior: str | None = None  # what "prior" lets act in imagination, see scd_wm.rollouts.policies
    settings: Mapping[str, Any] = field(default_factory=dict)  # of all; "icem.shrink" of one alone
    mpc: MPCConfig = field(default_factory=MPCConfig)
    episodes: int = 20  # of each policy
    seed: int = 0  # of the first episode
    max_steps: int | None = None  # of an episode; None takes the environment's limit
    videos: int = 2  # episodes of the first planner that are filmed
    engine: str = "auto"  # of imagination, see scd_wm.model.engine

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes must be 1 or more, got {self.episodes}")
        if self.seed < 0 or self.videos < 0:
            raise ValueError(f"seed and videos must be 0 or more, got {self.seed}, {self.videos}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be 1 or more, got {self.max_steps}")
        if not self.planners or len({*self.planners}) < len(self.planners):
            raise ValueError(f"planners must be different ones, got {list(self.planners)}")
        owners = {key.partition(".")[0] for key in self.settings if "." in key}
        if unknown := sorted(owners - {*self.planners}):
            raise ValueError(f"settings are of {unknown}, but planned is by {list(self.planners)}")

        if unknown := sorted({*self.planners} - {*NAMES}):
            raise ValueError(f"unknown planners {unknown}; there are {list(NAMES)}")
        if (PRIOR in self.planners) != (self.prior is not None):
            raise ValueError(
                f"the planner {PRIOR!r} and a policy for it go together, got planners "
                f"{list(self.planners)} and the policy {self.prior}"
            )

    def make_planner(self, name: str, device: str) -> Planner:
        """Return a planner with its settings.

        Args:
            name: Of `planners`.
            device: Where a policy runs that proposes.

        Raises:
            FileNotFoundError: If there is no such policy.
            ValueError: If there is none of this name, or a setting is wrong.
        """
        shared = {key: value for key, value in self.settings.items() if "." not in key}
        start = f"{name}."
        own = {k.removeprefix(start): v for k, v in self.settings.items() if k.startswith(start)}
        settings = shared | own
        if name != PRIOR:
            return make_planner(name, **settings)
        assert self.prior is not None  # checked above
        policy = load_policy(self.prior, device)
        if policy is None:
            raise ValueError(f"the policy {self.prior!r} cannot act in imagination; give {KINDS}")
        try:
            return PolicyPrior(policy=policy, **settings)
        except TypeError as error:
            raise ValueError(f"planner {name!r}: {error}") from None


def plan_run(
    run: str | Path,
    env_id: str,
    out: str | Path,
    config: PlanConfig | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Play episodes of a simulator by planning in a world model, and beside it by other policies.

    All policies play from the same starts, for the same number of steps at most. A start that is a
    success already is refused, and the next seed taken.

    Args:
        run: A run folder, an exported model or the name of a shipped one.
        env_id: A registered environment with the model's observations and actions.
        out: Folder to write, whole or not at all; an earlier one is replaced.
        config: What to play; None takes the defaults.
        device: Where the model runs; None is a CUDA device if there is one.

    Returns:
        What summary.json holds: under "policies" for each its success rate with a 95 % Wilson
        interval and what a decision took.

    Raises:
        FileExistsError: If `out` holds something else.
        FileNotFoundError: If there is no such run.
        ValueError: If environment and model do not fit, or the goal or planner is wrong.
    """
    out, config = Path(out), PlanConfig() if config is None else config
    check_out(out, FORMAT)
    device = device or default_device()
    model = load_world_model(run, device, engine=config.engine)
    autoencoder = load_world_autoencoder(run, device)
    latents = None if autoencoder is None else Latents(model.spec, autoencoder)
    env = make_env(env_id, config.max_steps, {"render_mode": "rgb_array"})
    try:
        check_fits(env, model.spec, env_id)
        goal = parse_goal(config.goal, model.spec, model, latents)
        limits = _limits(env, next(model.parameters()))
        planned = {
            name: MPC(model, goal, config.make_planner(name, device), limits, config.mpc, latents)
            for name in config.planners
        }
        seeds, refused = honest_seeds(env, config.seed, config.episodes)
        policies: dict[str, Policy] = {k: SingleEnvPolicy(mpc) for k, mpc in planned.items()}
        for name, mpc in planned.items():
            _check_prior(mpc, name, env)
        for policy in policies.values():  # what the first decision alone takes is not counted
            policy.act(env.reset(seed=seeds[0])[0])
        policies |= _others(env, env_id, planned)
        print(f"seeds {seeds[0]} to {seeds[-1]}; starts refused: {len(refused)}", flush=True)
        filmed = config.planners[0]
        films = [Film(f"seed {seed}", model.spec) for seed in seeds[: config.videos]]
        with progress_bar(total=len(policies) * len(seeds), unit="episode") as bar:
            played = {
                name: _play_all(env, policy, seeds, bar, films if name == filmed else [], name)
                for name, policy in policies.items()
            }
    finally:
        env.close()
    rows = {name: sum_up(episodes) for name, episodes in played.items()}
    for name, mpc in planned.items():
        rows[name]["model_evaluations_a_decision"] = mpc.evaluations_a_decision
    summary = {
        "format": FORMAT,
        "run": str(run),
        "env": env_id,
        "seeds": seeds,
        "seeds_refused": refused,
        "config": asdict(config),
        "policies": rows,
    }
    with files.new_folder(out) as folder:
        rows_of_all = ({"policy": k, **asdict(p)} for k, each in played.items() for p in each)
        files.write_text(folder / EPISODES, as_csv(rows_of_all))
        for index, film in enumerate(films):
            film.write(folder / f"episode_{index + 1}.mp4")
        files.write_json(folder / SUMMARY, summary)
    return summary


def check_fits(env: gym.Env, spec: Spec, env_id: str) -> None:
    """Raise ValueError unless an environment shows what a model reads and takes its actions."""
    given, wanted = env.observation_space, observation_space(spec.pixels)
    if not isinstance(given, gym.spaces.Dict):
        raise ValueError(f"{env_id} must have a Dict of observations, it has {given}")
    for name, space in wanted.spaces.items():
        if name not in given.spaces:
            raise ValueError(f"{env_id} does not show {name!r}; it shows {sorted(given.spaces)}")
        if given[name].shape != space.shape:
            raise ValueError(
                f"{name!r} of {env_id} is {given[name].shape}, the model reads {space.shape}"
            )
    actions = env.action_space
    if not isinstance(actions, Box) or actions.shape != (spec.action.dim,):
        raise ValueError(f"the model takes {spec.action.dim} values of action, {env_id} {actions}")
    rate = env.metadata.get("render_fps")
    if spec.fps and rate and abs(rate - spec.fps) > OTHER_RATE * spec.fps:
        raise ValueError(
            f"{env_id} makes {rate} steps a second, the model's data {spec.fps}: train with the "
            "frame skip that makes them equal"
        )


def _limits(env: gym.Env, like: torch.Tensor) -> ActionLimits:
    space = env.action_space
    assert isinstance(space, Box)
    low, high = (torch.as_tensor(x).to(like) for x in (space.low, space.high))
    return ActionLimits(low, high)


def _check_prior(mpc: MPC, name: str, env: gym.Env) -> None:
    if isinstance(mpc.planner, PolicyPrior):
        try:
            check_policy(mpc.planner.policy, env.observation_space, env.action_space)
        except ValueError as error:
            raise ValueError(f"planner {name!r}: {error}") from None


def _others(env: gym.Env, env_id: str, planned: Mapping[str, MPC]) -> dict[str, Policy]:
    """Return the policies that every result stands beside, one that proposes plans among them."""
    names = ("zero", "random", *(("expert",) if env_id in EXPERTS else ()))
    others = {name: make_policy(name, env) for name in names}
    if PRIOR not in planned:
        return others
    planner = planned[PRIOR].planner
    assert isinstance(planner, PolicyPrior)  # `make_planner` has made it
    return {ALONE: SingleEnvPolicy(planner.policy), **others}


def _play_all(
    env: gym.Env, policy: Policy, seeds: Sequence[int], bar: Any, films: Sequence[Film], name: str
) -> list[Played]:
    played: list[Played] = []
    for index, seed in enumerate(seeds):
        bar.set_postfix_str(f"{name} {sum(p.success for p in played)}/{len(played)}", refresh=False)
        film = partial(_film, films[index], env, policy) if index < len(films) else None
        played.append(play(env, policy, seed, film))
        bar.update()
    return played


def _film(film: Film, env: gym.Env, policy: Policy) -> None:
    batched = policy.batched if isinstance(policy, SingleEnvPolicy) else None
    if isinstance(batched, MPC):
        film.add(env, batched)


def table(summary: Mapping[str, Any]) -> list[str]:
    """Return the policies of a summary as lines of text."""
    heads = ("success", "95 % interval", "CPU s a decision", "model evaluations")
    lines = [f"{'':<8}{heads[0]:>9}{heads[1]:>18}{heads[2]:>19}{heads[3]:>20}"]
    for name, row in summary["policies"].items():
        low, high = (100 * value for value in row["success_interval"])
        share = f"{row['success']}/{row['episodes']}"
        interval = f"{low:.0f} to {high:.0f} %"
        evaluations = row.get("model_evaluations_a_decision", 0)
        lines.append(
            f"{name:<8}{share:>9}{interval:>18}{row['cpu_s_a_decision']:>19.4f}{evaluations:>20,.0f}"
        )
    return lines
