"""What a plan by the cross-entropy method costs: the imagined futures of many candidates.

All candidates begin at one history. Counted are the model's evaluations and the update of the
candidates' distribution; costs come from the model's own reward, or from its vectors where it has
none.

Axes: B candidates, T steps of the horizon, A values of an action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from scd_wm import imagination
from scd_wm.bench import cost, models, results
from scd_wm.bench.breakdown import breakdown
from scd_wm.bench.counting import count_flops
from scd_wm.bench.models import Entry
from scd_wm.bench.options import BenchOptions, check_at_least_1, check_out
from scd_wm.bench.results import Result, Row
from scd_wm.bench.timing import Contestant, take_turns
from scd_wm.imagination import Frames
from scd_wm.model.engine import chosen, prepare
from scd_wm.model.presets import state, tiny
from scd_wm.model.world_model import WorldModel
from scd_wm.spec import CameraSpec, Spec, VectorSpec

ELITES = 0.1  # share of the candidates that the next distribution is fitted to
LEAST_STD = 0.05


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
        planners.append(Contestant(f"{world}, {entry.name}", planner.iterate))
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


def _planner(entry: Entry, config: PlanningConfig, options: BenchOptions) -> tuple[Planner, Row]:
    plain = models.build(entry, options).eval()
    action = models.actions(entry, 1, options)
    row = {
        "model": entry.name,
        "shape": entry.shape,
        "batch": config.candidates,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "engine": chosen(plain, options.engine),
        "parameters": models.num_parameters(plain),
        # The counter knows torch's own layers.
        "counted": count_flops(Planner(_costs(plain, entry, options), config, action).iterate),
    }
    model = prepare(plain, options.engine)
    return Planner(_costs(model, entry, options), config, action), row


def _costs(model: WorldModel, entry: Entry, options: BenchOptions) -> Callable[[Tensor], Tensor]:
    """Return what maps plans, (B, T, A), that begin at one history, to their costs, (B,)."""
    begun = imagination.begin(model, models.history(entry, 1, options, entry.config.window))

    def imagine(plans: Tensor) -> Tensor:
        state, total = begun.fork(*plans.shape[:2]), plans.new_zeros(len(plans))
        for t in range(plans.shape[1]):
            total += _cost(imagination.step(model, state, plans[:, t]))
        return total

    return imagine


class Planner:
    """The cross-entropy method, one iteration at a time, for ever: plan after plan.

    Args:
        costs: Maps plans, (B, T, A), to their costs, (B,).
        config: Sizes.
        like: An action, (1, A), for its width, precision and device.
    """

    def __init__(
        self, costs: Callable[[Tensor], Tensor], config: PlanningConfig, like: Tensor
    ) -> None:
        self.costs, self.config = costs, config
        self.random = torch.Generator(like.device).manual_seed(0)
        self.start = like.expand(config.horizon, -1)  # (T, A)
        self.num_done = 0
        self._restart()

    def _restart(self) -> None:
        self.mean, self.std = self.start.clone(), torch.ones_like(self.start)

    def iterate(self) -> None:
        """Draw candidates, imagine them, and fit the distribution to the best; then a new plan."""
        if self.num_done % self.config.iterations == 0:
            self._restart()
        shape = (self.config.candidates, *self.mean.shape)
        noise = torch.randn(
            shape, generator=self.random, dtype=self.mean.dtype, device=self.mean.device
        )
        plans = self.mean + self.std * noise  # (B, T, A)
        num_elites = max(1, round(ELITES * len(plans)))
        best = plans[self.costs(plans).topk(num_elites, largest=False).indices]
        self.mean, self.std = best.mean(0), best.std(0, correction=0).clamp(min=LEAST_STD)
        self.num_done += 1


def _cost(frames: Frames) -> Tensor:
    """Return the cost of a step, (B,)."""
    if "reward" in frames.outcome:
        return -frames.outcome["reward"]
    return torch.stack([v.square().sum(-1) for v in frames.vectors.values()]).sum(0)


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
