"""The commands that look at a trained run: `imagine`, `evaluate` and `demo`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from scd_wm.commands.base import Commands, add_data_and_out, command
from scd_wm.console import float_list, name_list, number_list, plain_rows, show_table

if TYPE_CHECKING:
    from scd_wm.evaluation.evaluate import EvaluationConfig

SOLVERS = ("euler", "heun")  # of scd_wm.model.flow, which needs torch


def _add_run_and_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder or exported model")
    add_data_and_out(parser)
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of clips and noise")
    parser.add_argument("--history", type=int, metavar="N", default=4, help="real frames given")
    parser.add_argument(
        "--num-steps", type=int, metavar="N", help="sampler steps of a frame; default: the model's"
    )
    parser.add_argument(
        "--solver", choices=SOLVERS, help="of the sampler's steps; default: the model's"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="G",
        help="how far to go past what a blurred context predicts, 1 for no guidance; twice the "
        "work of the decoder; default: the model's",
    )


def add_imagine(commands: Commands) -> argparse.ArgumentParser:
    """Declare `imagine`."""
    what = "Imagine how clips of a data set go on; write videos and arrays."
    parser = command(commands, "imagine", what, run_imagine)
    _add_run_and_data(parser)
    parser.add_argument("--clips", type=int, metavar="N", default=4, help="different starts")
    parser.add_argument("--futures", type=int, metavar="N", default=3, help="from each start")
    parser.add_argument("--horizon", type=int, metavar="N", default=32, help="frames to imagine")
    return parser


def run_imagine(args: argparse.Namespace) -> None:
    """Run `imagine`."""
    from scd_wm.imagine_run import ImagineConfig, imagine_run

    config = ImagineConfig(
        num_clips=args.clips,
        num_futures=args.futures,
        history=args.history,
        horizon=args.horizon,
        seed=args.seed,
    )
    summary = imagine_run(
        args.run,
        args.data,
        args.out,
        config=config,
        num_steps=args.num_steps,
        solver=args.solver,
        guidance=args.guidance,
    )
    show_table(f"imagined {args.out}", plain_rows(summary))


def add_evaluate(commands: Commands) -> argparse.ArgumentParser:
    """Declare `evaluate`."""
    what = "Measure what a run imagines beside null models; write a report to open in a browser."
    parser = command(commands, "evaluate", what, run_evaluate)
    _add_run_and_data(parser)
    parser.add_argument("--clips", type=int, metavar="N", default=64, help="clips to imagine")
    parser.add_argument(
        "--futures",
        type=int,
        metavar="N",
        default=1,
        help="of each clip; 2 or more also give energy scores, which do justice to chance",
    )
    parser.add_argument(
        "--horizons",
        type=number_list,
        metavar="N,N",
        default="1,4,8,16,32",
        help="imagined frames after which numbers are given",
    )
    parser.add_argument(
        "--track",
        metavar="NAME=R,G,B",
        action="append",
        help="an object to find by its colour; may be repeated; default: those that the data names",
    )
    parser.add_argument(
        "--env",
        metavar="ENV",
        help="simulator in which other actions are played from recorded moments; default: the one "
        "that the data names, if it is registered",
    )
    parser.add_argument(
        "--i3d",
        type=Path,
        metavar="FILE",
        help="I3D as TorchScript (i3d_torchscript.pt), for FVD; such a file is a program and is "
        "run: only give one that you trust",
    )
    parser.add_argument(
        "--sweep-steps",
        type=number_list,
        metavar="N,N",
        help="instead of a report: numbers at each of these sampler steps, such as 1,2,4,8,16",
    )
    parser.add_argument(
        "--sweep-solvers",
        type=name_list,
        metavar="NAME,NAME",
        help="with --sweep-steps, each of these solvers; default: the --solver",
    )
    parser.add_argument(
        "--sweep-guidance",
        type=float_list,
        metavar="G,G",
        help="with --sweep-steps, each of these guidances; default: the --guidance",
    )
    return parser


def run_evaluate(args: argparse.Namespace) -> None:
    """Run `evaluate`."""
    from scd_wm.evaluate_run import evaluate_run
    from scd_wm.evaluation.evaluate import EvaluationConfig

    config = EvaluationConfig(
        num_clips=args.clips,
        num_futures=args.futures,
        history=args.history,
        horizons=args.horizons,
        seed=args.seed,
    )
    if args.sweep_steps or args.sweep_solvers or args.sweep_guidance:
        _sweep(args, config)
        return
    summary = evaluate_run(
        args.run,
        args.data,
        args.out,
        config=config,
        num_steps=args.num_steps,
        solver=args.solver,
        guidance=args.guidance,
        tracked_colours=tuple(args.track or ()),
        env=args.env,
        i3d=args.i3d,
    )
    shown = ("report", "num_clips", "num_episodes", "duration_s")
    show_table(f"evaluated {args.run}", [(name, summary[name]) for name in shown])


def _sweep(args: argparse.Namespace, config: EvaluationConfig) -> None:
    """Run `evaluate --sweep-steps`.

    Raises:
        ValueError: If options contradict each other.
    """
    from scd_wm.sweep_run import sweep_run

    if not args.sweep_steps:
        raise ValueError(
            "--sweep-solvers and --sweep-guidance go with --sweep-steps, such as --sweep-steps "
            "1,2,4,8,16"
        )
    given = () if args.guidance is None else (args.guidance,)
    is_twice = (args.sweep_solvers and args.solver) or (args.sweep_guidance and given)
    if args.num_steps is not None or is_twice:
        raise ValueError(
            "--sweep-steps, --sweep-solvers and --sweep-guidance take the place of --num-steps, "
            "--solver and --guidance"
        )
    summary = sweep_run(
        args.run,
        args.data,
        args.out,
        num_steps=args.sweep_steps,
        solvers=args.sweep_solvers or ((args.solver,) if args.solver else ()),
        guidances=args.sweep_guidance or given,
        config=config,
        tracked_colours=tuple(args.track or ()),
    )
    show_table(f"swept {args.run} into {args.out}", plain_rows(summary))


def add_demo(commands: Commands) -> argparse.ArgumentParser:
    """Declare `demo`."""
    what = "Collect data, train, fine-tune the shipped model, evaluate, and write one report."
    parser = command(commands, "demo", what, run_demo)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("outputs/demo"), help="folder to write"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        default=1.0,
        help="training of each world model of images",
    )
    return parser


def run_demo(args: argparse.Namespace) -> None:
    """Run `demo`."""
    from scd_wm.demo import demo

    show_table(f"demo in {args.out}", plain_rows(demo(args.out, minutes=args.minutes)))
