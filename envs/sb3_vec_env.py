"""Any Gymnasium vector environment as Stable-Baselines3 wants it: learning inside imagination.

    envs = gym.make_vec(
        "scd_wm/Imagined-v0", num_envs=64, model="runs/lift", autoreset_mode="SameStep"
    )
    PPO("MultiInputPolicy", SB3VecEnv(envs), n_steps=32, batch_size=128).learn(100_000)

Stable-Baselines3 makes its own vector environments from single ones, and knows no others.

Axes: B sub-environments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

FINAL = ("final_obs", "final_info")  # of an episode that ended in this step


class SB3VecEnv(VecEnv):
    """A `gymnasium.vector.VectorEnv` as a `stable_baselines3.common.vec_env.VecEnv`.

    Infos hold "terminal_observation" and "TimeLimit.truncated" as those of Stable-Baselines3 do,
    so that its algorithms tell an end by time from an end by failure. For returns of episodes put
    `stable_baselines3.common.vec_env.VecMonitor` around it.

    Attributes are those of the vector environment, the same for all B.

    Args:
        envs: The vector environment; it must reset in the same step (`autoreset_mode="SameStep"`).

    Raises:
        ValueError: If it resets otherwise.
    """

    def __init__(self, envs: VectorEnv) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode is None or AutoresetMode(mode) != AutoresetMode.SAME_STEP:
            raise ValueError(
                "Stable-Baselines3 wants episodes that start anew in the step that ends them, got "
                f"{mode}; make the vector environment with autoreset_mode='SameStep'"
            )
        self.envs = envs
        self._actions: np.ndarray | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> VecEnvObs:
        """Start all episodes, with the seeds and options that were set before."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError("a vector environment takes the same options for all; give one dict")
        # Gymnasium's base class speaks of one seed, all its vector environments take one for each.
        seeds: Any = None if self._seeds[0] is None else list(self._seeds)
        observations, infos = self.envs.reset(seed=seeds, options=options or None)
        self.reset_infos = [row_info(infos, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions, (B, ...), for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take a step; return observations, rewards (B,) float32, which are over, and infos."""
        observations, rewards, terminated, truncated, infos = self.envs.step(self._actions)
        over = terminated | truncated
        rows = [row_info(infos, row) for row in range(self.num_envs)]
        for row in np.flatnonzero(over).tolist():
            last = infos["final_obs"][row]
            self.reset_infos[row] = {k: v for k, v in rows[row].items() if k not in FINAL}
            rows[row] = row_info(infos["final_info"], row) | {"terminal_observation": last}
        for row, own in enumerate(rows):
            own["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        return observations, rewards.astype(np.float32), over, rows

    def close(self) -> None:
        """Close the vector environment."""
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return what each sub-environment renders, (H, W, 3) uint8."""
        images: Any = self.envs.render()
        return [None] * self.num_envs if images is None else list(images)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the vector environment, once for each index."""
        value = getattr(self.envs, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector environment, for all."""
        self._check_all(indices, f"attribute {attr_name!r}")
        setattr(self.envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment, which returns a value for each of all."""
        self._check_all(indices, f"method {method_name!r}")
        return list(getattr(self.envs, method_name)(*method_args, **kwargs))

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Say of each index that no wrapper is around a sub-environment of its own."""
        return [False for _ in self._get_indices(indices)]

    def _check_all(self, indices: VecEnvIndices, what: str) -> None:
        if [*self._get_indices(indices)] != [*range(self.num_envs)]:
            raise ValueError(f"{what} is one for all {self.num_envs}: leave indices out")


def row_info(infos: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Return what a vector environment's infos say of one sub-environment.

    Args:
        infos: Arrays by key, (B, ...), with the mask "_key" of those that it speaks of; without one
            it speaks of all.
        row: Which sub-environment.
    """
    return {
        key: row_info(values, row) if isinstance(values, Mapping) else values[row]
        for key, values in infos.items()
        if not key.startswith("_") and (f"_{key}" not in infos or infos[f"_{key}"][row])
    }
