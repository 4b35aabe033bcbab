"""The policies that are compared, by what a user calls them: `[NAME=]POLICY[@noise=X]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym

from scd_wm.policies.action_noise import ActionNoise
from scd_wm.policies.batched import SingleEnvPolicy, check_policy
from scd_wm.policies.protocol import BatchedPolicy, Policy
from scd_wm.rollouts.policies import check_can_imagine, for_many, for_one, load_policy

NOISE = re.compile(r"(?P<rest>.+)@noise=(?P<noise>[^@]*)")
NAMED = re.compile(r"(?P<name>[^=/\\:@]+)=(?P<rest>.+)")


@dataclass(frozen=True, kw_only=True)
class PolicyText:
    """What a user said of a policy."""

    name: str  # in tables and plots
    policy: str  # what `scd-wm rollout` takes
    noise: float  # on its actions, see `ActionNoise`


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A policy that can act in both worlds."""

    said: PolicyText
    loaded: BatchedPolicy | None  # None for one of the registry

    def alone(self, env: gym.Env) -> Policy:
        """Return it for one environment."""
        if not self.said.noise:
            return for_one(self.said.policy, self.loaded, env)
        return SingleEnvPolicy(self.together(env, 1))

    def together(self, env: gym.Env, count: int) -> BatchedPolicy:
        """Return it for `count` environments that are like `env`."""
        policy = for_many(self.said.policy, self.loaded, env, count)
        if not self.said.noise:
            return policy
        return ActionNoise(policy, self.said.noise, env.action_space)

    def check(self, env: gym.Env) -> None:
        """Raise ValueError, naming the policy, where it does not fit an environment's spaces."""
        try:
            if self.loaded is not None:
                check_policy(self.loaded, env.observation_space, env.action_space)
            self.together(env, 1)
        except ValueError as error:
            raise ValueError(f"policy {self.said.name!r}: {error}") from None


def parse_policies(texts: Sequence[str]) -> list[PolicyText]:
    """Return what is said of policies.

    Args:
        texts: Such as "best=bc.pth", "bc.pth@noise=0.3" or "random". Without a name it is called by
            the text, a checkpoint by its file's name.

    Raises:
        ValueError: If there are fewer than two, two have a name, a noise is no number of 0 or more,
            or one reads the simulator.
    """
    said = [_parse(text) for text in texts]
    if len(said) < 2:
        raise ValueError(f"a ranking is of 2 policies or more, got {[p.name for p in said]}")
    names = [p.name for p in said]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several policies are called {twice}; put a name in front: NAME=POLICY")
    for one in said:
        check_can_imagine(one.policy)
    return said


def load_contestants(said: Sequence[PolicyText], device: str) -> list[Contestant]:
    """Load policies; each file once.

    Raises:
        FileNotFoundError, ModuleNotFoundError, ValueError: As `load_policy`.
    """
    loaded = {text: load_policy(text, device) for text in dict.fromkeys(p.policy for p in said)}
    return [Contestant(said=p, loaded=loaded[p.policy]) for p in said]


def _parse(text: str) -> PolicyText:
    rest, noise = text, 0.0
    if (found := NOISE.fullmatch(text)) is not None:
        rest, noise = found["rest"], _noise(found["noise"], text)
    elif "@" in text and not Path(text).exists():
        raise ValueError(f"policy {text!r}: after @ comes noise=X, such as bc.pth@noise=0.3")
    name = None
    if not Path(rest).exists() and (found := NAMED.fullmatch(rest)) is not None:
        name, rest = found["name"], found["rest"]
    suffix = f"@noise={noise:g}" if noise else ""
    called = rest if ":" in rest else Path(rest).stem
    return PolicyText(name=name or called + suffix, policy=rest, noise=noise)


def _noise(number: str, text: str) -> float:
    try:
        noise = float(number)
    except ValueError:
        noise = -1.0
    if not 0 <= noise < float("inf"):
        raise ValueError(f"policy {text!r}: noise must be a number of 0 or more, got {number!r}")
    return noise
