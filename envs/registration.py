"""Names of the environments: `gym.make("scd_wm/PushT-v0")` after `import scd_wm`.

Entry points are strings, so that MuJoCo is imported when an environment is made and not before.
To add an environment: one file in `envs/`, one `register` below, and the contract tests find it.
"""

from __future__ import annotations

import gymnasium as gym

NAMESPACE = "scd_wm"


def register() -> None:
    """Register every environment of this package; a second call changes nothing."""
    for name, observation in (("PushT-v0", "image"), ("PushTState-v0", "state")):
        if f"{NAMESPACE}/{name}" not in gym.registry:
            gym.register(
                id=f"{NAMESPACE}/{name}",
                entry_point="scd_wm.envs.push_t:PushT",
                kwargs={"observation": observation},
                max_episode_steps=200,
            )
