"""What a plan by the cross-entropy method costs: the imagined futures of many candidates.

All candidates begin at one history. Counted are the model's evaluations and the update of the
candidates' distribution; the cost is the reward that the model predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from scd_wm import imagination
from scd_wm.bench import cost, models, results
from scd_wm.bench.breakdown import breakdown
from scd_wm.bench.counting import count_flops
from scd_wm.bench.models import Entry
from scd_wm.bench.options import BenchOptions, check_at_least_1, check_out
from scd_wm.bench.results import Result, Row
from scd_wm.bench.timing import Contestant, take_turns
from scd_wm.model.engine import chosen, prepare
from scd_wm.model.presets import state, tiny
from scd_wm.model.world_model import WorldModel
from scd_wm.policies.cem import CEM
from scd_wm.policies.goals import OutcomeGoal
from scd_wm.policies.mpc import ImaginedCosts, MPCConfig
from scd_wm.policies.planner import ActionLimits
from scd_wm.spec import CameraSpec, Spec, VectorSpec


@dataclass(frozen=True, kw_only=True)
class PlanningConfig:
    """Sizes of a plan.

    Raises:
        ValueError: If a size is below 1, or a world is unknown.
    """

    candidates: int = 300
    iterations: int = 5
    horizon: int = 10  # frames
    worlds: tuple[str, ...] = ("pixels", "state")
    modes: tuple[str, ...] = ("prefix", "entangled")

    def __post_init__(self) -> None:
        models.check_modes(self.modes)
        check_at_least_1(self, "candidates", "iterations", "horizon")
        unknown = [world for world in self.worlds if world not in WORLDS]
        if unknown:
            raise ValueError(f"unknown worlds {unknown}; there are {tuple(WORLDS)}")


def pixel_world() -> Entry:
    """64 x 64 pixels in 16 tokens, the preset `tiny`."""
    spec = Spec(
        cameras={"camera": CameraSpec(height=64, width=64)},
        action=VectorSpec.unit(models.ACTION_DIM),
        outcomes=("reward",),
    )
    return models.entry(spec, tiny(), "prefix")


def state_world() -> Entry:
    """Two vectors, the preset `state`."""
    spec = Spec(
        vectors={"joints": VectorSpec.unit(9), "object": VectorSpec.unit(7)},
        action=VectorSpec.unit(models.ACTION_DIM),
        outcomes=("reward",),
    )
    return models.entry(spec, state(), "prefix")


WORLDS: dict[str, Callable[[], Entry]] = {"pixels": pixel_world, "state": state_world}
QUICK = PlanningConfig(candidates=4, iterations=2, horizon=2)


def bench_planning(
    config: PlanningConfig | None = None,
    options: BenchOptions | None = None,
    out: str | Path | None = None,
) -> Result:
    """Time plans.

    Args:
        config: Sizes; None takes the defaults.
        options: How to measure; None takes three turns of one iteration.
        out: A JSON file for the result; None writes none.

    Returns:
        What is written to `out`. Times are of a whole plan: those of an iteration, times
        `config.iterations`.

    Raises:
        ValueError, OSError: If a size does not fit, or `out` cannot be written.
    """
    config = PlanningConfig() if config is None else config
    options = BenchOptions(rounds=3, turn_s=0.0) if options is None else options
    check_out(out)
    result = results.new_result("planning", options, config=asdict(config))
    for world in config.worlds:
        first = WORLDS[world]()
        entries = [models.entry(first.spec, first.config, mode) for mode in config.modes]
        result["rows"] += _time_plans(result, world, entries, config, options)
    results.write_result(result, out)
    return result


def _time_plans(
    result: Result, world: str, entries: list[Entry], config: PlanningConfig, options: BenchOptions
) -> list[Row]:
    planners, rows = [], []
    for entry in entries:
        planner, row = _planner(entry, config, options)
        planners.append(Contestant(f"{world}, {entry.name}", planner))
        rows.append({"world": world, **row})
    turns = take_turns(
        planners, options.rounds, options.turn_s, device=options.device, what=result["format"]
    )
    ratios = results.ratio_columns(turns, [entry.name for entry in entries], options.device)
    for row, entry, own, against in zip(rows, entries, turns, ratios, strict=True):
        frames = config.candidates * config.horizon * config.iterations
        flops, counted = frames * cost.frame(entry.sizes), config.iterations * row.pop("counted")
        row |= results.time_columns(own, 1 / config.iterations)
        row |= results.work_columns(result, row, options, model_flops=flops, counted=counted)
        row |= against
        row["frames_per_cpu_s"] = frames / row["cpu_s"]["median"]
    if options.profiles:
        for row, contestant in zip(rows, planners, strict=True):
            row["where"] = breakdown(contestant.run, options.device)
    return rows


def _planner(
    entry: Entry, config: PlanningConfig, options: BenchOptions
) -> tuple[Callable[[], object], Row]:
    """Return what does one iteration of a plan, and the part of its row known before timing."""
    plain = models.build(entry, options).eval()
    row = {
        "model": entry.name,
        "shape": entry.shape,
        "batch": config.candidates,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "engine": chosen(plain, options.engine),
        "parameters": models.num_parameters(plain),
        # The counter knows torch's own layers.
        "counted": count_flops(_iteration(plain, entry, config, options)),
    }
    return _iteration(prepare(plain, options.engine), entry, config, options), row


def _iteration(
    model: WorldModel, entry: Entry, config: PlanningConfig, options: BenchOptions
) -> Callable[[], object]:
    """Return one iteration of a plan from one history; all of them cost the same."""
    state = imagination.begin(model, models.history(entry, 1, options, entry.config.window))
    costs = ImaginedCosts(model, state, OutcomeGoal("reward"), MPCConfig())
    planner = CEM(candidates=config.candidates, horizon=config.horizon, iterations=1)
    one = torch.ones_like(models.actions(entry, 1, options)[0])
    random = torch.Generator(one.device).manual_seed(0)
    return lambda: planner.plan(costs, ActionLimits(-one, one), 1, random)


COLUMNS: tuple[results.Column, ...] = (
    ("model", lambda row: f"{row['world']}, {row['model']}"),
    ("M params", lambda row: results.shown_number(row["parameters"] / 1e6)),
    ("shape", lambda row: row["shape"]),
    ("CPU s a plan", lambda row: results.shown_spread(row["cpu_s"])),
    ("wall s", lambda row: results.shown_number(row["wall_s"]["median"])),
    ("frames / CPU s", lambda row: results.shown_number(row["frames_per_cpu_s"], 4)),
    *results.WORK,
)


def lines(result: Result) -> list[str]:
    """Return the result as text."""
    rows, c = result["rows"], result["config"]
    return [
        *results.heading_lines(result),
        f"a plan: {c['candidates']} candidates x {c['iterations']} iterations x horizon "
        f"{c['horizon']}, all forked from one history; timed by iteration",
        "",
        *results.table(rows, COLUMNS),
        *results.where_lines(rows, lambda row: f"{row['world']}, {row['model']}"),
    ]
