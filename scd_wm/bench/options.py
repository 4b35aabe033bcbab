"""What all measurements of models have in common, and where their result goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from scd_wm.model.engine import ENGINES

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How to measure.

    Raises:
        ValueError: If a value is outside what its comment allows, or there is no such device.
    """

    device: str = "cpu"  # or "cuda"
    dtype: str = "float32"  # or "bfloat16", of weights and activations
    threads: int = 1  # of torch
    rounds: int = 5  # in which every contestant has a turn
    turn_s: float = 1.0  # seconds of a turn, at least
    peak_turn_s: float = 0.05  # the same for a matrix product of the machine's peak
    engine: str = "auto"  # of imagination, see scd_wm.model.engine; training is plain or "compile"
    profiles: bool = False  # also say where the time goes

    def __post_init__(self) -> None:
        check_at_least_1(self, "threads", "rounds")
        for name in ("turn_s", "peak_turn_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {tuple(DTYPES)}, got {self.dtype!r}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {ENGINES}, got {self.engine!r}")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, got {self.device!r}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is cuda, but torch finds no CUDA GPU; use --device cpu")

    @property
    def compiles(self) -> bool:
        """Whether torch compiles what runs at every sampler step."""
        return self.engine == "compile"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype by its torch name."""
        return DTYPES[self.dtype]


def check_at_least_1(config: object, *names: str) -> None:
    """Raise ValueError unless fields of a configuration are 1 or more."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be 1 or more, got {getattr(config, name)}")


def check_out(out: str | Path | None) -> None:
    """Make the folder of a result's file, so that work is not lost at its end.

    Raises:
        IsADirectoryError, OSError: If no file can be written there.
    """
    if out is None:
        return
    if Path(out).is_dir():
        raise IsADirectoryError(f"{out} is a folder; --out takes the name of a JSON file")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
