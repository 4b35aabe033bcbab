"""Everything that an evaluation plays on, opened and checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
from gymnasium.spaces import Box

from scd_wm.collect import make_env
from scd_wm.envs.imagined_env import ImaginedEnv
from scd_wm.imagined import imagined_env
from scd_wm.planning.run import check_fits
from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
from scd_wm.policy_evaluation.contestants import Contestant, PolicyText, load_contestants
from scd_wm.policy_evaluation.playing import Judge, Stage
from scd_wm.policy_evaluation.real_table import RealTable, read_real_table
from scd_wm.policy_evaluation.starts import Starts, recorded_starts, simulated_starts
from scd_wm.spec import Spec
from scd_wm.training import files
from scd_wm.training.checkpoint import CONFIG, check_folder


@contextmanager
def open_stage(
    run: str | Path,
    env_id: str | None,
    said: Sequence[PolicyText],
    config: PolicyEvaluationConfig,
    device: str,
    judge: Judge | None,
) -> Iterator[tuple[Stage, list[Contestant]]]:
    """Open both worlds and load the policies; closes the simulator when the block ends.

    Args:
        run: As in `scd_wm.policy_evaluation.run.evaluate_policies`, like all that follow.
        env_id: The simulator, or None.
        said: The policies.
        config: How many episodes, and so on.
        device: Where networks run.
        judge: Of imagined frames, or None.

    Raises:
        FileNotFoundError, ModuleNotFoundError, KeyError, ValueError: As there.
    """
    table = None if config.real is None else read_real_table(config.real, [p.name for p in said])
    spec = _spec(run)
    if (check := getattr(judge, "check", None)) is not None:
        check(spec)
    simulator = _open_simulator(env_id, spec, table, config)
    try:
        contestants = load_contestants(said, device)
        if simulator is not None:
            _check_all(contestants, simulator)
        starts = _starts(run, simulator, spec, table, config)
        dream = _open_dream(run, simulator, starts, config, device)
        _check_all(contestants, dream)
        real = simulator if table is None else table
        assert real is not None, "checked with the simulator"
        yield Stage(config=config, starts=starts, real=real, dream=dream, judge=judge), contestants
    finally:
        if simulator is not None:
            simulator.close()


def _check_all(contestants: Sequence[Contestant], env: gym.Env) -> None:
    """Raise ValueError where a policy does not fit an environment."""
    for contestant in contestants:
        contestant.check(env)


def _spec(run: str | Path) -> Spec:
    """Return what a model reads, with cameras as pixels, before anything large is loaded."""
    spec = Spec.from_json(files.read_json(check_folder(run) / CONFIG)["spec"]).pixels
    if "success" not in spec.outcomes:
        raise ValueError(
            f"{run} does not predict success, only {list(spec.outcomes)}: train it on data that "
            "says when a task is solved"
        )
    return spec


def _open_simulator(
    env_id: str | None, spec: Spec, table: RealTable | None, config: PolicyEvaluationConfig
) -> gym.Env | None:
    """Return the simulator, or None where neither results nor starts come from one."""
    if env_id is None:
        if table is None or config.data is None:
            raise ValueError(
                "without an environment real results come from a table (real) and its starts from "
                "recorded episodes (data); give both, or an environment"
            )
        return None
    if config.data is not None:
        raise ValueError(f"starts come from {env_id} or from {config.data}; give one of them")
    env = make_env(env_id, config.max_steps, {"render_mode": "rgb_array"})
    try:
        check_fits(env, spec, env_id)
    except ValueError:
        env.close()
        raise
    return env


def _starts(
    run: str | Path,
    simulator: gym.Env | None,
    spec: Spec,
    table: RealTable | None,
    config: PolicyEvaluationConfig,
) -> Starts:
    wanted = None if table is None else table.starts
    if simulator is not None:
        return simulated_starts(simulator, spec, config.episodes, config.seed, wanted)
    assert config.data is not None, "checked with the simulator"
    assert wanted is not None, "checked with the simulator"
    return recorded_starts(run, config.data, config.episodes, wanted)


def _open_dream(
    run: str | Path,
    simulator: gym.Env | None,
    starts: Starts,
    config: PolicyEvaluationConfig,
    device: str,
) -> ImaginedEnv:
    """Return the world model as an environment with the simulator's actions and limit."""
    limit = config.max_steps or starts.max_steps
    if limit is None:
        raise ValueError("the environment limits no episode; give max_steps")
    actions = simulator.action_space if simulator is not None else None
    assert actions is None or isinstance(actions, Box), "checked with the simulator"
    return imagined_env(
        run,
        starts.frames,
        max_steps=limit,
        num_steps=config.num_steps,
        action_space=actions,
        device=device,
    )
