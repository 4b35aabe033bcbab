"""The commands that act in a world model: `plan` and `play`."""

from __future__ import annotations

import argparse
from pathlib import Path

from scd_wm.commands.base import Commands, command
from scd_wm.console import name_list, plain_rows, show_table

ENGINES = ("auto", "plain", "packed", "compile")  # of scd_wm.model.engine, which needs torch
PLANNERS = ("cem", "icem", "mppi", "prior")  # of scd_wm.planning.run, which needs torch


def add_plan(commands: Commands) -> argparse.ArgumentParser:
    """Declare `plan`."""
    what = "Plan in a world model and act in a simulator, beside other policies."
    parser = command(commands, "plan", what, run_plan)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder or exported model")
    parser.add_argument("env", metavar="ENV", help="Gymnasium id, such as scd_wm/PushT-v0")
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="settings of the planners, such as horizon=8; icem.shrink=1 is of one alone",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write")
    parser.add_argument(
        "--goal",
        default="success",
        help="success, reward, VECTOR=1,2, VECTOR[0:2]=1,2, CAMERA=picture.png, "
        "features=picture.png, module:function, or a sum such as '2*success + VECTOR=1,2'",
    )
    parser.add_argument(
        "--planner",
        type=name_list,
        metavar="NAMES",
        default="icem",
        help=f"who searches, of {','.join(PLANNERS)}; each of several plays all episodes",
    )
    parser.add_argument(
        "--prior",
        metavar="POLICY",
        help="a policy whose actions the planner `prior` imagines and ranks: a checkpoint of "
        "robomimic or module:function",
    )
    parser.add_argument("--episodes", type=int, metavar="N", default=20, help="of each policy")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the first episode")
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help="of an episode; default: the environment's limit"
    )
    parser.add_argument(
        "--action-repeat", type=int, metavar="N", default=1, help="frames an action is held"
    )
    parser.add_argument(
        "--execute", type=int, metavar="N", default=1, help="actions taken of a plan"
    )
    parser.add_argument(
        "--num-steps", type=int, metavar="N", help="sampler steps of a frame; default: the model's"
    )
    parser.add_argument(
        "--final-weight", type=float, metavar="X", default=1.0, help="of the last frame's cost"
    )
    parser.add_argument(
        "--pessimism",
        type=float,
        metavar="X",
        default=0.0,
        help="cost of a frame wholly off the model's data, in units of the goal; needs a RUN that "
        "scd-wm calibrate has seen",
    )
    parser.add_argument(
        "--stop-at",
        type=float,
        metavar="U",
        default=1.0,
        help="uncertainty, 0 to 1, above which the rest of a plan is not believed; needs the same",
    )
    parser.add_argument("--videos", type=int, metavar="N", default=2, help="episodes to film")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="how the model is run")
    return parser


def run_plan(args: argparse.Namespace) -> None:
    """Run `plan`."""
    from scd_wm.planning.run import PlanConfig, plan_run, table
    from scd_wm.policies.mpc import MPCConfig

    config = PlanConfig(
        goal=args.goal,
        planners=args.planner,
        prior=args.prior,
        settings=dict(_setting(text) for text in args.overrides),
        mpc=MPCConfig(
            action_repeat=args.action_repeat,
            execute=args.execute,
            num_steps=args.num_steps,
            final_weight=args.final_weight,
            pessimism=args.pessimism,
            stop_at=args.stop_at,
        ),
        episodes=args.episodes,
        seed=args.seed,
        max_steps=args.max_steps,
        videos=args.videos,
        engine=args.engine,
    )
    summary = plan_run(args.run, args.env, args.out, config)
    print("\n".join(("", *table(summary))))
    show_table(
        f"planned {args.out}",
        [
            ("goal", args.goal),
            ("seeds", f"{summary['seeds'][0]} to {summary['seeds'][-1]}"),
            ("starts refused", len(summary["seeds_refused"])),
        ],
    )


def add_play(commands: Commands) -> argparse.ArgumentParser:
    """Declare `play`."""
    what = "Drive a world model in the browser, by keyboard and mouse; a page on this machine only."
    parser = command(commands, "play", what, run_play)
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="run folder, exported model, or a shipped one's name"
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        nargs="?",
        help="data set to begin from; default: held-out episodes of that of training, for a "
        "shipped model fresh episodes of its environment",
    )
    parser.add_argument("--port", type=int, metavar="N", default=8642, help="0 takes a free one")
    parser.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page in the browser",
    )
    parser.add_argument(
        "--no-data", action="store_true", help="begin from nothing: the model draws the first frame"
    )
    parser.add_argument("--history", type=int, metavar="N", default=4, help="real frames given")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the first noise")
    return parser


def run_play(args: argparse.Namespace) -> None:
    """Run `play`."""
    from scd_wm.play.run import PlayConfig, play_run

    config = PlayConfig(
        port=args.port,
        open_browser=args.open,
        no_data=args.no_data,
        history=args.history,
        seed=args.seed,
    )
    played = play_run(args.run, args.data, config)
    show_table(f"played {args.run}", plain_rows(played))


def _setting(text: str) -> tuple[str, int | float]:
    """Return name and number of a setting.

    Raises:
        ValueError: If it is none.
    """
    name, equals, value = text.partition("=")
    try:
        number = float(value) if equals else float("nan")
    except ValueError:
        number = float("nan")
    if number != number:
        raise ValueError(f"a setting of the planner is name=number, got {text!r}")
    return name, int(number) if number == int(number) and "." not in value else number
