"""The doctor's measure of when motion follows an action, on data whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scd_wm.datasets.doctor import Diagnosis, diagnose
from scd_wm.datasets.doctor_exam import ExamConfig
from scd_wm.datasets.doctor_lag import LAGS, Trace, lag_curve
from tests.datasets.robots import Episode, examined, found, record, serious


def shifted(episodes: list[Episode], key: str, steps: int) -> list[Episode]:
    """Return episodes in which row t of a key is what row t + steps was, cut to what is there."""
    moved = []
    for episode in episodes:
        length = len(episode["action"]) - abs(steps)
        late, others = max(0, steps), max(0, -steps)
        ends = {k: length + (k != "action") for k in episode}
        starts = {k: late if k == key else others for k in episode}
        moved.append({k: v[starts[k] : starts[k] + ends[k]] for k, v in episode.items()})
    return moved


@pytest.mark.parametrize("kind", ["change", "position"])
@pytest.mark.parametrize("steps", [-2, -1, 1, 2, 4])
def test_motion_that_comes_late_or_early_is_told_by_how_much(kind: str, steps: int) -> None:
    diagnosis = examined(shifted(record(kind), "action", steps))
    finding = found(diagnosis, "action_lag")
    assert finding.severity == "warning"
    assert finding.numbers["best"] == steps
    word = "after" if steps > 0 else "before"
    assert f"pos moves {abs(steps)} step" in finding.what
    assert f"{word} the action" in finding.what
    sign = "-" if steps > 0 else "+"
    assert f"action t {sign} {abs(steps)}" in finding.advice
    assert ("robot answers late" in finding.advice) == (steps > 0)


@pytest.mark.parametrize("kind", ["change", "position"])
def test_motion_that_comes_with_its_action_is_no_warning(kind: str) -> None:
    diagnosis = examined(record(kind))
    assert found(diagnosis, "lag_ok").numbers["best"] == 0
    assert serious(diagnosis) == []


@pytest.mark.parametrize(("kind", "mode"), [("change", "sum"), ("position", "last")])
def test_what_actions_mean_is_recognised_also_where_they_are_shifted(kind: str, mode: str) -> None:
    for steps in (0, 2):
        diagnosis = examined(shifted(record(kind), "action", steps))
        assert f"--action-mode {mode}" in found(diagnosis, f"{kind}_actions").advice
        assert diagnosis.suggestion.action_mode == mode


def test_places_in_other_units_say_so() -> None:
    episodes = record("position")
    for episode in episodes:
        episode["action"] = 5 * episode["action"] + 1
    assert "in other units" in found(examined(episodes), "position_actions").what
    assert "in the same units" in found(examined(record("position")), "position_actions").what


@pytest.mark.parametrize("steps", [-2, 1, 3])
def test_a_camera_that_is_late_or_early_is_told_by_how_much(steps: int) -> None:
    diagnosis = examined(shifted(record(), "top", -steps))
    finding = found(diagnosis, "camera_lag")
    assert finding.numbers["best"] == steps
    assert ("after" if steps > 0 else "before") in finding.what
    assert serious(diagnosis) == ["camera_lag"]


def test_without_vectors_pixels_say_when_the_robot_moves() -> None:
    episodes = shifted(record(), "action", 2)
    finding = found(
        examined([{k: e[k] for k in ("action", "top")} for e in episodes]), "action_lag"
    )
    assert finding.keys == ("action", "top")
    assert finding.numbers["best"] == 2


def test_actions_of_other_episodes_explain_nothing() -> None:
    episodes = record()
    actions = [episode["action"] for episode in episodes]
    for episode, other in zip(episodes, (*actions[1:], actions[0]), strict=True):
        episode["action"] = other
    finding = found(examined(episodes), "no_relation")
    assert finding.severity == "warning"
    assert "ignore actions" in finding.advice


def test_short_data_says_that_the_lag_is_not_known() -> None:
    assert found(examined(record(num_episodes=2, num_steps=12)), "lag_unknown").severity == "info"


def test_a_slow_robot_is_not_taken_for_a_late_one() -> None:
    """Velocity follows the command as a first-order system: smooth, but from the same step on."""
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(12):
        actions = rng.normal(size=(80, 1)).cumsum(axis=0) * 0.3
        speed, pos = 0.0, [np.zeros(1)]
        for action in actions:
            speed += 0.3 * (float(action[0]) - speed)
            pos.append(pos[-1] + 0.1 * speed)
        rows = np.array(pos).astype(np.float32)
        episodes.append({"action": actions.astype(np.float32), "pos": rows})
    assert found(examined(episodes), "lag_ok").numbers["best"] == 0


def test_the_gain_is_the_share_of_variance_explained() -> None:
    """With a cause of variance 1 and noise of variance 3, a quarter of the effect is explained."""
    rng = np.random.default_rng(0)
    traces = []
    for _ in range(20):
        cause = rng.normal(size=(500, 1))
        effect = np.roll(cause, 3, axis=0) + np.sqrt(3) * rng.normal(size=(500, 1))
        traces.append(Trace(cause=cause, effect=effect, baseline=rng.normal(size=(500, 1))))
    curve = lag_curve("cause", "effect", traces)
    assert curve is not None
    assert (curve.best, curve.best_low, curve.best_high, curve.is_shifted) == (3, 3, 3, True)
    assert curve.gain[LAGS.index(3)] == pytest.approx(0.25, abs=0.02)
    others = [gain for lag, gain in zip(curve.lags, curve.gain, strict=True) if lag != 3]
    assert max(map(abs, others)) < 0.01


def test_noise_is_no_cause() -> None:
    rng = np.random.default_rng(0)
    draws = [[rng.normal(size=(60, n)) for n in (4, 2, 2)] for _ in range(12)]
    curve = lag_curve("a", "b", [Trace(cause=a, effect=b, baseline=c) for a, b, c in draws])
    assert curve is not None
    assert not curve.is_seen


def test_recordings_of_push_t_are_aligned(tmp_path: Path) -> None:
    from scd_wm.collect import collect

    path = tmp_path / "push.hdf5"
    collect("scd_wm/PushT-v0", "scripted", 6, path, seed=0, max_steps=120)
    diagnosis = diagnose(path)
    assert found(diagnosis, "lag_ok").numbers["best"] == 0
    assert "in other units" in found(diagnosis, "position_actions").what
    assert serious(diagnosis) == []


def test_the_real_robot_is_late(shared_data: Path) -> None:
    """Arms are where they were told to be 4 to 7 steps later, by the nearest rows (see below)."""
    from scd_wm.datasets.formats import open_reader

    diagnosis = examined_numbers(shared_data / "g1_real")
    assert found(diagnosis, "action_lag").numbers["best"] == 6
    reader = open_reader(shared_data / "g1_real")
    errors = np.zeros(12)
    for episode in range(0, 100, 10):
        stop = reader.info.episodes[episode].num_actions
        state, action = (
            reader.read(episode, key, 0, stop)[:, 4:14] for key in ("observation.state", "action")
        )
        for steps in range(12):
            errors[steps] += ((state[steps:] - action[: stop - steps]) ** 2).mean()
    assert 4 <= errors.argmin() <= 7
    held = found(diagnosis, "held_values").numbers["steps_between_changes"]
    assert list(held) == [str(value) for value in range(14, 26)]  # the hands, not the arms


def test_the_simulated_robot_is_aligned(shared_data: Path) -> None:
    diagnosis = examined_numbers(shared_data / "gr00t_robot_sim_PickNPlace")
    assert found(diagnosis, "lag_ok").numbers["best"] == 0
    assert found(diagnosis, "constant_action").numbers["values"] == [*range(7, 22), *range(34, 44)]


def examined_numbers(path: Path) -> Diagnosis:
    return diagnose(path, ExamConfig(images=0))
