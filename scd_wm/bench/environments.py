"""Steps of imagined environments: many in one vector environment against as many single ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from gymnasium.vector import AutoresetMode

from scd_wm.bench import models, results
from scd_wm.bench.models import Entry
from scd_wm.bench.options import BenchOptions, check_at_least_1, check_out
from scd_wm.bench.planning import WORLDS
from scd_wm.bench.results import Result, Row
from scd_wm.bench.timing import Contestant, ratio, seconds, take_turns
from scd_wm.envs.imagined_env import ImaginedEnv
from scd_wm.envs.imagined_vector_env import ImaginedVectorEnv
from scd_wm.model.engine import chosen, prepare

FOREVER = 10**9  # steps of an episode, so that none ends while it is timed
NEVER = 1.0  # the probability of termination above which an episode ends


@dataclass(frozen=True, kw_only=True)
class EnvironmentsConfig:
    """What is stepped.

    Raises:
        ValueError: If a size is below 1, or a world or mode is unknown.
    """

    num_envs: int = 64
    worlds: tuple[str, ...] = ("state", "pixels")
    modes: tuple[str, ...] = ("prefix",)

    def __post_init__(self) -> None:
        models.check_modes(self.modes)
        check_at_least_1(self, "num_envs")
        unknown = [world for world in self.worlds if world not in WORLDS]
        if unknown:
            raise ValueError(f"unknown worlds {unknown}; there are {tuple(WORLDS)}")


QUICK = EnvironmentsConfig(num_envs=2)


def bench_environments(
    config: EnvironmentsConfig | None = None,
    options: BenchOptions | None = None,
    out: str | Path | None = None,
) -> Result:
    """Time steps of environments.

    Args:
        config: What is stepped; None takes the defaults.
        options: How to measure; None takes five turns of a second.
        out: A JSON file for the result; None writes none.

    Returns:
        What is written to `out`. Times are of one step of one environment.

    Raises:
        ValueError, OSError: If a size does not fit, or `out` cannot be written.
    """
    config = EnvironmentsConfig() if config is None else config
    options = BenchOptions() if options is None else options
    if options.device != "cpu" or options.dtype != "float32":
        raise ValueError("environments are measured on the CPU in float32")
    check_out(out)
    result = results.new_result("environments", options, config=asdict(config))
    for world in config.worlds:
        first = WORLDS[world]()
        for mode in config.modes:
            entry = models.entry(first.spec, first.config, mode)
            result["rows"] += _time_steps(result, world, entry, config.num_envs, options)
    results.write_result(result, out)
    return result


def _time_steps(
    result: Result, world: str, entry: Entry, num_envs: int, options: BenchOptions
) -> list[Row]:
    names = ("one vector environment", "single environments")
    makers = (_vector, _singles)
    steppers = [
        Contestant(f"{world}, {name}", make(entry, num_envs, options))
        for name, make in zip(names, makers, strict=True)
    ]
    turns = take_turns(steppers, options.rounds, options.turn_s, what=result["format"])
    own = [[seconds(turn, options.device) for turn in each] for each in turns]
    plain = models.build(entry, options)
    shared = {
        "world": world,
        "model": entry.name,
        "shape": entry.shape,
        "num_envs": num_envs,
        "engine": chosen(plain, options.engine),
        "parameters": models.num_parameters(plain),
    }
    return [
        {
            **shared,
            "what": name,
            **results.time_columns(each, num_envs),
            "against_singles": asdict(ratio(seconds_of, own[1])),
        }
        for name, each, seconds_of in zip(names, turns, own, strict=True)
    ]


def _vector(entry: Entry, num_envs: int, options: BenchOptions) -> Callable[[], object]:
    """Return one step of a vector environment."""
    model = prepare(models.build(entry, options), options.engine)
    starts = models.history(entry, 1, options, entry.config.window)
    envs = ImaginedVectorEnv(
        model,
        starts,
        num_envs,
        max_steps=FOREVER,
        terminate_at=NEVER,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    envs.reset(seed=0)
    actions = envs.action_space.sample()
    return lambda: envs.step(actions)


def _singles(entry: Entry, num_envs: int, options: BenchOptions) -> Callable[[], object]:
    """Return one step of each of as many single environments, which share a model."""
    model = prepare(models.build(entry, options), options.engine)
    starts = models.history(entry, 1, options, entry.config.window)
    envs = [
        ImaginedEnv(model, starts, max_steps=FOREVER, terminate_at=NEVER) for _ in range(num_envs)
    ]
    for row, env in enumerate(envs):
        env.reset(seed=row)
    action = envs[0].action_space.sample()
    return lambda: [env.step(action) for env in envs]


COLUMNS: tuple[results.Column, ...] = (
    ("environments", lambda row: f"{row['world']}, {row['what']}"),
    ("number", lambda row: str(row["num_envs"])),
    ("model", lambda row: row["model"]),
    ("M params", lambda row: results.shown_number(row["parameters"] / 1e6)),
    ("CPU ms a step", lambda row: results.shown_spread(row["cpu_s"], 1e3)),
    ("wall ms", lambda row: results.shown_number(row["wall_s"]["median"] * 1e3)),
    ("times single", lambda row: results.shown_spread(row["against_singles"])),
)


def lines(result: Result) -> list[str]:
    """Return the result as text."""
    return [
        *results.heading_lines(result)[:2],
        f"medians of {result['options']['rounds']} turns (least to most), of one step of one "
        "environment",
        "",
        *results.table(result["rows"], COLUMNS),
    ]
