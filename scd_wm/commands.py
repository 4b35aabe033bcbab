"""The commands of `scd-wm`: their arguments, and the function elsewhere that each one calls.

Nothing heavy is imported here, so that help is there at once. To add a command: two functions, one
that declares arguments and one that runs, and a line in `COMMANDS`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scd_wm.console import image_size, name_list, number_list, plain_rows, show_table, write_summary

PRESETS = ("state", "tiny", "small", "base", "paper")  # of scd_wm.model.presets, which needs torch
POLICIES = ("random", "scripted", "zero")  # of scd_wm.policies.registry, which needs gymnasium

Commands = Any  # argparse gives the type of `add_subparsers()` no public name


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows every default but that of flags, off; for None the help text says what it means."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == []:
            return action.help
        return super()._get_help_string(action)


def _command(
    commands: Commands, name: str, summary: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, formatter_class=_Help, allow_abbrev=False
    )
    parser.set_defaults(handler=run)
    return parser


def add_collect(commands: Commands) -> argparse.ArgumentParser:
    """Declare `collect`."""
    what = "Record episodes of a policy in an environment; the summary goes beside the file."
    parser = _command(commands, "collect", what, run_collect)
    parser.add_argument("env", metavar="ENV", help="Gymnasium id, such as scd_wm/PushT-v0")
    parser.add_argument("--policy", choices=POLICIES, default="scripted", help="who acts")
    parser.add_argument("--episodes", type=int, metavar="N", default=100, help="how many")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", required=True, help="robomimic HDF5 file to write"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the first episode")
    parser.add_argument("--noise", type=float, metavar="X", help="of the policy; default: its own")
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help="of an episode; default: the environment's limit"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace PATH if it is there")
    return parser


def run_collect(args: argparse.Namespace) -> None:
    """Run `collect`."""
    from scd_wm.collect import collect

    summary = collect(
        args.env,
        args.policy,
        args.episodes,
        args.out,
        seed=args.seed,
        noise=args.noise,
        max_steps=args.max_steps,
        overwrite=args.overwrite,
    )
    write_summary(args.out.with_suffix(".summary.json"), summary)
    show_table(f"recorded {args.out}", plain_rows(summary))


def add_inspect(commands: Commands) -> argparse.ArgumentParser:
    """Declare `inspect`."""
    what = "Show what a data set holds."
    parser = _command(commands, "inspect", what, run_inspect)
    parser.add_argument(
        "path", metavar="PATH", type=Path, help="robomimic HDF5 file or LeRobot folder"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for summary.json; default: only print"
    )
    return parser


def run_inspect(args: argparse.Namespace) -> None:
    """Run `inspect`."""
    from scd_wm.datasets.summary import summarise, summary_lines

    summary = summarise(args.path)
    if args.out is not None:
        write_summary(args.out / "summary.json", summary)
    print("\n".join((str(args.path), *(f"  {line}" for line in summary_lines(summary)))))


def add_train(commands: Commands) -> argparse.ArgumentParser:
    """Declare `train`."""
    what = "Train a world model on a data set, without converting it."
    parser = _command(commands, "train", what, run_train)
    parser.add_argument(
        "data", metavar="DATA", type=Path, help="robomimic HDF5 file or LeRobot folder"
    )
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="settings of model and training in place of the preset's; --dry-run shows them all",
    )
    parser.add_argument(
        "--out", type=Path, metavar="RUN", required=True, help="run folder to write"
    )
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="size and recipe")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--steps", type=int, metavar="N", help="in all; default: the preset's")
    limit.add_argument(
        "--minutes", type=float, metavar="M", help="of training in all, over all resumes"
    )
    parser.add_argument("--resume", action="store_true", help="go on from RUN's newest checkpoint")
    parser.add_argument("--init", type=Path, metavar="RUN", help="run or model to start from")
    names = "separated by commas, or none; default: all that the preset or --init can use"
    parser.add_argument("--cameras", type=name_list, metavar="A,B", help=names)
    parser.add_argument("--vectors", type=name_list, metavar="A,B", help=names)
    parser.add_argument(
        "--image-size",
        type=image_size,
        metavar="S or HxW",
        help="pixels; default: the data's or less",
    )
    parser.add_argument(
        "--frame-skip",
        type=int,
        metavar="N",
        default=1,
        help="steps of the data in one of the model",
    )
    parser.add_argument(
        "--held-out", type=float, metavar="X", default=0.1, help="share of episodes not trained on"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="default: the preset's")
    parser.add_argument("--tensorboard", action="store_true", help="also write TensorBoard events")
    parser.add_argument("--dry-run", action="store_true", help="show settings and sizes, and stop")
    return parser


def run_train(args: argparse.Namespace) -> None:
    """Run `train`.

    Raises:
        KeyboardInterrupt: If training was stopped before its end; all is saved.
    """
    from scd_wm.training.run import train_run

    summary = train_run(
        args.data,
        args.out,
        preset=args.preset,
        steps=args.steps,
        minutes=args.minutes,
        overrides=args.overrides,
        resume=args.resume,
        init=args.init,
        cameras=args.cameras,
        vectors=args.vectors,
        image_size=args.image_size,
        frame_skip=args.frame_skip,
        tensorboard=args.tensorboard,
        dry_run=args.dry_run,
        seed=args.seed,
        held_out=args.held_out,
    )
    if args.dry_run:
        return
    if os.environ.get("RANK", "0") == "0":  # one of the processes of a launcher
        show_table(f"trained {args.out}", plain_rows(summary))
    if not summary["finished"]:
        raise KeyboardInterrupt


def _add_run_and_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder or exported model")
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        nargs="?",
        help="data set; default: that of training, of which only held-out episodes are used",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="folder to write; replaced if there"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of clips and noise")
    parser.add_argument("--history", type=int, metavar="N", default=4, help="real frames given")
    parser.add_argument(
        "--num-steps", type=int, metavar="N", help="sampler steps of a frame; default: the model's"
    )


def add_imagine(commands: Commands) -> argparse.ArgumentParser:
    """Declare `imagine`."""
    what = "Imagine how clips of a data set go on; write videos and arrays."
    parser = _command(commands, "imagine", what, run_imagine)
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
    summary = imagine_run(args.run, args.data, args.out, config=config, num_steps=args.num_steps)
    show_table(f"imagined {args.out}", plain_rows(summary))


def add_evaluate(commands: Commands) -> argparse.ArgumentParser:
    """Declare `evaluate`."""
    what = "Measure what a run imagines beside null models; write a report to open in a browser."
    parser = _command(commands, "evaluate", what, run_evaluate)
    _add_run_and_data(parser)
    parser.add_argument("--clips", type=int, metavar="N", default=64, help="clips to imagine")
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
    return parser


def run_evaluate(args: argparse.Namespace) -> None:
    """Run `evaluate`."""
    from scd_wm.evaluate_run import evaluate_run
    from scd_wm.evaluation.evaluate import EvaluationConfig

    config = EvaluationConfig(
        num_clips=args.clips, history=args.history, horizons=args.horizons, seed=args.seed
    )
    summary = evaluate_run(
        args.run,
        args.data,
        args.out,
        config=config,
        num_steps=args.num_steps,
        tracked_colours=tuple(args.track or ()),
    )
    shown = ("report", "num_clips", "num_episodes", "duration_s")
    show_table(f"evaluated {args.run}", [(name, summary[name]) for name in shown])


def add_demo(commands: Commands) -> argparse.ArgumentParser:
    """Declare `demo`."""
    what = "Collect data, train, fine-tune the shipped model, evaluate, and write one report."
    parser = _command(commands, "demo", what, run_demo)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("outputs/demo"), help="folder to write"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        default=1.2,
        help="training of each world model of images",
    )
    return parser


def run_demo(args: argparse.Namespace) -> None:
    """Run `demo`."""
    from scd_wm.demo import demo

    show_table(f"demo in {args.out}", plain_rows(demo(args.out, minutes=args.minutes)))


COMMANDS = (add_collect, add_inspect, add_train, add_imagine, add_evaluate, add_demo)
