"""What a rollout may begin with: a history, nothing, or what an environment shows.

Axes: B batch (one rollout a row).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from scd_wm.clip import Clip
from scd_wm.spec import Spec


def start_frame(spec: Spec, batch: int) -> Clip:
    """Return a history of no frames: the learned start token, for `batch` rollouts."""
    dtypes = {"pixels": torch.uint8, "latent": torch.float32}
    names = (*spec.observation_names, *spec.outcomes)
    return Clip(
        images={
            k: torch.zeros(batch, 1, c.height, c.width, c.channels, dtype=dtypes[c.kind])
            for k, c in spec.cameras.items()
        },
        vectors={k: torch.zeros(batch, 1, v.dim) for k, v in spec.vectors.items()},
        outcome={k: torch.zeros(batch, 1) for k in spec.outcomes},
        actions=torch.zeros(batch, 0, spec.action.dim),
        valid={k: torch.zeros(batch, 1, dtype=torch.bool) for k in names},
        action_valid=torch.zeros(batch, 0, dtype=torch.bool),
    )


def observed(spec: Spec, observation: Mapping[str, Tensor]) -> Clip:
    """Return observations with axis B in front, as an environment gives them, as clips of 1 frame.

    Entries that the model does not know are left out.

    Raises:
        ValueError: If one is missing that the model reads, or it has another size.
    """
    missing = [name for name in spec.observation_names if name not in observation]
    if missing:
        raise ValueError(f"the observation lacks {missing}; it has {sorted(observation)}")
    batch = len(observation[spec.observation_names[0]])
    nothing = start_frame(spec, batch)
    frame = replace(
        nothing,
        images={k: observation[k][:, None] for k in spec.cameras},
        vectors={k: observation[k][:, None].float() for k in spec.vectors},
        valid={
            k: v.logical_not() if k not in spec.outcomes else v for k, v in nothing.valid.items()
        },
    )
    check_history(spec, frame)
    return frame


def check_history(spec: Spec, history: Clip) -> None:
    """Raise if a batched `history` does not hold what `spec` names, at its sizes."""
    shapes = {k: tuple(v.shape[2:]) for k, v in {**history.images, **history.vectors}.items()}
    wanted: dict[str, tuple[int, ...]] = {k: (v.dim,) for k, v in spec.vectors.items()}
    wanted |= {k: (c.height, c.width, c.channels) for k, c in spec.cameras.items()}
    for name, shape in wanted.items():
        if name not in shapes:
            raise ValueError(f"history has no {name!r}; it has {sorted(shapes)}")
        if shapes[name] != shape:
            raise ValueError(f"{name!r} in history is {shapes[name]}, the model reads {shape}")
    if history.actions.shape[-1] != spec.action.dim:
        raise ValueError(
            f"actions in history have {history.actions.shape[-1]} values, "
            f"the model reads {spec.action.dim}"
        )
