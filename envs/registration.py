"""Names of the environments: `gym.make("scd_wm/PushT-v0")` after `import scd_wm`.

Entry points are strings, so that MuJoCo is imported when an environment is made and not before.
To add an environment: one file in `envs/`, a line in both tables
below, and the contract tests find it.
"""

from __future__ import annotations

import gymnasium as gym

NAMESPACE = "scd_wm"
ENTRY_POINTS = {
    "PushT": "scd_wm.envs.push_t:PushT",
    "Lift": "scd_wm.envs.lift:Lift",
    "MetaWorld": "scd_wm.envs.meta_world:MetaWorld",
    "RobosuiteLift": "scd_wm.envs.robosuite_lift:RobosuiteLift",
}
MAX_STEPS = {"PushT": 200, "Lift": 100, "MetaWorld": 125, "RobosuiteLift": 100}  # of an episode
NEEDS = {"MetaWorld": "metaworld", "RobosuiteLift": "robosuite"}  # packages beside our own
IMAGINED = "scd_wm.imagined"  # the module that makes environments of world models
OBSERVATIONS = {"": "image", "State": "state"}  # what is added to the name: what is observed


def register() -> None:
    """Register every environment of this package; a second call changes nothing."""
    for name, entry_point in ENTRY_POINTS.items():
        for suffix, observation in OBSERVATIONS.items():
            env_id = f"{NAMESPACE}/{name}{suffix}-v0"
            if env_id not in gym.registry:
                gym.register(
                    id=env_id,
                    entry_point=entry_point,
                    kwargs={"observation": observation},
                    max_episode_steps=MAX_STEPS[name],
                )
    if f"{NAMESPACE}/Imagined-v0" not in gym.registry:
        gym.register(
            id=f"{NAMESPACE}/Imagined-v0",
            entry_point=f"{IMAGINED}:imagined_env",
            vector_entry_point=f"{IMAGINED}:imagined_vector_env",
        )
