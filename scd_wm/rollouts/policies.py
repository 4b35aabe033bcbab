"""Policies by what a user calls them: a checkpoint, a name, or a function of their own."""

from __future__ import annotations

import inspect
from pathlib import Path

import gymnasium as gym

from scd_wm.named_object import load_named
from scd_wm.policies.batched import EachAlone, FromFunction, OneAtATime, SingleEnvPolicy
from scd_wm.policies.protocol import BatchedPolicy, Policy
from scd_wm.policies.registry import POLICIES, make_policy
from scd_wm.policies.robomimic_policy import RobomimicPolicy

READ_THE_SIMULATOR = ("expert", "scripted")
KINDS = f"a checkpoint of robomimic (.pth), one of {sorted(POLICIES)}, or module:function"


def load_policy(text: str, device: str) -> BatchedPolicy | None:
    """Return what a text names; None for a name of the registry, which needs an environment.

    Args:
        text: A path, a name, or "module:function". A function is called with tensors; what has
            `act` and `reset` is a `BatchedPolicy` as it is, and a class is called first. Either may
            return chunks.
        device: Where networks run and tensors are.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ModuleNotFoundError: If robomimic is needed and not installed.
        ValueError: If it is none of these.
    """
    if text in POLICIES:
        return None
    if ":" in text and not Path(text).exists():
        return _own(text, device)
    if Path(text).suffix in (".pth", ".pt", ".ckpt") or Path(text).is_file():
        return RobomimicPolicy.load(text, device)
    raise ValueError(f"no policy {text!r}; give {KINDS}")


def _own(text: str, device: str) -> BatchedPolicy:
    found = load_named(text, "policy")
    found = found() if inspect.isclass(found) else found
    if hasattr(found, "act") and hasattr(found, "reset"):
        return OneAtATime(found)
    if not callable(found):
        raise ValueError(f"policy {text!r} is a {type(found).__name__}, which cannot be called")
    return OneAtATime(FromFunction(found, device))


def check_can_imagine(text: str) -> None:
    """Raise ValueError if a policy reads the simulator, which imagination has not."""
    if text in READ_THE_SIMULATOR:
        raise ValueError(
            f"the policy {text!r} reads the simulator, which is not there in imagination; distil "
            "it first: scd-wm collect ENV --policy expert --out DATA, then scd-wm train-policy "
            "DATA --out POLICY.pth"
        )


def for_one(text: str, loaded: BatchedPolicy | None, env: gym.Env) -> Policy:
    """Return a policy for one environment."""
    return make_policy(text, env) if loaded is None else SingleEnvPolicy(loaded)


def for_many(text: str, loaded: BatchedPolicy | None, env: gym.Env, count: int) -> BatchedPolicy:
    """Return a policy for `count` environments that are like `env`."""
    if loaded is not None:
        return loaded
    return EachAlone([make_policy(text, env) for _ in range(count)])
