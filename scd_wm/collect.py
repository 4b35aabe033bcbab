"""Record episodes of a Gymnasium environment with a policy into a robomimic HDF5 file.

Axes: T steps of an episode.
"""

from __future__ import annotations

import contextlib
import difflib
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

import scd_wm
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.evaluation.rates import wilson_interval
from scd_wm.named_object import search_here
from scd_wm.policies.protocol import Policy
from scd_wm.policies.registry import POLICIES, make_policy
from scd_wm.progress import progress_bar

GYM_TYPE = 2  # robomimic's EnvType.GYM_TYPE
PACKAGES = ("gymnasium", "mujoco", "numpy")


@dataclass
class Episode:
    """What happened in one episode."""

    observations: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    success: list[bool] = field(default_factory=list)
    contact: list[bool] = field(default_factory=list)  # empty if the environment does not say
    states: list[np.ndarray] = field(default_factory=list)  # empty if the environment shows none
    tells_success: bool = False

    def add_observation(self, observation: Any) -> None:
        """Append an observation of a Dict or Box space."""
        for key, value in _named(observation).items():
            self.observations[key].append(value)

    def add_step(self, reward: float, terminated: bool, info: Mapping[str, Any]) -> None:
        """Append what a step returned beside the observation."""
        self.rewards.append(reward)
        self.terminated.append(terminated)
        success = info.get("success", info.get("is_success"))
        self.tells_success = self.tells_success or success is not None
        self.success.append(bool(success))
        if "contact" in info:
            self.contact.append(bool(info["contact"]))

    def arrays(self) -> dict[str, Any]:
        """Return the arguments of `RobomimicWriter.add_episode`."""
        return {
            "observations": {key: np.stack(rows) for key, rows in self.observations.items()},
            "actions": np.stack(self.actions),
            "rewards": np.array(self.rewards),
            "terminated": np.array(self.terminated),
            "success": np.array(self.success),
            "states": np.stack(self.states) if self.states else None,
        }


