"""The command `bench` and what it can measure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scd_wm.commands.base import Commands, command
from scd_wm.console import layer_split, name_list, number_list, plain_rows, show_table

CASES = ("short", "paper", "stream")  # of scd_wm.bench.latency, which needs torch
MODES = ("prefix", "token_concat", "entangled")  # of scd_wm.bench.models
ENGINES = ("auto", "plain", "packed", "compile")  # of scd_wm.model.engine
QUICK_ROUNDS = 2


def add_bench(commands: Commands) -> argparse.ArgumentParser:
    """Declare `bench`."""
    what = "Measure speed and memory on this machine, beside baselines in the same run."
    parser = command(commands, "bench", what, run_data)
    kinds = parser.add_subparsers(
        dest="what", metavar="WHAT", required=True, help="what to measure"
    )
    for add in (
        _add_data,
        _add_latency,
        _add_throughput,
        _add_planning,
        _add_environments,
        _add_training,
        _add_memory,
    ):
        add(kinds).add_argument("--debug", action="store_true", help="show an error's traceback")
    return parser


def _add_data(kinds: Commands) -> argparse.ArgumentParser:
    parser = command(kinds, "data", "Time the loading of clips from each format.", run_data)
    parser.add_argument(
        "data", metavar="DATA", type=Path, nargs="?", help="data set; default: records some"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file for the result")
    parser.add_argument("--frames", type=int, metavar="N", default=16, help="of a clip")
    parser.add_argument("--batch", type=int, metavar="N", default=16, help="clips of a batch")
    parser.add_argument("--rounds", type=int, metavar="N", default=5, help="turns of each loader")
    return parser


def _add_latency(kinds: Commands) -> argparse.ArgumentParser:
    what = "Time one imagined frame of one rollout whose history is full."
    parser = command(kinds, "latency", what, run_latency)
    parser.add_argument("--case", choices=CASES, default="short", help="sizes to start from")
    parser.add_argument("--run", metavar="RUN", help="run or model to take all sizes from instead")
    _size(parser, "--dim", "width of the models")
    _frame_sizes(parser)
    _size(parser, "--sampler-steps", "of a frame")
    _layers(parser)
    _modes(parser)
    _measuring(parser, rounds=5, turn_s=1.0)
    return parser


def _add_throughput(kinds: Commands) -> argparse.ArgumentParser:
    what = "Time imagined frames in batches, and their share of what the machine can do."
    parser = command(kinds, "throughput", what, run_throughput)
    _sizes(parser, "--dims", "widths of the models")
    _sizes(parser, "--batches", "rollouts at once")
    _frame_sizes(parser)
    _size(parser, "--sampler-steps", "of a frame")
    _layers(parser)
    _modes(parser)
    _measuring(parser, rounds=3, turn_s=0.5)
    return parser


def _add_planning(kinds: Commands) -> argparse.ArgumentParser:
    what = "Time plans by the cross-entropy method, all candidates forked from one history."
    parser = command(kinds, "planning", what, run_planning)
    _size(parser, "--candidates", "of an iteration")
    _size(parser, "--iterations", "of a plan")
    _size(parser, "--horizon", "frames that a candidate imagines")
    parser.add_argument("--worlds", type=name_list, metavar="NAMES", help="default: pixels,state")
    _modes(parser)
    _measuring(parser, rounds=3, turn_s=0.0)
    return parser


def _add_environments(kinds: Commands) -> argparse.ArgumentParser:
    what = "Time steps of a vector environment against those of as many single ones."
    parser = command(kinds, "environments", what, run_environments)
    _size(parser, "--num-envs", "environments stepped")
    parser.add_argument("--worlds", type=name_list, metavar="NAMES", help="default: state,pixels")
    _modes(parser)
    _measuring(parser, rounds=5, turn_s=1.0)
    return parser


def _add_training(kinds: Commands) -> argparse.ArgumentParser:
    what = "Time training steps, and measure the memory that they need."
    parser = command(kinds, "training", what, run_training)
    _size(parser, "--dim", "width of the models")
    _frame_sizes(parser)
    _size(parser, "--batch", "clips of a step")
    _size(parser, "--frames", "of a clip", name="num_frames")
    _sizes(parser, "--draws", "noise draws")
    _layers(parser)
    _modes(parser)
    _measuring(parser, rounds=3, turn_s=1.0, engines=("plain", "compile"))
    return parser


def _add_memory(kinds: Commands) -> argparse.ArgumentParser:
    what = "Measure the memory of a long rollout, and of many branches from one history."
    parser = command(kinds, "memory", what, run_memory)
    _size(parser, "--frames", "of the long rollout")
    _size(parser, "--branches", "from one history")
    _size(parser, "--horizon", "frames that a branch imagines")
    _size(parser, "--dim", "width of the model that branches")
    _size(parser, "--tokens", "of its frames, patches of 8 x 8 pixels")
    _size(parser, "--history", "frames of the history")
    _layers(parser)
    _modes(parser)
    _machine(parser)
    return parser


def _size(parser: argparse.ArgumentParser, option: str, what: str, name: str | None = None) -> None:
    dest = name or option.removeprefix("--").replace("-", "_")
    help_text = f"{what}; default: the measurement's own"
    parser.add_argument(option, type=int, metavar="N", dest=dest, help=help_text)


def _frame_sizes(parser: argparse.ArgumentParser) -> None:
    _size(parser, "--tokens", "of a frame, patches of 8 x 8 pixels")
    _size(parser, "--history", "frames in the window")


def _sizes(parser: argparse.ArgumentParser, option: str, what: str) -> None:
    help_text = f"{what}; default: the measurement's own"
    parser.add_argument(option, type=number_list, metavar="N,N", help=help_text)


def _layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layers",
        type=layer_split,
        metavar="E+D",
        help="of encoder and decoder, the sum for the entangled model; default: the measurement's",
    )


def _modes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modes",
        type=name_list,
        metavar="NAMES",
        help=f"which models, of {','.join(MODES)}; default: the measurement's own",
    )


def _measuring(
    parser: argparse.ArgumentParser,
    rounds: int,
    turn_s: float,
    engines: tuple[str, ...] = ENGINES,
) -> None:
    parser.add_argument("--rounds", type=int, metavar="N", default=rounds, help="turns of each")
    parser.add_argument(
        "--turn-s", type=float, metavar="S", default=turn_s, help="seconds of a turn, at least"
    )
    parser.add_argument(
        "--engine",
        choices=engines,
        default=engines[0],
        help="how models are run",
    )
    parser.add_argument("--profile", action="store_true", help="also say where the time goes")
    _machine(parser)


def _machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to run")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="precision"
    )
    parser.add_argument("--threads", type=int, metavar="N", default=1, help="of torch on the CPU")
    parser.add_argument(
        "--quick", action="store_true", help="sizes so small that all takes seconds"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file for the result")


def run_data(args: argparse.Namespace) -> None:
    """Run `bench data`."""
    from scd_wm.bench.data import BenchConfig, bench_data, table_lines

    config = BenchConfig(num_frames=args.frames, batch_size=args.batch, rounds=args.rounds)
    result = bench_data(args.data, config, args.out)
    print("\n".join(("", result["clip"], "", *table_lines(result))))
    show_table("on this machine", plain_rows(result["machine"]))
    resident = result["resident_mib_in_an_epoch"]
    show_table("resident memory in an epoch from disk, MiB", plain_rows(resident))


def run_latency(args: argparse.Namespace) -> None:
    """Run `bench latency`."""
    from scd_wm.bench import latency

    config: latency.LatencyConfig | latency.RunConfig
    if args.run is not None:
        sizes = ("dim", "tokens", "history", "layers", "modes")
        if given := [f"--{name}" for name in sizes if getattr(args, name) is not None]:
            raise ValueError(f"a run has sizes of its own: leave out {given[0]} or --run")
        config = latency.RunConfig(run=args.run, sampler_steps=args.sampler_steps)
    else:
        case = latency.QUICK if args.quick else latency.CASES[args.case]
        case = _changed(case, args, "dim", "tokens", "history", "sampler_steps")
        config = case.restricted(args.modes, args.layers)
    _show(latency.lines, latency.bench_latency(config, _options(args), args.out))


def run_throughput(args: argparse.Namespace) -> None:
    """Run `bench throughput`."""
    from scd_wm.bench import throughput

    names = ("dims", "batches", "tokens", "history", "sampler_steps", "layers", "modes")
    config = throughput.QUICK if args.quick else throughput.ThroughputConfig()
    config = _changed(config, args, *names)
    _show(throughput.lines, throughput.bench_throughput(config, _options(args), args.out))


def run_planning(args: argparse.Namespace) -> None:
    """Run `bench planning`."""
    from scd_wm.bench import planning

    config = planning.QUICK if args.quick else planning.PlanningConfig()
    config = _changed(config, args, "candidates", "iterations", "horizon", "worlds", "modes")
    _show(planning.lines, planning.bench_planning(config, _options(args), args.out))


def run_environments(args: argparse.Namespace) -> None:
    """Run `bench environments`."""
    from scd_wm.bench import environments

    config = environments.QUICK if args.quick else environments.EnvironmentsConfig()
    config = _changed(config, args, "num_envs", "worlds", "modes")
    options = _options(args)
    _show(environments.lines, environments.bench_environments(config, options, args.out))


def run_training(args: argparse.Namespace) -> None:
    """Run `bench training`."""
    from scd_wm.bench import training

    names = ("dim", "tokens", "history", "batch", "num_frames", "draws", "layers", "modes")
    config = training.QUICK if args.quick else training.TrainingConfig()
    config = _changed(config, args, *names)
    _show(training.lines, training.bench_training(config, _options(args), args.out))


def run_memory(args: argparse.Namespace) -> None:
    """Run `bench memory`."""
    from scd_wm.bench import memory

    names = ("frames", "branches", "horizon", "dim", "tokens", "history", "layers", "modes")
    config = memory.QUICK if args.quick else memory.MemoryConfig()
    config = _changed(config, args, *names)
    _show(memory.lines, memory.bench_memory(config, _options(args), args.out))


def _changed(config: Any, args: argparse.Namespace, *names: str) -> Any:
    """Return a configuration with what the command line gives."""
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return replace(config, **given)


def _options(args: argparse.Namespace) -> Any:
    from scd_wm.bench.options import BenchOptions

    machine = {"device": args.device, "dtype": args.dtype, "threads": args.threads}
    if not hasattr(args, "rounds"):
        return BenchOptions(**machine)
    return BenchOptions(
        **machine,
        rounds=min(args.rounds, QUICK_ROUNDS) if args.quick else args.rounds,
        turn_s=0.0 if args.quick else args.turn_s,
        peak_turn_s=0.0 if args.quick else BenchOptions.peak_turn_s,
        engine=args.engine,
        profiles=args.profile,
    )


def _show(lines: Callable[[Any], list[str]], result: Any) -> None:
    print("\n".join(("", *lines(result))))
