"""Every check of the doctor on data made to have exactly that fault; clean data has none."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scd_wm.cli import parse
from scd_wm.datasets import doctor_numbers
from scd_wm.datasets.doctor import CHECKS, diagnose, finding_lines, suggestion_lines
from scd_wm.datasets.doctor_exam import ExamConfig
from scd_wm.datasets.reader import EpisodeInfo, Field
from tests.datasets.robots import (
    Episode,
    MemoryReader,
    examined,
    found,
    pictures,
    record,
    serious,
)

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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[0].__name__)
def test_a_fault_is_found_and_nothing_else(fault: tuple[Damage, str, str, str, str]) -> None:
    damage, code, severity, what, advice = fault
    episodes = record()
    damage(episodes)
    diagnosis = examined(episodes)
    finding = found(diagnosis, code)
    assert finding.severity == severity
    assert what in finding.what
    assert advice in finding.advice
    assert serious(diagnosis) == [code]
    assert not diagnosis.is_healthy
    json.dumps(diagnosis.to_json(), allow_nan=False)


@pytest.mark.parametrize("kind", ["change", "position"])
def test_clean_data_has_no_fault(kind: str) -> None:
    diagnosis = examined(record(kind))
    assert serious(diagnosis) == []
    assert diagnosis.is_healthy
    assert {f.code for f in diagnosis.findings} == {"lag_ok", "coverage", f"{kind}_actions"}


def test_a_gripper_that_opens_and_closes_is_not_saturated() -> None:
    episodes = record()
    add_action(episodes, lambda actions: np.sign(np.sin(np.arange(len(actions)) / 9) + 0.01))
    diagnosis = examined(episodes)
    assert serious(diagnosis) == []
    assert diagnosis.exam.actions.values[2].kind == "binary"


def test_a_glitch_is_told_from_settling_at_the_start() -> None:
    episodes = record(num_episodes=4, num_steps=400)
    for episode in episodes:
        settling = np.exp(-np.arange(401) / 1.3)[:, None] + 1e-4 * episode["pos"][:, :1]
        episode["finger"] = settling.astype(np.float32)
    assert "jumps" not in serious(examined(episodes))


def test_compression_that_repeats_still_frames_is_no_fault() -> None:
    """Where nothing is seen to move a video repeats frames; key frames bring other noise."""
    rng = np.random.default_rng(0)
    episodes = record()
    for episode in episodes:
        hidden = 0.4 * rng.normal(size=(61, 2)).cumsum(axis=0)
        hidden[:21], hidden[40:] = hidden[20], hidden[40]
        episode["hidden"] = hidden.astype(np.float32)  # moves where the camera sees nothing
        episode["pos"][:41] = episode["pos"][40]
        episode["action"][:40] = 0.3 * rng.normal(size=(40, 2))
        top = pictures(episode["pos"].astype(np.float64)).astype(np.int64)
        noise = rng.integers(-3, 4, top.shape)
        noise[1:40:2] = noise[0:39:2]
        episode["top"] = (top + noise).clip(0, 255).astype(np.uint8)
    assert "frozen_images" not in serious(examined(episodes))


def test_data_without_a_rate_says_what_to_write() -> None:
    finding = found(examined(record(), fps=None), "no_rate")
    assert "control_freq" in finding.advice


def test_what_the_reader_skips_is_repeated() -> None:
    finding = found(examined(record(), skipped=("depth: no image", "dones: not used")), "skipped")
    assert finding.numbers["skipped"] == ["depth: no image", "dones: not used"]


def test_actions_beyond_one_are_noted_where_the_format_promises_not() -> None:
    episodes = record()
    assert "action_range" not in {f.code for f in examined(episodes).findings}
    assert found(examined(episodes, format="robomimic"), "action_range").severity == "info"


def test_values_that_go_together_and_few_directions_are_noted() -> None:
    episodes = record()
    for _ in range(4):
        add_action(episodes, lambda actions: -2 * actions[:, 0])
    diagnosis = examined(episodes)
    assert len(found(diagnosis, "redundant_actions").numbers["pairs"]) == 10
    assert found(diagnosis, "few_directions").numbers["effective_dims"] < 2
    assert serious(diagnosis) == []


def test_sizes_that_patches_do_not_divide_are_noted() -> None:
    episodes = record()
    for episode in episodes:
        episode["top"] = episode["top"][:, :30, :29]
    assert "--image-size 32x32" in found(examined(episodes), "image_size").advice


def test_scales_that_differ_wildly_are_noted() -> None:
    episodes = record()
    for episode in episodes:
        episode["pos"][:, 0] *= 1e6
    assert found(examined(episodes), "scales").keys == ("pos",)


def test_when_time_is_up_it_says_what_was_not_seen() -> None:
    diagnosis = examined(record(), {"image_s": 0.0})
    finding = found(diagnosis, "images_not_seen")
    assert finding.what == "time was up after 0 of 12 episodes of top"
    assert "--seconds" in finding.advice
    assert examined(record(), {"images": 0}).is_healthy


def test_only_as_many_images_as_asked_for_are_read() -> None:
    diagnosis = examined(record(), {"images": 3})
    stretches = diagnosis.exam.cameras["top"].stretches
    assert sorted(s.episode for s in stretches) == [0, 6, 11]
    assert diagnosis.to_json()["looked_at"]["images"]["top"]["num_images"] == 3 * 61


def test_data_in_which_nothing_can_be_read_is_still_diagnosed() -> None:
    episodes = record(num_episodes=3)
    reader = MemoryReader(episodes)
    for episode in reader.episodes:
        for key in episode:
            episode[key] = ValueError("gone")
    diagnosis = diagnose(reader)
    assert set(serious(diagnosis)) == {"damaged", "no_actions"}
    json.dumps(diagnosis.to_json(), allow_nan=False)


def test_findings_come_worst_first_and_each_says_what_to_do() -> None:
    episodes = record()
    nan_in_a_vector(episodes)
    constant_vector(episodes)
    diagnosis = examined(episodes)
    severities = [f.severity for f in diagnosis.findings]
    assert severities == sorted(severities, key=("error", "warning", "info").index)
    lines = finding_lines(diagnosis.findings)
    assert lines[0].startswith("error    pos is NaN")
    assert lines[1].strip() == f"-> {diagnosis.findings[0].advice}"
    assert all(f.what and f.advice for f in diagnosis.findings)


def test_the_suggested_command_is_one_that_train_takes() -> None:
    episodes = record()
    same_camera(episodes)
    constant_vector(episodes)
    diagnosis = examined(episodes)
    suggestion = diagnosis.suggestion
    assert (suggestion.cameras, suggestion.vectors) == (("top",), ("pos",))
    assert "left out: side, still" in suggestion.reasons["keys"]
    args = parse(suggestion.command.split()[1:])
    assert (args.cameras, args.vectors, args.image_size) == (("top",), ("pos",), (32, 32))
    assert args.overrides == [f"num_frames={suggestion.num_frames}", "window=4"]
    assert suggestion_lines(suggestion)[-1] == suggestion.command


def test_slow_motion_asks_for_frame_skip_and_fast_motion_does_not() -> None:
    fast = examined(record()).suggestion
    assert fast.frame_skip == 1
    episodes = record(num_steps=30)
    for episode in episodes:  # the same at a rate eight times higher
        times = np.arange(8 * 30 + 1) / 8
        episode["pos"] = np.stack(
            [np.interp(times, np.arange(31), episode["pos"][:, i]) for i in range(2)], axis=1
        ).astype(np.float32)
        episode["action"] = np.repeat(episode["action"], 8, axis=0) / 8
        episode["top"] = pictures(episode["pos"])
    slow = examined(episodes).suggestion
    assert slow.frame_skip > 1
    args = parse(slow.command.split()[1:])
    assert (args.frame_skip, args.action_mode) == (slow.frame_skip, slow.action_mode)
    assert "stays alike" in slow.reasons["frame_skip"]


def test_a_late_robot_gets_a_longer_clip() -> None:
    episodes = record()
    prompt = examined(episodes).suggestion.num_frames
    late = [{k: v[6:] if k == "action" else v[:55] for k, v in e.items()} for e in episodes]
    assert examined(late).suggestion.num_frames > prompt


def test_each_action_value_is_joined_as_it_needs() -> None:
    episodes = record()
    add_action(episodes, lambda actions: np.sign(np.sin(np.arange(len(actions)) / 9) + 0.01))
    suggestion = examined(episodes).suggestion
    assert suggestion.action_mode == "sum*2,last"
    args = parse(["train", "d", "--out", "r", "--action-mode", suggestion.action_mode])
    assert args.action_mode == ("sum", "sum", "last")
    for episode in episodes:
        episode["action"][:, :2] *= 4  # 0.4 a step at 10 Hz: now velocities
    assert examined(episodes).suggestion.action_mode == "mean*2,last"


class GeneratedReader:
    """A data set of 300 long episodes that exists only while it is read."""

    def __init__(self) -> None:
        clean = MemoryReader(record(num_episodes=1))
        self.rows = clean.episodes[0]
        episodes = tuple(EpisodeInfo(f"demo_{i}", 1000, False) for i in range(300))
        fields = {
            "pos": Field((40,), "float32", "vector"),
            "top": Field((64, 64, 3), "uint8", "image"),
        }
        self.info = type(clean.info)(**{**vars(clean.info), "episodes": episodes, "fields": fields})

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        rng = np.random.default_rng(episode)
        if key == "top":
            return rng.integers(0, 255, (stop - start, 64, 64, 3), np.uint8)
        return rng.normal(size=(stop - start, 2 if key == "action" else 40)).astype(np.float32)


def test_memory_is_bounded_however_large_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers alone are 50 MB."""
    monkeypatch.setattr(doctor_numbers, "SAMPLE_BYTES", 2**21)
    reader = GeneratedReader()
    tracemalloc.start()
    survey = doctor_numbers.survey_numbers(reader, range(300))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20
    assert 1 <= len(survey.sample) < 20


@pytest.mark.parametrize(
    ("values", "message"),
    [({"episodes": 0}, "episodes"), ({"images": -1}, "images"), ({"image_s": -1}, "image_s")],
)
def test_what_is_looked_at_is_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message} must be at least"):
        ExamConfig(**values)


def test_every_check_is_in_the_list() -> None:
    from scd_wm.datasets import (
        doctor_check_actions,
        doctor_check_episodes,
        doctor_check_images,
        doctor_check_numbers,
        doctor_check_time,
    )

    modules = (
        doctor_check_actions,
        doctor_check_episodes,
        doctor_check_images,
        doctor_check_numbers,
        doctor_check_time,
    )
    written = {f for m in modules for name, f in vars(m).items() if name.startswith("check_")}
    assert {f for f in written if callable(f)} == set(CHECKS)
