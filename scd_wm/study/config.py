"""What a study compares, on which worlds, and how long it trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scd_wm.datasets.options import DataOptions


@dataclass(frozen=True)
class Arm:
    """What an arm changes in a world's preset."""

    changes: tuple[str, ...] = ()  # "key=value"
    to_encoder: int = 0  # layers that the encoder gets from the decoder; below 0 the other way


ARCHITECTURES: Mapping[str, Arm] = {
    "prefix": Arm(("arch=scd", "context_mode=prefix")),
    "token_concat": Arm(("arch=scd", "context_mode=token_concat")),
    "entangled": Arm(("arch=entangled",)),
    "entangled_one_copy": Arm(("arch=entangled", "one_copy=true", "vector_noise=value")),
}
"""All have the preset's width and number of layers, so about as many parameters."""

ABLATIONS: Mapping[str, Arm] = {
    "deeper_encoder": Arm(to_encoder=1),
    "deeper_decoder": Arm(to_encoder=-1),
    "no_interface_noise": Arm(("interface_noise=0",)),
    "more_interface_noise": Arm(("interface_noise=0.2",)),
    "four_draws": Arm(("draws=4",)),
    "no_own_history": Arm(("self_rollouts=0",)),
    "change_noise": Arm(("vector_noise=change",)),
    "history_noise": Arm(("history_noise=0.5",)),
    "no_residual": Arm(("residual=false",)),
    "velocity": Arm(("prediction=velocity", "residual=false")),
}
"""The preset with one thing changed."""

ARMS: Mapping[str, Arm] = {**ARCHITECTURES, **ABLATIONS}
REFERENCE = "prefix"  # the arm whose steps a world states; others train for the same operations


@dataclass(frozen=True)
class Recording:
    """Episodes of a data set that one policy recorded."""

    policy: str
    noise: float | None  # of the policy; None takes its default
    share: float  # of the world's episodes


@dataclass(frozen=True)
class World:
    """An environment, what is recorded there and how the reference is trained on it."""

    env_id: str
    preset: str
    episodes: int
    steps: int  # of the reference
    recordings: tuple[Recording, ...]
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()  # "key=value", in the preset


GIVEN_PRESET, GIVEN_STEPS = "tiny", 800  # of the reference on data that is given

_PUSHES = (Recording("scripted", None, 1.0),)
# Success alone teaches a model that the cube always follows: most of these attempts fail.
_LIFTS = (
    Recording("expert", 0.1, 0.2),
    Recording("expert", 0.3, 0.3),
    Recording("expert", 0.5, 0.2),
    Recording("expert", 0.8, 0.2),
    Recording("random", None, 0.1),
)
# What follows from a history of the model's own is not what was recorded, where there is chance.
# One step from noise to frame gives a mean, so that most of training is on others; and they are
# steps of the change, beside which chance is not small.
_CHANCE = ("self_rollouts=0", "full_noise_fraction=0.2", "draws=2", "vector_noise=change")
WORLDS: Mapping[str, World] = {
    "push_t_state": World("scd_wm/PushTState-v0", "state", 240, 2_000, _PUSHES),
    "push_t_state_chance": World(
        "scd_wm/PushTState-v0",
        "state",
        240,
        2_000,
        _PUSHES,
        env_kwargs={"disturbance": 0.01},  # m, a third of the farthest step
        changes=_CHANCE,
    ),
    "push_t": World("scd_wm/PushT-v0", "tiny", 150, 2_400, _PUSHES),
    "lift": World("scd_wm/Lift-v0", "tiny", 150, 500, _LIFTS),
}


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Which runs a study makes, and how they are measured.

    Raises:
        ValueError: If a name is unknown or a number out of range.
    """

    worlds: tuple[str, ...] = ("push_t", "lift")  # of WORLDS, and names of `data`
    data: Mapping[str, Path] = field(default_factory=dict)  # name: a data set of the user's
    options: DataOptions = field(default_factory=DataOptions)  # what to use of those data sets
    arms: tuple[str, ...] = ("prefix", "token_concat", "entangled")
    seeds: tuple[int, ...] = (0, 1)
    scale: float = 1.0  # of training: 2 is twice the steps of every run
    data_scale: float = 1.0  # of the episodes recorded
    sampler_steps: tuple[int, ...] = (1, 4)  # T, at each of which a run is measured
    horizons: tuple[int, ...] = (1, 4, 8, 16)  # imagined frames; the last measured is the table's
    num_clips: int = 64  # imagined for the numbers
    num_futures: int = 1  # of each clip; 2 or more give energy scores
    overrides: tuple[str, ...] = ()  # "key=value" for every run

    def __post_init__(self) -> None:
        if taken := {*self.data} & {*WORLDS}:
            raise ValueError(f"data needs a name of its own, {sorted(taken)} is a world's")
        for name, given, known in (
            ("worlds", self.worlds, (*WORLDS, *self.data)),
            ("arms", self.arms, (*ARMS,)),
        ):
            if not given or not {*given} <= {*known}:
                raise ValueError(f"{name} must be some of {list(known)}, got {list(given)}")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds must be numbers from 0 on, got {list(self.seeds)}")
        if not self.sampler_steps or min(self.sampler_steps) < 1:
            raise ValueError(f"sampler_steps must be 1 or more, got {list(self.sampler_steps)}")
        for name in ("worlds", "arms", "seeds", "sampler_steps", "horizons"):
            given = getattr(self, name)
            if len({*given}) < len(given):  # one run would be trained twice, at the same time too
                raise ValueError(f"{name} must be different ones, got {list(given)}")
        for name in ("scale", "data_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not self.horizons or min(self.horizons) < 1:
            raise ValueError(f"horizons must be 1 or more, got {list(self.horizons)}")
        object.__setattr__(self, "horizons", tuple(sorted(self.horizons)))
        for name in ("num_clips", "num_futures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")

    def preset(self, world: str) -> str:
        """Return the recipe of a world."""
        return WORLDS[world].preset if world in WORLDS else GIVEN_PRESET

    def reference_steps(self, world: str) -> int:
        """Return the steps of the reference on a world."""
        steps = WORLDS[world].steps if world in WORLDS else GIVEN_STEPS
        return max(1, round(self.scale * steps))

    def to_json(self) -> dict[str, Any]:
        """Return everything in JSON types."""
        return {**asdict(self), "data": {name: str(path) for name, path in self.data.items()}}

    @property
    def runs(self) -> list[RunName]:
        """Return the runs to make; the first seed of everything comes first."""
        return [
            RunName(world, arm, seed)
            for seed in self.seeds
            for world in self.worlds
            for arm in self.arms
        ]


@dataclass(frozen=True)
class RunName:
    """One training run."""

    world: str
    arm: str
    seed: int

    @property
    def folder(self) -> str:
        """Return the name of its folder."""
        return f"{self.world}-{self.arm}-{self.seed}"
