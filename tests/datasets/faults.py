"""Faults of recordings: each damages clean episodes, and says what the doctor must find."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.datasets.robots import Episode, pictures

Damage = Callable[[list[Episode]], None]


def nan_in_a_vector(episodes: list[Episode]) -> None:
    episodes[3]["pos"][5:7, 1] = np.nan


def infinite_action(episodes: list[Episode]) -> None:
    episodes[4]["action"][0, 0] = np.inf


def unreadable(episodes: list[Episode]) -> None:
    episodes[2]["pos"] = ValueError("demo_2/pos is cut off")


def unreadable_images(episodes: list[Episode]) -> None:
    episodes[0]["top"] = OSError("broken chunk")


def too_few_rows(episodes: list[Episode]) -> None:
    episodes[1]["pos"] = episodes[1]["pos"][:40]


def twice(episodes: list[Episode]) -> None:
    episodes.append(dict(episodes[5]))


def nearly_twice(episodes: list[Episode]) -> None:
    noise = 1e-5 * np.random.default_rng(0).normal(size=episodes[5]["pos"].shape)
    episodes.append(episodes[5] | {"pos": (episodes[5]["pos"] + noise).astype(np.float32)})


def one_short(episodes: list[Episode]) -> None:
    episodes[6] = {k: v[: 5 + (k != "action")] for k, v in episodes[6].items()}


def one_static(episodes: list[Episode]) -> None:
    episodes[7]["pos"][:] = 0.25


def one_action_only(episodes: list[Episode]) -> None:
    episodes[7]["action"][:] = 0.25


def without_a_vector(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["more"] = 2 * episode["pos"]
    del episodes[1]["more"], episodes[9]["more"]


def constant_action(episodes: list[Episode]) -> None:
    add_action(episodes, lambda actions: np.full(len(actions), 0.5))


def constant_vector(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["still"] = np.ones((len(episode["pos"]), 3), np.float32)


def saturated(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["action"][:, 1] = episode["action"][:, 1].clip(-0.4, 0.4)


def idle(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["action"][:25] = 0
        episode["pos"][:26] = episode["pos"][25]


def repeated(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["action"] = np.repeat(episode["action"][::3], 3, axis=0)[:60]
        episode["pos"][1:] = episode["pos"][0] + 0.4 * np.cumsum(episode["action"], axis=0)
        episode["top"] = pictures(episode["pos"])


def narrow(episodes: list[Episode]) -> None:
    rng = np.random.default_rng(0)
    add_action(episodes, lambda a: np.where(rng.random(len(a)) < 0.03, a[:, 0], 1e-4 * a[:, 1]))


def glitch(episodes: list[Episode]) -> None:
    episodes[8]["pos"][30, 0] += 5


def outlier(episodes: list[Episode]) -> None:
    episodes[8]["pos"][30:34, 0] = -999


def turning(episodes: list[Episode]) -> None:
    for episode in episodes:
        angle = np.cumsum(0.3 + 0.05 * episode["pos"][:, :1], axis=0)
        episode["angle"] = ((angle + np.pi) % (2 * np.pi) - np.pi).astype(np.float32)


def flipping(episodes: list[Episode]) -> None:
    for episode in episodes:
        half = 0.5 * episode["pos"][:, 0]
        quat = np.stack([np.cos(half), np.sin(half), 0 * half, 0 * half], axis=1)
        quat[20:35] *= -1
        episode["hand_quat"] = quat.astype(np.float32)


def held(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["slow"] = np.repeat(episode["pos"][::4], 4, axis=0)[:61] * 3


def blank(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["cap"] = np.full_like(episode["top"], 3)


def dark(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["top"] = episode["top"] // 6


def static_camera(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["wall"] = np.repeat(episodes[0]["top"][:1], 61, axis=0)


def half_rate(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["top"] = np.repeat(episode["top"][::2], 2, axis=0)[:61]


def lost_frames(episodes: list[Episode]) -> None:
    for episode in episodes[:6]:
        for start in (10, 30, 45):
            episode["top"][start : start + 8] = episode["top"][start]


def same_camera(episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["side"] = episode["top"].copy()


def add_action(episodes: list[Episode], make: Callable[[np.ndarray], np.ndarray]) -> None:
    """Give every action a further value."""
    for episode in episodes:
        more = make(episode["action"])[:, None]
        episode["action"] = np.concatenate([episode["action"], more], 1).astype(np.float32)


# Damage, the code of what is found, its severity, words of what is said, words of what to do.
FAULTS: list[tuple[Damage, str, str, str, str]] = [
    (nan_in_a_vector, "nan", "error", "pos is NaN or infinite in 2 rows of 1", "repair"),
    (infinite_action, "nan", "error", "in 1 row of 1 episode (demo_4)", "repair"),
    (unreadable, "damaged", "error", "(demo_2); demo_2: pos: demo_2/pos is cut", "leave"),
    (unreadable_images, "damaged", "error", "demo_0: top: broken chunk", "copy the files again"),
    (too_few_rows, "damaged", "error", "pos: has 40 rows, its episode has 61", "leave them out"),
    (twice, "duplicated", "warning", "1 episode equal to another", "keep one"),
    (nearly_twice, "nearly_same", "warning", "demo_5 = demo_12", "keep one"),
    (one_short, "short", "warning", "1 episode shorter than 12 steps", "num_frames"),
    (one_static, "static", "warning", "no vector ever changes in 1 episode (demo_7)", "leave"),
    (one_action_only, "same_action", "warning", "throughout 1 episode (demo_7)", "leave"),
    (without_a_vector, "missing_key", "warning", "more is missing in 2 of 12", "--vectors"),
    (constant_action, "constant_action", "warning", "never change: action[2]", "policy"),
    (constant_vector, "constant_vector", "warning", "still never changes", "--vectors"),
    (saturated, "saturated", "warning", "action[1] is often at the end of the range", "cut"),
    (idle, "idle", "warning", "all continuous actions are 0 in 42% of the steps", "cut pauses"),
    (repeated, "repeated_actions", "warning", "equals the one before in 68%", "--frame-skip 3"),
    (narrow, "narrow_actions", "warning", "action[2] take nearly always", "noise"),
    (glitch, "jumps", "warning", "[0] of demo_8 after frame 29", "glitches"),
    (outlier, "outliers", "warning", "4 values of pos[0]", "failed readings"),
    (turning, "angle_wraps", "warning", "angle[0] leaps by a whole turn", "sine and cosine"),
    (flipping, "quaternion_flips", "warning", "changes its sign 24 times", "-1"),
    (held, "held_values", "warning", "slow[0, 1] changes only every 4.0 steps", "--frame-skip 4"),
    (blank, "blank_images", "warning", "cap shows a plain colour in 100%", "--cameras"),
    (dark, "dark_images", "warning", "top is nearly black in 99%", "light"),
    (static_camera, "static_camera", "warning", "nothing moves in wall", "--cameras"),
    (half_rate, "frozen_images", "warning", "a new picture comes every 2 frames", "--frame-skip 2"),
    (lost_frames, "frozen_images", "warning", "in 6 of 12 episodes looked at", "lost"),
    (same_camera, "same_camera", "warning", "top and side show the same", "--cameras with top"),
]  # fmt: skip
