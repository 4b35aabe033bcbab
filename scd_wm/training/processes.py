"""The processes of a run: whether all that were asked for are there, and means over them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from accelerate import Accelerator

from scd_wm.model.losses import Average

# One of them is set by whatever starts several processes: torchrun, MPI and its kin.
_WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def check_launch(environment: Mapping[str, str], command: Sequence[str]) -> None:
    """Raise ValueError where `accelerate launch` was asked for several processes and started one.

    On CPUs it does so without a word. What tells is that it names an address for the processes to
    meet at, which it does for several only, but not how many there are.

    Args:
        environment: Variables of this process.
        command: The command line of this process, the interpreter first.
    """
    is_accelerate = "ACCELERATE_MIXED_PRECISION" in environment  # it always sets this one
    is_one = not any(name in environment for name in _WORLD_SIZES)
    if is_accelerate and is_one and "MASTER_ADDR" in environment:
        again = shlex.join(["torchrun", "--standalone", "--nproc-per-node", "2", *command[1:]])
        raise ValueError(
            "accelerate launch was asked for several processes and started only this one, as it "
            f"does on CPUs; for two: ACCELERATE_USE_CPU=true {again} (if one is meant, unset "
            "MASTER_ADDR)"
        )


def check_own_launch() -> None:
    """Do `check_launch` for this process."""
    check_launch(os.environ, sys.orig_argv)


def average_over(accelerator: Accelerator) -> Average | None:
    """Return what takes means over all processes; None where there is one."""
    if accelerator.num_processes == 1:
        return None
    return partial(accelerator.reduce, reduction="mean")
