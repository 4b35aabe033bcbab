"""Policies by name, for the command line.

To add one: a file in `policies/` and a line in `POLICIES`.
To add a scripted one or an expert for an environment: a line in `SCRIPTED` or `EXPERTS` instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym

from scd_wm.policies.planning_push_t import PlanningPushT
from scd_wm.policies.protocol import Policy
from scd_wm.policies.random_policy import RandomPolicy, ZeroPolicy
from scd_wm.policies.scripted_foreign import MetaWorldExpert, RobosuiteLiftExpert
from scd_wm.policies.scripted_lift import ScriptedLift
from scd_wm.policies.scripted_push_t import ScriptedPushT

_FOREIGN: dict[str, Callable[..., Policy]] = {
    "scd_wm/MetaWorld-v0": MetaWorldExpert,
    "scd_wm/MetaWorldState-v0": MetaWorldExpert,
    "scd_wm/RobosuiteLift-v0": RobosuiteLiftExpert,
    "scd_wm/RobosuiteLiftState-v0": RobosuiteLiftExpert,
}  # of other packages
SCRIPTED: dict[str, Callable[..., Policy]] = {
    **_FOREIGN,
    "scd_wm/PushT-v0": ScriptedPushT,
    "scd_wm/PushTState-v0": ScriptedPushT,
    "scd_wm/Lift-v0": ScriptedLift,
    "scd_wm/LiftState-v0": ScriptedLift,
}  # environment id: its scripted policy
EXPERTS: dict[str, Callable[..., Policy]] = {
    **_FOREIGN,
    "scd_wm/PushT-v0": PlanningPushT,
    "scd_wm/PushTState-v0": PlanningPushT,
    "scd_wm/Lift-v0": ScriptedLift,
    "scd_wm/LiftState-v0": ScriptedLift,
}  # environment id: a policy that nearly always succeeds


def make_scripted(env: gym.Env, **kwargs: Any) -> Policy:
    """Return the scripted policy of `env`: of PushT it explores, of Lift it is the expert.

    Raises:
        ValueError: If it has none, or an option is unknown.
    """
    return _build_for(env, "scripted", SCRIPTED, kwargs)


def make_expert(env: gym.Env, **kwargs: Any) -> Policy:
    """Return the policy of `env` that nearly always succeeds.

    Raises:
        ValueError: If it has none, or an option is unknown.
    """
    return _build_for(env, "expert", EXPERTS, kwargs)


POLICIES: dict[str, Callable[..., Policy]] = {
    "expert": make_expert,
    "random": RandomPolicy,
    "scripted": make_scripted,
    "zero": ZeroPolicy,
}


def make_policy(name: str, env: gym.Env, **kwargs: Any) -> Policy:
    """Return a policy for `env`.

    Args:
        name: A key of `POLICIES`.
        env: The environment that it will act in.
        **kwargs: Options of the policy, such as `noise` of scripted ones and experts.

    Raises:
        ValueError: If the name or an option is unknown, or the policy cannot act in `env`.
    """
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; there are {sorted(POLICIES)}")
    return _build(name, POLICIES[name], env, kwargs)


def _build_for(
    env: gym.Env, name: str, makers: dict[str, Callable[..., Policy]], kwargs: dict[str, Any]
) -> Policy:
    """Build the policy that `makers` has for `env`."""
    env_id = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    if env_id not in makers:
        raise ValueError(f"no {name} policy for {env_id!r}; there is one for {sorted(makers)}")
    return _build(name, makers[env_id], env, kwargs)


def _build(name: str, maker: Callable[..., Policy], env: gym.Env, kwargs: dict[str, Any]) -> Policy:
    """Call `maker`, after a check that it has the options of `kwargs`."""
    parameters = inspect.signature(maker).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    options = [key for key in parameters if key != "env"]
    unknown = [key for key in kwargs if key not in options]
    if unknown and not open_ended:
        raise ValueError(f"policy {name!r} has no option {unknown}; it has {options}")
    return maker(env, **kwargs)
