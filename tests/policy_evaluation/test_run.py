"""Evaluating policies from end to end, on a world that needs no training."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm.cli import main
from scd_wm.collect import make_env
from scd_wm.imagined import imagined_env
from scd_wm.policies.protocol import Policy
from scd_wm.policies.registry import make_policy
from scd_wm.policy_evaluation import playing, starts
from scd_wm.policy_evaluation.config import PolicyEvaluationConfig
from scd_wm.policy_evaluation.contestants import parse_policies
from scd_wm.policy_evaluation.episode import Episode
from scd_wm.policy_evaluation.films import PANEL_WIDTH
from scd_wm.policy_evaluation.opening import open_stage
from scd_wm.policy_evaluation.run import evaluate_policies, table
from scd_wm.policy_evaluation.starts import simulated_starts
from scd_wm.report.video import decode_mp4
from scd_wm.rollouts.played import Played, play
from scd_wm.spec import Spec
from scd_wm.training.checkpoint import load_world_model
from tests.policy_evaluation.conftest import ENV

POLICIES = ["zero", "a bit=zero@noise=0.3", "random"]
SMALL = PolicyEvaluationConfig(episodes=7, max_steps=4, at_once=3, seed=5, resamples=50)


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "episodes.csv").read_text().splitlines()))


def pick(rows: list[dict[str, str]], **wanted: str) -> list[dict[str, str]]:
    return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


def unsure(observation: Mapping[str, Tensor]) -> Tensor:
    """A judge that sees success where the pusher is to the right of the middle."""
    assert observation["pusher_pos"].dtype == torch.float32
    return (observation["pusher_pos"][:, 0] > 0).float()


@pytest.fixture(scope="module")
def evaluated(dreamer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("evaluated") / "out"
    return out, evaluate_policies(dreamer, ENV, POLICIES, out, SMALL, judge=unsure)


def test_every_policy_is_played_from_every_start_in_every_world(
    evaluated: tuple[Path, dict],
) -> None:
    out, summary = evaluated
    rows = rows_of(out)
    assert len(rows) == 3 * 7 * 4
    assert [r["world"] for r in rows[::7]] == 3 * [
        "real",
        "world_model",
        "shuffled_actions",
        "copy_last",
    ]
    for world in ("real", "world_model", "shuffled_actions", "copy_last"):
        for name in ("zero", "a bit", "random"):
            some = pick(rows, policy=name, world=world)
            assert [r["start"] for r in some] == summary["starts"]
            assert [r["seed"] for r in some] == [str(5 + i) for i in range(7)]
            won = sum(int(r["success"]) for r in some)
            assert summary["policies"][name][world]["success"] == won
    stored = json.loads((out / "summary.json").read_text())
    assert stored["verdict"] == summary["verdict"]
    assert (out / "report.html").stat().st_size > 10_000


def test_real_episodes_are_those_of_rollout(evaluated: tuple[Path, dict]) -> None:
    out, _ = evaluated
    env = make_env(ENV, 4)
    for row in pick(rows_of(out), policy="random", world="real"):
        played = play(env, make_policy("random", env), int(row["start"]), None, int(row["seed"]))
        assert float(row["return"]) == played.total_reward
    env.close()


def test_a_dream_begins_from_the_real_first_frame_and_the_noise_is_the_same(
    dreamer: Path,
) -> None:
    env = make_env(ENV, 4)
    spec = load_world_model(dreamer).spec
    begun = simulated_starts(env, spec, 3, 11, None)
    dream = imagined_env(dreamer, begun.frames, max_steps=4, action_space=env.action_space)
    for number, name in enumerate(begun.names):
        real, imagined = env.reset(seed=int(name))[0], dream.reset(options={"start": number})[0]
        for key, values in imagined.items():
            np.testing.assert_array_equal(values, real[key].astype(np.float32))
    env.close()


def test_what_is_random_goes_by_the_number_of_an_episode_though_starts_are_refused(
    dreamer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def spy(env: gym.Env, policy: Policy, seed: int, policy_seed: int) -> Played:
        seeds.append((seed, policy_seed))
        return play(env, policy, seed, policy_seed=policy_seed)

    monkeypatch.setattr(starts, "honest_seeds", lambda *_: ([5, 9, 12], [6, 7]))
    monkeypatch.setattr(playing, "play", spy)
    config = replace(SMALL, episodes=3)
    summary = evaluate_policies(dreamer, ENV, ["zero", "random"], tmp_path / "out", config)
    assert seeds == 2 * [(5, 5), (9, 6), (12, 7)]
    assert summary["starts_refused"] == ["6", "7"]
    for row in rows_of(tmp_path / "out"):
        assert int(row["seed"]) == {"5": 5, "9": 6, "12": 7}[row["start"]]


def test_in_imagination_each_row_is_what_the_episode_alone_comes_to(
    evaluated: tuple[Path, dict], dreamer: Path
) -> None:
    out, _ = evaluated
    env = make_env(ENV, 4)
    begun = simulated_starts(env, load_world_model(dreamer).spec, 7, 5, None)
    dream = imagined_env(dreamer, begun.frames, max_steps=4, action_space=env.action_space)
    policy = make_policy("random", dream)
    for number, row in enumerate(pick(rows_of(out), policy="random", world="world_model")):
        seed = int(row["seed"])
        observation, _ = dream.reset(seed=seed, options={"start": number})
        policy.reset(seed)
        total, highest, is_over = 0.0, 0.0, False
        while not is_over:
            observation, reward, *over, info = dream.step(policy.act(observation))
            total, highest = total + reward, max(highest, info["success_probability"])
            is_over = any(over) or info["success"]
        assert float(row["return"]) == pytest.approx(total, abs=1e-4)
        assert float(row["success_probability"]) == pytest.approx(highest, abs=1e-4)
    env.close()


def test_null_models_know_nothing(evaluated: tuple[Path, dict]) -> None:
    out, summary = evaluated
    rows = rows_of(out)
    for row in pick(rows, world="copy_last"):
        assert (row["success"], float(row["return"]), row["steps"]) == ("0", 0.0, "4")
    assert summary["ranking"]["success"]["copy_last"]["pearson"]["value"] is None
    # A policy that always does the same is driven by the same, whoever gives it.
    zero, shuffled = (
        pick(rows, policy="zero", world=w) for w in ("world_model", "shuffled_actions")
    )
    assert [r["return"] for r in zero] == [r["return"] for r in shuffled]
    noisy = [pick(rows, policy="random", world=w) for w in ("world_model", "shuffled_actions")]
    assert all(a["return"] != b["return"] for a, b in zip(*noisy, strict=True))


def test_the_judge_stands_beside_the_outcome(evaluated: tuple[Path, dict]) -> None:
    out, summary = evaluated
    rows = pick(rows_of(out), world="world_model")
    same = [(float(r["judge"]) > 0.5) == (r["success"] == "1") for r in rows]
    assert summary["judge"]["agree"] == sum(same)
    assert summary["judge"]["episodes"] == len(rows)
    for name, counts in summary["judge"]["policies"].items():
        assert sum(counts.values()) == 7, name
    assert "success by judge" in summary["ranking"]
    # Where nothing changes it sees the start and nothing else, the same for every policy.
    seen = {(r["start"], r["judge"]) for r in pick(rows_of(out), world="copy_last")}
    assert len(seen) == 7
    assert summary["off_data"] is None  # the model does not know its data


@pytest.mark.slow
def test_two_processes_come_to_the_same_table_to_the_last_digit(
    dreamer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate-policies", str(dreamer), ENV, "--policies", *POLICIES, "--seed", "5"]
    command += ["--episodes", "7", "--max-steps", "4", "--at-once", "3", "--resamples", "50"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr().out
    two = subprocess.run(
        [*launch, "-m", "scd_wm", *command, "--out", str(tmp_path / "two")],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert two.returncode == 0, two.stderr
    first, second = (tmp_path / name for name in ("one", "two"))
    assert (first / "episodes.csv").read_bytes() == (second / "episodes.csv").read_bytes()
    summaries = [json.loads((out / "summary.json").read_text()) for out in (first, second)]
    assert [s["processes"] for s in summaries] == [1, 2]
    own = ("processes", "seconds", "report", "device")
    left = [{k: v for k, v in s.items() if k not in own} for s in summaries]
    assert left[0] == left[1]
    assert two.stdout.count("evaluated policies in") == 1
    assert two.stdout.replace(str(second), str(first)) == shown


def test_batches_hold_every_start_once_and_two_at_least() -> None:
    for count in range(2, 60):
        for at_once in range(3, 12):
            found = playing.batches(count, at_once)
            assert [i for rows in found for i in rows] == list(range(count))
            assert all(2 <= len(rows) <= at_once for rows in found)


def test_an_earlier_table_stands_in_for_the_simulator(
    evaluated: tuple[Path, dict], dreamer: Path, tmp_path: Path
) -> None:
    out, before = evaluated
    config = replace(SMALL, real=out / "episodes.csv")
    summary = evaluate_policies(dreamer, ENV, POLICIES, tmp_path / "again", config, judge=unsure)
    for world in ("world_model", "shuffled_actions", "copy_last"):
        assert pick(rows_of(tmp_path / "again"), world=world) == pick(rows_of(out), world=world)
    for name in ("ranking", "pairs", "calibration"):
        assert summary[name] == before[name]


def test_results_of_a_robot_begin_from_recorded_frames(
    dreamer: Path, recording: Path, tmp_path: Path
) -> None:
    lines = ["policy,start,success"]
    lines += [f"{p},demo_{i},{int(i > k)}" for k, p in enumerate(("a", "b")) for i in range(4)]
    (tmp_path / "robot.csv").write_text("\n".join(lines))
    config = replace(SMALL, seed=0, real=tmp_path / "robot.csv", data=recording)
    policies = ["a=zero", "b=random"]
    summary = evaluate_policies(dreamer, None, policies, tmp_path / "out", config)
    assert summary["starts"] == [f"demo_{i}" for i in range(4)]
    assert [summary["policies"][p]["real"]["success"] for p in ("a", "b")] == [3, 2]
    assert summary["policies"]["a"]["real"]["mean_return"] is None
    assert "return" not in summary["ranking"]
    assert "reality" in (tmp_path / "out" / "report.html").read_text()


def test_starts_are_called_as_the_table_calls_them(dreamer: Path, tmp_path: Path) -> None:
    rows = [f"{policy},00{seed},0" for policy in ("zero", "random") for seed in (3, 4)]
    (tmp_path / "t.csv").write_text("\n".join(["policy,seed,success", *rows]))
    config = replace(SMALL, real=tmp_path / "t.csv")
    summary = evaluate_policies(dreamer, ENV, ["zero", "random"], tmp_path / "out", config)
    assert summary["starts"] == ["003", "004"]
    assert {r["start"] for r in rows_of(tmp_path / "out")} == {"003", "004"}


def test_what_is_unsure_after_an_episode_is_over_is_not_its_own(dreamer: Path) -> None:
    with open_stage(dreamer, ENV, parse_policies(POLICIES), SMALL, "cpu", None) as (stage, _):
        watch = playing._Watch(stage, 3, films=False)
        frames = np.array([[0.9, 0.9, 0.2], [0.1, 0.8, 0.7], [0.1, 0.7, 0.6], [0.1, 0.95, 0.8]])
        last = np.array([1, 4, 4])  # frames of each
        for number, uncertainty in enumerate(frames, start=1):
            watch({}, {"uncertainty": uncertainty}, last >= number)
        shown = Episode(policy="p", start="1", world="world_model", success=False)
        found = [watch.seen(shown, row).uncertainty for row in range(3)]
    assert found == [0.9, 0.7, 0.6]  # 3 in a row are above it, or all that there were


def with_table(path: Path, starts: str) -> Path:
    path.write_text(
        "\n".join(["policy,start,success", *(f"{p},{starts},1" for p in ("zero", "random"))])
    )
    return path


@pytest.mark.parametrize(
    ("env", "policies", "message"),
    [
        (ENV, ["zero", "nobody"], "no policy 'nobody'; give a checkpoint"),
        (ENV, ["zero", "json:dumb"], "policy 'json:dumb': module 'json' has no"),
        (ENV, ["zero", "scripted"], "the policy 'scripted' reads the simulator"),
        ("scd_wm/PushX-v0", ["zero", "random"], "no environment 'scd_wm/PushX-v0'"),
        ("scd_wm/PushT-v0", ["zero", "random"], "does not show 'block_pose'; it shows"),
        ("scd_wm/LiftState-v0", ["zero", "random"], "does not show 'block_pose'"),
        (None, ["zero", "random"], "give both, or an environment"),
        (ENV, ["zero", "tests.policy_evaluation.test_run:Wide"], "Wide': the policy has 7 values"),
        (ENV, ["zero", "tests.policy_evaluation.test_run:Seer"], "reads 'camera', which is not ob"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    env: str | None,
    policies: list[str],
    message: str,
    dreamer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr(playing, "play_imagined", never)
    monkeypatch.setattr(playing, "play", never)
    with pytest.raises(ValueError, match=message):
        evaluate_policies(dreamer, env, policies, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


class Wide:
    """A policy of another robot."""

    action_dim = 7

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Any) -> np.ndarray:
        raise AssertionError("it acted")


class Seer(Wide):
    """A policy that wants a camera."""

    action_dim = 2
    observation_shapes = {"camera": (8, 8, 3)}  # noqa: RUF012  # as policies declare it


def test_tables_and_starts_that_do_not_fit_are_refused(
    dreamer: Path, recording: Path, tmp_path: Path
) -> None:
    def refused(starts: str, message: str, env: str | None = ENV, **changes: Any) -> None:
        real = with_table(tmp_path / "t.csv", starts)
        config = replace(SMALL, real=real, **changes)
        with pytest.raises(ValueError, match=message):
            evaluate_policies(dreamer, env, ["zero", "random"], tmp_path / "out", config)

    refused("demo_0", "starts from 'demo_0', which is no seed of a simulator")
    refused("3", "2 starts or more are needed that are no success yet, got 1")
    refused("demo_9", "from 'demo_9', which is none of the 4 episodes", None, data=recording)
    refused("demo_0", f"starts come from {ENV} or from", data=recording)


def test_a_model_that_predicts_no_success_is_refused(tmp_path: Path) -> None:
    from scd_wm import testing
    from scd_wm.training.checkpoint import save_pretrained

    save_pretrained(testing.model(testing.state_spec()), tmp_path / "model")
    with pytest.raises(ValueError, match=r"does not predict success, only \[\]: train it on data"):
        evaluate_policies(tmp_path / "model", ENV, ["zero", "random"], tmp_path / "out")


def test_a_judge_that_cannot_judge_such_frames_says_so_before_anything_runs(
    dreamer: Path, tmp_path: Path
) -> None:
    class Blind:
        def check(self, spec: Spec) -> None:
            raise ValueError(f"it wants a camera, the world has {list(spec.vectors)}")

        def __call__(self, observation: Mapping[str, Tensor]) -> Tensor:
            raise AssertionError("it judged")

    with pytest.raises(ValueError, match=r"it wants a camera, the world has .'block_pose'"):
        evaluate_policies(dreamer, ENV, POLICIES, tmp_path / "out", SMALL, judge=Blind())


def test_what_another_command_wrote_is_not_replaced(dreamer: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(FileExistsError, match="holds something other than"):
        evaluate_policies(dreamer, ENV, POLICIES, tmp_path, SMALL)


def test_with_cameras_there_are_films_and_a_model_that_knows_its_data_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["evaluate-policies", "push_t_tiny", "scd_wm/PushT-v0", "--policies", "zero"]
    command += ["wild=random", "--episodes", "3", "--max-steps", "4", "--out", str(out)]
    assert main([*command, "--off-data", "0.3", "--off-data-frames", "2"]) == 0
    shown = capsys.readouterr().out
    for text in ("wild", "Pearson", "undefined", "left the data", "report"):
        assert text in shown
    summary = json.loads((out / "summary.json").read_text())
    off = summary["off_data"]
    flagged = [float(r["uncertainty"]) > 0.3 for r in pick(rows_of(out), world="world_model")]
    assert off["flagged"] == sum(flagged) > 0
    for name, row in off["policies"].items():
        assert row["rest"]["real"]["episodes"] == 3 - row["flagged"], name
    page = (out / "report.html").read_text()
    films = re.findall(r"data:video/mp4;base64,([^\"]*)", page)
    assert len(films) == 2  # both worlds agree, of each policy
    frames = decode_mp4(base64.b64decode(films[1]))
    one, two = np.split(frames[:, :, : frames.shape[2] // 2 * 2], 2, axis=2)
    assert one.shape[2] > PANEL_WIDTH  # both worlds are on it, from one start
    inside = np.s_[40:-20, 20:-20]
    assert np.abs(one[0][inside].astype(int) - two[0][inside]).mean() < 8
    assert np.abs(two[4][inside].astype(int) - two[0][inside]).mean() > 0.1
    assert "http" not in page
    assert table(summary)[0].startswith("success")
    assert gym.registry  # the simulator's own is untouched