def collect(
    env_id: str,
    policy: str,
    episodes: int,
    out: str | Path,
    *,
    seed: int = 0,
    noise: float | None = None,
    max_steps: int | None = None,
    overwrite: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Record episodes: every observation, action, reward, termination and success.

    Observations of a Dict keep their names; an image of a Box is called "image", anything else
    "observation". Float64 becomes float32. A Discrete action is recorded as one-hot, a Box action
    as the policy gave it. An episode ends when the environment terminates or truncates it. Episode
    i is seeded with `seed` + i, so that a longer recording begins with the shorter one. The file
    appears when all is done: if anything goes wrong, or on Ctrl-C, none is left.

    Args:
        env_id: A registered environment, such as "scd_wm/PushT-v0" or "module:Name-v0".
        policy: A name in `scd_wm.policies.registry.POLICIES`, a checkpoint of robomimic, or
            "module:function".
        episodes: How many to record.
        out: The HDF5 file to write.
        seed: Seed of the first episode.
        noise: Of the policy, if it has such an option; None takes the policy's default.
        max_steps: Steps after which an episode is cut; None takes the environment's own limit.
        overwrite: Replace a file that exists.
        env_kwargs: Passed on to `gym.make`.

    Returns:
        A summary: "path", "size_mb", "episodes", "steps", "steps_per_second", "num_success",
        "success_rate" (None if the environment does not speak of success) with its 95 % Wilson
        interval "success_interval", "mean_return", and "contact_share" of the steps (None if the
        environment does not say).

    Raises:
        ValueError: If the environment or policy is unknown, they do not fit, a number is out of
            range, or a space cannot be recorded.
        FileExistsError: If `out` exists and `overwrite` is False.
        FileNotFoundError: If there is no such checkpoint.
        ModuleNotFoundError: If robomimic is needed and not installed.
    """
    for name, value in (("episodes", episodes), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if Path(out).exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another path or overwrite it (--overwrite)")
    env = make_env(env_id, max_steps, env_kwargs)
    try:
        check_spaces(env)
        chosen = _choose_policy(policy, env, noise)
        env_args = describe(env, env_id, env_kwargs, policy, seed, noise)
        return _record(env, chosen, episodes, seed, RobomimicWriter(out, env_args, overwrite))
    finally:
        env.close()


def make_env(
    env_id: str, max_steps: int | None = None, env_kwargs: Mapping[str, Any] | None = None
) -> gym.Env:
    """Make a registered environment.

    Args:
        env_id: Its Gymnasium id; "module:id" imports a module first, which registers it.
        max_steps: Of an episode; None takes the environment's own limit.
        env_kwargs: What it is made with.

    Raises:
        ValueError: If there is none of this name, or it does not take `env_kwargs`.
    """
    search_here()
    try:
        return gym.make(env_id, max_episode_steps=max_steps, **(env_kwargs or {}))
    except (gym.error.Error, ImportError) as error:
        if env_id in gym.registry:
            raise ValueError(f"{env_id} cannot be made: {error}") from error
        if ":" in env_id and isinstance(error, ImportError):
            raise ValueError(f"no environment {env_id!r}: {error}") from error
        near = difflib.get_close_matches(env_id, gym.registry, n=3, cutoff=0.5)
        ours = sorted(name for name in gym.registry if name.startswith("scd_wm/"))
        hint = f"did you mean {near}" if near else f"this package has {ours}"
        raise ValueError(f"no environment {env_id!r}; {hint}") from error
    except TypeError as error:
        raise ValueError(f"{env_id} cannot be made with {env_kwargs}: {error}") from error


def check_spaces(env: gym.Env) -> None:
    """Raise unless observations and actions of `env` can be recorded.

    Raises:
        ValueError: If observations are no Box and no flat Dict of Boxes, or actions no flat Box
            and not Discrete.
    """
    space, action = env.observation_space, env.action_space
    entries = space.spaces if isinstance(space, Dict) else {"observation": space}
    for key, entry in entries.items():
        if not isinstance(entry, Box) or (len(entry.shape) == 3 and not _is_image(entry)):
            raise ValueError(
                f"observation {key!r} is {entry}; only vectors and uint8 images, alone or in a "
                "Dict that is not nested, can be recorded; wrap the environment in "
                "gymnasium.wrappers.FlattenObservation or TransformObservation"
            )
    if not (isinstance(action, Discrete) or (isinstance(action, Box) and len(action.shape) == 1)):
        raise ValueError(f"actions must be Discrete or a Box of shape (A,), got {action}")


def _choose_policy(text: str, env: gym.Env, noise: float | None) -> Policy:
    """Return the policy that a text names."""
    if text in POLICIES:
        return make_policy(text, env, **({} if noise is None else {"noise": noise}))
    if noise is not None:
        raise ValueError(f"noise is an option of {sorted(POLICIES)}, not of {text!r}")
    # Here, since torch takes seconds to import, and the others do without.
    from scd_wm.policies.batched import SingleEnvPolicy, check_policy
    from scd_wm.rollouts.policies import load_policy

    loaded = load_policy(text, "cpu")
    assert loaded is not None, "names of the registry are dealt with above"
    check_policy(loaded, env.observation_space, env.action_space)
    return SingleEnvPolicy(loaded)


def describe(
    env: gym.Env,
    env_id: str,
    env_kwargs: Mapping[str, Any] | None,
    policy: str,
    seed: int,
    noise: float | None,
) -> dict[str, Any]:
    """Return robomimic's `env_args` for a recording, with what is ours under "scd_wm"."""
    kwargs = dict(env_kwargs or {})
    if (fps := env.metadata.get("render_fps")) is not None:
        kwargs["control_freq"] = fps
    ours: dict[str, Any] = {"policy": policy, "noise": noise, "seed": seed, "versions": _versions()}
    if colours := getattr(env.unwrapped, "metadata", {}).get("tracked_colours"):
        ours["tracked_colours"] = colours
    return {
        "env_name": env_id,
        "type": GYM_TYPE,
        "env_version": version("gymnasium"),
        "env_kwargs": kwargs,
        "scd_wm": ours,
    }


def run_episode(env: gym.Env, policy: Policy, seed: int) -> Episode:
    """Run one episode; `seed` decides the start and what the policy does."""
    episode = Episode()
    observation, _ = env.reset(seed=seed)
    policy.reset(seed)
    episode.add_observation(observation)
    terminated = truncated = False
    while not (terminated or truncated):
        action = policy.act(observation)
        episode.actions.append(_as_vector(action, env.action_space))
        if (state := _state(env)) is not None:
            episode.states.append(state)
        observation, reward, terminated, truncated, info = env.step(action)
        episode.add_observation(observation)
        episode.add_step(float(reward), bool(terminated), info)
    return episode


def _record(
    env: gym.Env, policy: Policy, num_episodes: int, seed: int, writer: RobomimicWriter
) -> dict[str, Any]:
    """Run and write the episodes; return the summary."""
    returns, successes, contacts = [], [], []
    start = time.perf_counter()
    with writer, progress_bar(total=num_episodes, unit="episode") as bar:
        for i in range(num_episodes):
            episode = run_episode(env, policy, seed + i)
            writer.add_episode(**episode.arrays())
            returns.append(sum(episode.rewards))
            successes.append(any(episode.success))
            contacts.extend(episode.contact)
            rate = writer.num_steps / (time.perf_counter() - start)
            bar.set_postfix_str(f"{rate:.0f} steps/s", refresh=False)
            bar.update()
    num_success = sum(successes) if episode.tells_success else None
    return {
        "path": str(writer.path),
        "size_mb": round(writer.path.stat().st_size / 1e6, 3),
        "episodes": num_episodes,
        "steps": writer.num_steps,
        "steps_per_second": round(rate, 1),
        "num_success": num_success,
        "success_rate": None if num_success is None else num_success / num_episodes,
        "success_interval": (
            None if num_success is None else wilson_interval(num_success, num_episodes)
        ),
        "mean_return": float(np.mean(returns)),
        "contact_share": float(np.mean(contacts)) if contacts else None,
    }


def _named(observation: Any) -> dict[str, np.ndarray]:
    """Return the entries of an observation as they are recorded: images uint8, vectors float32."""
    if not isinstance(observation, Mapping):
        value = np.asarray(observation)
        observation = {"image" if _is_image(value) else "observation": value}
    # A copy, since environments may use an array again.
    values = {key: np.array(value) for key, value in observation.items()}
    return {k: v if _is_image(v) else v.astype(np.float32).ravel() for k, v in values.items()}


def _is_image(entry: np.ndarray | Box) -> bool:
    return entry.dtype == np.uint8 and len(entry.shape) == 3


def _as_vector(action: Any, space: gym.Space) -> np.ndarray:
    """Return an action as a vector, (A,): one-hot if the space is Discrete."""
    if isinstance(space, Discrete):
        one_hot = np.zeros(int(space.n), np.float32)
        one_hot[int(action) - int(space.start)] = 1
        return one_hot
    return np.array(action)


def _state(env: gym.Env) -> np.ndarray | None:
    """Return the simulator's state if the environment has it as a vector called `state`, (S,)."""
    state = getattr(env.unwrapped, "state", None)
    return state.copy() if isinstance(state, np.ndarray) and state.ndim == 1 else None


def _versions() -> dict[str, str]:
    """Return the versions of the packages that decide what an episode looks like."""
    found = {"scd-wm": scd_wm.__version__}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
