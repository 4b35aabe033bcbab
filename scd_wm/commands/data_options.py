"""The arguments by which commands choose what they use of a data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scd_wm.console import image_size, name_list

if TYPE_CHECKING:
    from scd_wm.datasets.options import DataOptions


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    group = parser.add_argument_group("what to use of the data")
    names = "names or patterns such as '*_image', separated by commas, or none; default: all"
    group.add_argument("--cameras", type=name_list, metavar="A,B", help=names)
    group.add_argument("--vectors", type=name_list, metavar="A,B", help=names)
    group.add_argument(
        "--rename",
        type=_renaming,
        metavar="OLD=NEW",
        action="append",
        default=[],
        help="call a key by another name, here and in all other arguments; may be repeated",
    )
    group.add_argument(
        "--image-size",
        type=image_size,
        metavar="S or HxW",
        help="pixels; default: the data's or less",
    )
    group.add_argument(
        "--crop",
        type=_crop,
        metavar="CROP",
        action="append",
        default=[],
        help="cut out before resizing: center, or TOP,LEFT,HEIGHT,WIDTH; CAMERA=... for one of "
        "several, repeated",
    )
    group.add_argument(
        "--frame-skip",
        type=int,
        metavar="N",
        default=1,
        help="steps of the data in one of the model",
    )
    group.add_argument(
        "--action-mode",
        type=_action_mode,
        metavar="MODE",
        default="stack",
        help="the action of several steps: stack (all of them), last (positions), sum "
        "(differences), mean (velocities), or one of the last three for each value, as in "
        "sum*6,last",
    )
    group.add_argument("--only-success", action="store_true", help="only episodes that succeed")
    group.add_argument("--mask", metavar="NAME", help="only episodes of this subset in the data")


def data_options(args: argparse.Namespace) -> DataOptions:
    """Return what the arguments say.

    Raises:
        ValueError: If a value is out of range.
    """
    from scd_wm.datasets.options import (
        DataOptions,  # needs NumPy and torch, which help does without
    )

    crops, names = dict(args.crop), dict(args.rename)
    if len(crops) < len(args.crop) or (None in crops and len(crops) > 1):
        raise ValueError(
            "--crop without a camera is for all; say CAMERA=... once for each, or once"
        )
    if len(names) < len(args.rename):
        raise ValueError("--rename gives a key two names; say OLD=NEW once for each key")
    return DataOptions(
        cameras=args.cameras,
        vectors=args.vectors,
        rename=names,
        image_size=args.image_size,
        crop=crops.get(None, crops or None),
        frame_skip=args.frame_skip,
        action_mode=args.action_mode,
        only_success=args.only_success,
        mask=args.mask,
    )


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"must be OLD=NEW, got {text!r}")
    return old, new


def _crop(text: str) -> tuple[str | None, str | tuple[int, ...]]:
    """Return a camera, or None for all, and its crop."""
    camera, _, crop = text.rpartition("=")
    if crop == "center":
        return camera or None, crop
    numbers = crop.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(
            f"must be center or TOP,LEFT,HEIGHT,WIDTH in pixels, got {crop!r}"
        )
    return camera or None, tuple(int(number) for number in numbers)


def _action_mode(text: str) -> str | tuple[str, ...]:
    """Return one mode, or one for each value of an action: "sum*6,last" is six and one."""
    parts: list[str] = []
    for part in text.split(","):
        mode, _, count = part.strip().partition("*")
        if count and not count.isdecimal():
            raise argparse.ArgumentTypeError(f"must be MODE or MODE*COUNT, got {part!r}")
        parts += [mode] * int(count or 1)
    is_one = len(parts) == 1 and "*" not in text
    return parts[0] if is_one else tuple(parts)
