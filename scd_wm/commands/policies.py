"""The commands about policies: `train-policy`, `rollout` and `evaluate-policies`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.commands.data_options import add_data_options, data_options
from scd_wm.console import plain_rows, show_table, write_summary

ALGOS = ("bc", "bc-rnn", "bc-transformer")  # of cloning.config, which needs the data's modules
BACKBONES = ("shallow", "resnet18")
ENGINES = ("scd_wm", "robomimic")


def add_train_policy(commands: Commands) -> argparse.ArgumentParser:
    """Declare `train-policy`."""
    what = "Train a policy by robomimic's behaviour cloning; the summary goes beside it."
    parser = command(commands, "train-policy", what, run_train_policy)
    parser.add_argument("data", metavar="DATA", type=Path, help="data set of any known format")
    parser.add_argument(
        "--out", type=Path, metavar="CKPT", required=True, help="checkpoint to write, such as x.pth"
    )
    parser.add_argument("--algo", choices=ALGOS, default="bc", help="an MLP, RNN or transformer")
    parser.add_argument(
        "--gmm", action="store_true", help="a mixture of Gaussians in place of one action"
    )
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument(
        "--steps", type=int, metavar="N", help="default: 3000; 2000 of an RNN or transformer"
    )
    limit.add_argument("--epochs", type=float, metavar="X", help="times through the data")
    limit.add_argument("--minutes", type=float, metavar="M", help="of training")
    parser.add_argument(
        "--episodes", type=int, metavar="N", help="only the first so many; default: all"
    )
    parser.add_argument(
        "--held-out",
        type=float,
        metavar="X",
        default=0.0,
        help="share of episodes not trained on, to report the loss on; it chooses no checkpoint",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", default=100, help="sequences")
    parser.add_argument(
        "--learning-rate", type=float, metavar="X", default=1e-3, help="at first; falls to 0"
    )
    parser.add_argument("--hidden", type=int, metavar="N", default=400, help="width of MLP or RNN")
    parser.add_argument("--backbone", choices=BACKBONES, default="shallow", help="of images")
    parser.add_argument(
        "--random-crop", type=int, metavar="S", help="side of random crops of images; default: none"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of all that is random")
    parser.add_argument("--overwrite", action="store_true", help="replace CKPT if it is there")
    add_data_options(parser)
    return parser


def run_train_policy(args: argparse.Namespace) -> None:
    """Run `train-policy`."""
    from scd_wm.cloning.config import PolicyConfig
    from scd_wm.cloning.run import train_policy

    config = PolicyConfig(
        algo=args.algo,
        gmm=args.gmm,
        steps=args.steps,
        epochs=args.epochs,
        minutes=args.minutes,
        episodes=args.episodes,
        held_out=args.held_out,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        hidden=args.hidden,
        backbone=args.backbone,
        crop=args.random_crop,
        seed=args.seed,
    )
    summary = train_policy(
        args.data, args.out, config, options=data_options(args), overwrite=args.overwrite
    )
    write_summary(args.out.with_suffix(".summary.json"), summary)
    show_table(f"trained {args.out}", plain_rows(summary))


def add_rollout(commands: Commands) -> argparse.ArgumentParser:
    """Declare `rollout`."""
    what = "Roll a policy out in a simulator, or in what a world model imagines."
    parser = command(commands, "rollout", what, run_rollout)
    parser.add_argument(
        "policy",
        metavar="POLICY",
        help="checkpoint of robomimic (.pth), expert, scripted, random, zero, or module:function",
    )
    parser.add_argument(
        "world",
        metavar="WORLD",
        help="Gymnasium id, such as scd_wm/Lift-v0; or run folder or shipped model: imagination",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write")
    parser.add_argument("--episodes", type=int, metavar="N", default=50, help="how many")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the first episode")
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help="of an episode; default: the environment's limit"
    )
    parser.add_argument("--videos", type=int, metavar="N", default=4, help="episodes to film")
    parser.add_argument(
        "--engine", choices=ENGINES, default="scd_wm", help="whose loop; both come to the same"
    )
    group = parser.add_argument_group("in imagination")
    group.add_argument(
        "--data", type=Path, metavar="DATA", help="where starts are; default: the run's held-out"
    )
    group.add_argument(
        "--history", type=int, metavar="N", default=1, help="real frames before an episode"
    )
    group.add_argument(
        "--num-steps", type=int, metavar="N", help="sampler steps of a frame; default: the model's"
    )
    return parser


def run_rollout(args: argparse.Namespace) -> None:
    """Run `rollout`."""
    from scd_wm.rollouts.run import RolloutConfig, rollout_run, table

    config = RolloutConfig(
        episodes=args.episodes,
        seed=args.seed,
        max_steps=args.max_steps,
        engine=args.engine,
        videos=args.videos,
        data=args.data,
        history=args.history,
        num_steps=args.num_steps,
    )
    summary = rollout_run(args.policy, args.world, args.out, config)
    show_table(f"rolled out {args.policy} in {args.world}: {args.out}", table(summary))


def add_evaluate_policies(commands: Commands) -> argparse.ArgumentParser:
    """Declare `evaluate-policies`."""
    what = "Does a world model rank policies as a simulator, or a table of real results, does?"
    parser = command(commands, "evaluate-policies", what, run_evaluate_policies)
    parser.add_argument("run", metavar="RUN", help="run folder or shipped model: imagination")
    parser.add_argument(
        "env",
        metavar="ENV",
        nargs="?",
        help="Gymnasium id, such as scd_wm/PushT-v0: the simulator; with --real its starts alone",
    )
    parser.add_argument(
        "--policies",
        metavar="POLICY",
        nargs="+",
        required=True,
        help="two or more, [NAME=]POLICY[@noise=X]: checkpoint of robomimic (.pth), random, zero, "
        "or module:function; X is the deviation of noise on its actions, in halves of their range",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write")
    parser.add_argument(
        "--episodes", type=int, metavar="N", default=50, help="of each policy, at most"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the first episode")
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help="of an episode; default: the environment's limit"
    )
    parser.add_argument(
        "--num-steps", type=int, metavar="N", help="sampler steps of a frame; default: the model's"
    )
    parser.add_argument(
        "--real",
        type=Path,
        metavar="TABLE",
        help="CSV of real results in place of the simulator: policy, start (or seed), success, and "
        "return if it is known",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="without ENV: recording of the table's starts"
    )
    parser.add_argument(
        "--classifier",
        type=Path,
        metavar="DIR",
        help="of `scd-wm train-success`: a second opinion on success in imagined frames",
    )
    parser.add_argument(
        "--off-data",
        type=float,
        metavar="X",
        default=0.99,
        help="uncertainty above which an imagined episode has left the data",
    )
    parser.add_argument(
        "--off-data-frames", type=int, metavar="N", default=3, help="that are so in a row"
    )
    parser.add_argument(
        "--at-once", type=int, metavar="N", default=25, help="episodes imagined in one batch"
    )
    parser.add_argument(
        "--videos", type=int, metavar="N", default=1, help="of each kind for each policy"
    )
    parser.add_argument("--resamples", type=int, metavar="N", default=2000, help="of the bootstrap")
    return parser


def run_evaluate_policies(args: argparse.Namespace) -> None:
    """Run `evaluate-policies`."""
    from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
    from scd_wm.policy_evaluation.run import evaluate_policies, table

    config = PolicyEvaluationConfig(
        episodes=args.episodes,
        seed=args.seed,
        max_steps=args.max_steps,
        num_steps=args.num_steps,
        real=args.real,
        data=args.data,
        classifier=args.classifier,
        off_data=args.off_data,
        off_data_frames=args.off_data_frames,
        at_once=args.at_once,
        videos=args.videos,
        resamples=args.resamples,
    )
    summary = evaluate_policies(args.run, args.env, args.policies, args.out, config)
    if os.environ.get("RANK", "0") == "0":  # one of the processes of a launcher
        print("\n".join(("", *table(summary))))
        show_table(f"evaluated policies in {args.run}", [("report", summary["report"])])
