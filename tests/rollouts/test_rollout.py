"""Rolling policies out: the same numbers by either loop, honest starts, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm import testing
from scd_wm.cli import main
from scd_wm.cloning.config import PolicyConfig
from scd_wm.cloning.run import train_policy
from scd_wm.commands import policies
from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.policies.batched import FromFunction
from scd_wm.rollouts.policies import load_policy
from scd_wm.rollouts.run import Engine, RolloutConfig, imagine_all, rollout_run
from scd_wm.rollouts.worlds import honest_starts, is_world_model, open_imagination, recorded_limit
from scd_wm.training.checkpoint import save_pretrained
from tests.robomimic_checkpoints import needs_robomimic, write_checkpoint

ENV_ARGS = {"env_name": "scd_wm/Lift-v0", "type": 2, "env_kwargs": {}}


def centre(observation: dict[str, Tensor]) -> Tensor:
    """Push towards where values are 0."""
    return -observation["pos"].clamp(-1, 1)


class Still:
    """A policy of a user's own."""

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.zeros((len(next(iter(observation.values()))), 2), np.float32)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that does something and ends no episode, and four episodes to start from."""
    folder, random = tmp_path_factory.mktemp("endless"), np.random.default_rng(0)
    with RobomimicWriter(folder / "data.hdf5", ENV_ARGS) as writer:
        for _ in range(4):
            images = random.integers(0, 256, (7, 16, 16, 3), np.uint8)
            frames = {"top": images, "pos": random.normal(size=(7, 2)).astype(np.float32)}
            actions = random.uniform(-1, 1, (6, 2)).astype(np.float32)
            writer.add_episode(frames, actions, random.uniform(0, 1, 6))
    spec = open_dataset(folder / "data.hdf5").spec()
    save_pretrained(testing.model(spec), folder / "model")
    return folder / "model", folder / "data.hdf5"


def read_rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "episodes.csv").read_text().splitlines()))


def imagined(data: Path | None, **changes: Any) -> RolloutConfig:
    return RolloutConfig(**{"episodes": 3, "seed": 4, "max_steps": 4, "data": data, **changes})


@pytest.mark.parametrize("algo", ["bc", "bc-rnn", "bc-transformer"])
@needs_robomimic[0]
@pytest.mark.filterwarnings("ignore")  # of robomimic's and its dependencies' own
def test_robomimic_s_loop_and_ours_agree_in_imagination(
    algo: Any, endless: tuple[Path, Path], tmp_path: Path
) -> None:
    checkpoint, (model, data) = tmp_path / "p.pth", endless
    train_policy(data, checkpoint, PolicyConfig(algo=algo, steps=2, batch_size=4, hidden=8))
    found = {}
    for engine in policies.ENGINES:
        config = imagined(data, engine=engine, history=2, videos=2)
        out = tmp_path / engine
        found[engine] = rollout_run(str(checkpoint), str(model), out, config)
        assert (out / "episodes.mp4").stat().st_size > 1000
    ours, theirs = (read_rows(tmp_path / engine) for engine in policies.ENGINES)
    for one, other in zip(ours, theirs, strict=True):
        for name in ("start", "seed", "success", "num_steps"):
            assert one[name] == other[name]
        assert float(one["total_reward"]) == pytest.approx(float(other["total_reward"]), abs=1e-3)
    assert len({row["total_reward"] for row in ours}) == 3  # they are different episodes
    assert found["robomimic"]["kind"] == "imagination"


@needs_robomimic[0]
@pytest.mark.filterwarnings("ignore")  # of robomimic's and its dependencies' own
def test_robomimic_s_loop_and_ours_agree_in_a_simulator(tmp_path: Path) -> None:
    given: dict[str, Any] = {"vectors": {"pusher_pos": 2, "block_pose": 4}, "action_dim": 2}
    path = write_checkpoint(tmp_path / "p.pth", "bc-rnn-gmm", **given)
    rows = []
    for engine in policies.ENGINES:
        config = imagined(None, engine=engine, videos=1)
        rollout_run(str(path), "scd_wm/PushTState-v0", tmp_path / engine, config)
        rows.append(read_rows(tmp_path / engine))
        assert (tmp_path / engine / "episodes.mp4").stat().st_size > 1000
    for one, other in zip(*rows, strict=True):
        assert one["seed"] == other["seed"]
        assert float(one["total_reward"]) == pytest.approx(float(other["total_reward"]), abs=1e-5)


def test_the_command_says_what_came_of_it(
    small_run: Path, robot_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["rollout", "random", str(small_run), "--data", str(robot_file), "--max-steps", "3"]
    assert main([*command, "--episodes", "5", "--out", str(out), "--seed", "7"]) == 0
    shown = capsys.readouterr().out
    for text in ("rolled out random", "success", "mean return", "7 to 11", "num_starts"):
        assert text in shown
    summary = json.loads((out / "summary.json").read_text())
    low, high = summary["success_interval"]
    assert 0 <= low <= summary["success_rate"] <= high <= 1
    assert summary["seeds"] == [7, 8, 9, 10, 11]
    rows = read_rows(out)
    assert [row["seed"] for row in rows] == ["7", "8", "9", "10", "11"]
    assert [row["start"] for row in rows] == summary["starts"]
    assert summary["num_starts"] == len(set(summary["starts"])) < 5  # those held out, again
    assert summary["max_steps"] == 3


def test_an_imagined_episode_does_not_depend_on_those_beside_it(
    endless: tuple[Path, Path],
) -> None:
    policy, (model, data) = FromFunction(centre), endless
    arguments: dict[str, Any] = {"data": data, "max_steps": 4, "history": 2}
    many, _ = imagine_all(policy, open_imagination(str(model), 3, 5, **arguments))
    alone, films = imagine_all(policy, open_imagination(str(model), 1, 5, **arguments), 1)
    assert many[0].total_reward == pytest.approx(alone[0].total_reward, abs=1e-4)
    assert many[1].total_reward != pytest.approx(alone[0].total_reward, abs=1e-3)
    assert len(films[0]) == alone[0].num_steps + 1 == 5
    assert films[0][0].shape == (16, 16, 3)


@pytest.mark.parametrize("name", ["zero", "random", "tests.rollouts.test_rollout:Still"])
def test_policies_by_name_and_of_one_s_own_act_in_both_worlds(
    name: str, small_run: Path, robot_file: Path, tmp_path: Path
) -> None:
    config = imagined(robot_file)
    first = rollout_run(name, str(small_run), tmp_path / "a", config)
    config = RolloutConfig(episodes=2, max_steps=4, videos=0)
    second = rollout_run(name, "scd_wm/PushTState-v0", tmp_path / "b", config)
    assert (first["kind"], second["kind"]) == ("imagination", "simulator")
    assert first["engine"] == "scd_wm"
    assert not (tmp_path / "b" / "episodes.mp4").exists()
    if name != "random":  # standing still is no different from itself
        zero = rollout_run("zero", "scd_wm/PushTState-v0", tmp_path / "c", config)
        assert second["mean_total_reward"] == zero["mean_total_reward"]


def test_the_expert_solves_the_simulator_and_is_refused_in_imagination(tmp_path: Path) -> None:
    config = RolloutConfig(episodes=1, videos=0)
    summary = rollout_run("expert", "scd_wm/LiftState-v0", tmp_path / "a", config)
    assert summary["success"] == 1
    assert summary["mean_steps"] < 100
    message = "'expert' reads the simulator, .* distil it first: .* scd-wm train-policy"
    with pytest.raises(ValueError, match=message):
        rollout_run("expert", "lift_tiny", tmp_path / "b", config)
    assert not (tmp_path / "b").exists()


@needs_robomimic[0]
@pytest.mark.filterwarnings("ignore")  # of robomimic's and its dependencies' own
def test_a_policy_that_reads_what_is_not_there_is_refused_before_anything_runs(
    small_run: Path, robot_file: Path, tmp_path: Path
) -> None:
    path = str(write_checkpoint(tmp_path / "p.pth", vectors={"pos": 2, "cube": 3}))
    config = imagined(robot_file)
    message = "the policy reads 'cube', which is not observed; there are .'pos', 'top'"
    with pytest.raises(ValueError, match=message):
        rollout_run(path, str(small_run), tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


def test_starts_that_are_a_success_already_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.hdf5"
    with RobomimicWriter(path, ENV_ARGS) as writer:
        for at in (0, 2, 1):  # step in which the task is solved: it shows in the frame after
            success = np.arange(4) == at
            writer.add_episode(
                {"x": np.zeros((5, 2), np.float32)}, np.zeros((4, 2)), None, None, success
            )
    dataset = open_dataset(path)
    assert honest_starts(dataset, 1) == ([0, 1, 2], [])
    assert honest_starts(dataset, 2) == ([1, 2], ["demo_0"])
    assert honest_starts(dataset, 3) == ([1], ["demo_0", "demo_2"])
    with pytest.raises(ValueError, match=r"no episode of .* has 9 frames that are no success yet"):
        honest_starts(dataset, 9)
    assert recorded_limit(dataset) == 100  # of Lift


@pytest.mark.parametrize(
    ("policy", "world", "changes", "message"),
    [
        (
            "nobody",
            "scd_wm/PushTState-v0",
            {},
            "no policy 'nobody'; give a checkpoint of robomimic",
        ),
        ("json:dumb", "scd_wm/PushTState-v0", {}, "policy 'json:dumb': module 'json' has no"),
        ("math:pi", "scd_wm/PushTState-v0", {}, "is a float, which cannot be called"),
        ("zero", "scd_wm/PushX-v0", {}, "no environment 'scd_wm/PushX-v0'; did you mean"),
        ("zero", "scd_wm/PushTState-v0", {"engine": "robomimic"}, "plays its checkpoints only"),
        ("zero", "scd_wm/PushTState-v0", {"data": Path("d")}, "for starts in imagination"),
    ],
)
def test_what_cannot_be_rolled_out_says_why(
    policy: str, world: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        rollout_run(policy, world, tmp_path / "out", RolloutConfig(episodes=1, **changes))
    assert not (tmp_path / "out").exists()


def test_worlds_are_told_apart(small_run: Path) -> None:
    assert is_world_model("lift_tiny")
    assert is_world_model(str(small_run))
    assert not is_world_model("scd_wm/Lift-v0")
    assert not is_world_model("CartPole-v1")
    with pytest.raises(FileNotFoundError, match="no run folder runs/none, and no environment"):
        is_world_model("runs/none")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint none\.pth"):
        rollout_run("none.pth", "lift_tiny", "out")


def test_numbers_out_of_range_are_refused() -> None:
    for name, least in (("episodes", 1), ("history", 1), ("seed", 0), ("videos", 0)):
        changes: dict[str, Any] = {name: least - 1}
        with pytest.raises(ValueError, match=f"{name} must be"):
            RolloutConfig(**changes)
    with pytest.raises(ValueError, match="engine must be one of"):
        RolloutConfig(engine="theirs")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="max_steps must be 1 or more, got 0"):
        RolloutConfig(max_steps=0)


def test_the_engines_of_the_command_are_all_that_there_are() -> None:
    assert get_args(Engine) == policies.ENGINES


def chunks(seen: dict[str, torch.Tensor]) -> torch.Tensor:
    """A policy that is named below: the actions of three steps at once."""
    steps = torch.arange(3.0)[:, None] / 10
    return steps.expand(len(seen["pusher_pos"]), 3, 2)


def test_a_policy_of_one_s_own_may_return_chunks() -> None:
    policy = load_policy(f"{__name__}:chunks", "cpu")
    assert policy is not None
    policy.reset(0)
    seen = {"pusher_pos": np.zeros((2, 2), np.float32)}
    played = np.stack([policy.act(seen) for _ in range(4)])
    np.testing.assert_allclose(played[:, 0, 0], [0, 0.1, 0.2, 0], atol=1e-7)
    assert played.shape == (4, 2, 2)
