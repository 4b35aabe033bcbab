"""Every check of the doctor on data made to have exactly that fault; clean data has none."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from scd_wm.cli import parse
from scd_wm.datasets import doctor_numbers
from scd_wm.datasets.doctor import CHECKS, diagnose, finding_lines, suggestion_lines
from scd_wm.datasets.doctor_exam import ExamConfig
from scd_wm.datasets.reader import EpisodeInfo, Field
from tests.datasets.faults import (
    FAULTS,
    Damage,
    add_action,
    constant_vector,
    nan_in_a_vector,
    same_camera,
)
from tests.datasets.robots import (
    MemoryReader,
    examined,
    found,
    pictures,
    record,
    serious,
)


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
