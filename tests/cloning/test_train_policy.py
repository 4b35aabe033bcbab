"""Behaviour cloning: a genuine checkpoint of robomimic, from any data, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from scd_wm.cli import main
from scd_wm.cloning.config import BACKBONES, STEPS, PolicyConfig
from scd_wm.cloning.held_out import HeldOut
from scd_wm.cloning.run import train_policy
from scd_wm.commands import policies
from scd_wm.convert.run import convert
from scd_wm.datasets.options import DataOptions
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.policies.batched import check_policy
from scd_wm.policies.robomimic_policy import RobomimicPolicy, read_checkpoint
from scd_wm.robomimic_setup import OBS_UTILS, load_robomimic, quiet
from tests.robomimic_checkpoints import needs_robomimic

pytestmark = needs_robomimic
QUICK: dict[str, Any] = {"steps": 3, "batch_size": 4, "hidden": 8}
NUMBERS = DataOptions(cameras=())
ENV_ARGS = {"env_name": "test", "type": 2, "env_kwargs": {}}


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes whose actions are a function of what is seen."""
    path, random = tmp_path_factory.mktemp("data") / "linear.hdf5", np.random.default_rng(0)
    with RobomimicWriter(path, ENV_ARGS) as writer:
        for number in range(6):
            pos = random.normal(size=(21, 2)).astype(np.float32) * 0.05 + 3
            actions = np.clip((pos[:-1] - 3) * [10, -10], -1, 1)
            writer.add_episode({"pos": pos}, actions, success=number % 2 == 0)
    return path


def test_a_value_that_hardly_or_never_varies_is_not_blown_up() -> None:
    from scd_wm.cloning.data import LEAST_SHARE, STD_FLOOR, vector_stats

    # Deviations: none, 1, 0.0005 and 0.2.
    rows = np.array([[1, 0, 5, 0], [1, 2, 5.001, 0.4]])
    items = SimpleNamespace(demos=["a"], hdf5_cache={"a": {"obs": {"pos": rows}}})
    stats = vector_stats(items, {"pos": (4,)})["pos"]
    np.testing.assert_allclose(stats["mean"], [[1, 1, 5.0005, 0.2]])
    np.testing.assert_allclose(stats["std"], [[1, 1 + STD_FLOOR, LEAST_SHARE, 0.2 + STD_FLOOR]])


@pytest.mark.parametrize("algo", STEPS)
def test_robomimic_loads_the_checkpoint_and_acts_the_same(
    algo: Any, robot_file: Path, tmp_path: Path
) -> None:
    out, stdout = tmp_path / "p.pth", sys.stdout
    summary = train_policy(robot_file, out, PolicyConfig(algo=algo, **QUICK))
    assert sys.stdout is stdout
    assert summary["observations"] == "pos, top"
    assert (summary["steps"], summary["episodes"], summary["sequences"]) == (3, 4, 48)
    load_robomimic("robomimic.utils.file_utils")
    from robomimic.utils import file_utils

    with quiet():
        theirs, _ = file_utils.policy_from_checkpoint(device="cpu", ckpt_path=str(out))
    theirs.start_episode()
    ours = RobomimicPolicy.load(out)
    pos, top = np.array([[0.3, -0.2]], np.float32), np.full((1, 16, 16, 3), 99, np.uint8)
    seen = {"pos": pos[0], "top": top[0].transpose(2, 0, 1).astype(np.float32) / 255}
    if ours.num_stacked > 1:
        seen = {k: np.stack([v] * ours.num_stacked) for k, v in seen.items()}
    np.testing.assert_allclose(ours.act({"pos": pos, "top": top})[0], theirs(seen), atol=1e-6)


def test_it_learns_what_is_there_to_learn(linear: Path, tmp_path: Path) -> None:
    config = PolicyConfig(steps=400, batch_size=64, hidden=64)
    summary = train_policy(linear, tmp_path / "p.pth", config)
    assert summary["last_loss"] < 0.05 * summary["first_loss"]
    policy = RobomimicPolicy.load(tmp_path / "p.pth")
    seen = np.array([[3.04, 3.0], [3.0, 2.96]], np.float32)
    np.testing.assert_allclose(policy.act({"pos": seen}), [[0.4, 0], [0, 0.4]], atol=0.1)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes whose actions cannot be told from what is seen, only learnt by heart."""
    path, random = tmp_path_factory.mktemp("data") / "noise.hdf5", np.random.default_rng(0)
    with RobomimicWriter(path, ENV_ARGS) as writer:
        for _ in range(6):
            pos = random.normal(size=(11, 4)).astype(np.float32)
            writer.add_episode({"pos": pos}, random.uniform(-1, 1, (10, 2)))
    return path


def test_the_held_out_loss_tells_learning_from_learning_by_heart(
    linear: Path, noise: Path, tmp_path: Path
) -> None:
    config = PolicyConfig(steps=400, batch_size=64, hidden=64, held_out=0.3)
    learnt, by_heart = (
        train_policy(data, tmp_path / "p.pth", config, overwrite=True) for data in (linear, noise)
    )
    assert (learnt["episodes"], learnt["held_out_episodes"]) == (4, 2)
    assert learnt["held_out_loss"] < 0.1 * learnt["held_out_losses"][0][1]
    assert by_heart["last_loss"] < 0.5 * by_heart["first_loss"]
    assert by_heart["held_out_loss"] > by_heart["least_held_out_loss"]
    assert by_heart["step_of_least_held_out_loss"] < 400
    steps = [step for step, _ in by_heart["held_out_losses"]]
    assert steps == list(range(0, 401, 40))


def test_measuring_the_held_out_loss_changes_nothing(
    linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PolicyConfig(algo="bc-transformer", gmm=True, held_out=0.3, **QUICK)
    with_it = train_policy(linear, tmp_path / "a.pth", config)
    monkeypatch.setattr(HeldOut, "is_due", lambda *_: False)
    without = train_policy(linear, tmp_path / "b.pth", config)
    assert "held_out_loss" not in without
    assert without["last_loss"] == with_it["last_loss"]
    first, second = weights(tmp_path / "a.pth"), weights(tmp_path / "b.pth")
    for name, values in first.items():
        assert torch.equal(second[name], values), name


def test_a_mixture_is_judged_with_the_widths_that_it_has_learnt(
    linear: Path, tmp_path: Path
) -> None:
    config = PolicyConfig(algo="bc-rnn", gmm=True, held_out=0.3, **QUICK)
    summary = train_policy(linear, tmp_path / "p.pth", config)
    # With the widths that it acts with, the same actions would be a thousand times less likely.
    assert summary["held_out_loss"] == pytest.approx(summary["last_loss"], abs=1)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)["model"]


def test_any_data_trains_the_same_policy_as_robomimic_s_file(
    robot_file: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    convert(robot_file, store)
    config = PolicyConfig(algo="bc-rnn", gmm=True, **QUICK)
    for data, out in ((robot_file, "a.pth"), (store, "b.pth")):
        train_policy(data, tmp_path / out, config)
    first, second = weights(tmp_path / "a.pth"), weights(tmp_path / "b.pth")
    assert first.keys() == second.keys()
    for name, values in first.items():
        torch.testing.assert_close(second[name], values, rtol=0, atol=0)


def test_cut_beforehand_or_loaded_one_by_one_sequences_are_the_same(
    robot_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import scd_wm.cloning.run as module
    from scd_wm.cloning.config import robomimic_config
    from scd_wm.cloning.data import file_of, in_memory
    from scd_wm.datasets.dataset import open_dataset
    from scd_wm.robomimic_setup import ObsRegistry

    load_robomimic(*module.MODULES)
    dataset = open_dataset(robot_file)
    settings = robomimic_config(PolicyConfig(algo="bc-rnn"), dataset, robot_file)
    file, demos = file_of(dataset, Path("nowhere"))
    assert file == robot_file  # read as it is
    seen = []
    with ObsRegistry.of(settings).active(), quiet():
        items = in_memory(settings, file, demos)
        for limit in (2**30, 0):
            monkeypatch.setattr(module, "SEQUENCE_BYTES", limit)
            batches = module._batches(items, len(items), seed=0)
            batch = next(batches)
            order = np.lexsort(batch["actions"].flatten(1).numpy().T)
            seen.append({"actions": batch["actions"][order], "top": batch["obs"]["top"][order]})
    assert seen[0]["top"].shape == (48, 10, 16, 16, 3)
    for key, values in seen[0].items():
        torch.testing.assert_close(seen[1][key], values, rtol=0, atol=0)


def test_options_choose_what_is_seen(robot_file: Path, linear: Path, tmp_path: Path) -> None:
    smaller = DataOptions(image_size=8, rename={"pos": "arm/pos"}, frame_skip=2)
    train_policy(robot_file, tmp_path / "a.pth", PolicyConfig(**QUICK), options=smaller)
    policy = RobomimicPolicy.load(tmp_path / "a.pth")
    assert policy.observation_shapes == {"arm_pos": (2,), "top": (8, 8, 3)}
    assert policy.action_dim == 4  # of two steps
    only = DataOptions(only_success=True)
    summary = train_policy(linear, tmp_path / "b.pth", PolicyConfig(**QUICK), options=only)
    assert summary["episodes"] == 3
    few = PolicyConfig(episodes=2, algo="bc", epochs=2, batch_size=8)
    summary = train_policy(linear, tmp_path / "c.pth", few)
    assert (summary["episodes"], summary["sequences"], summary["steps"]) == (2, 40, 10)


def test_the_command_writes_checkpoint_and_summary_and_leaves_robomimic_as_it_was(
    robot_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_robomimic(OBS_UTILS)
    before = sys.modules[OBS_UTILS].OBS_KEYS_TO_MODALITIES
    state = torch.random.get_rng_state()
    out = tmp_path / "p.pth"
    command = ["train-policy", str(robot_file), "--out", str(out), "--cameras", "none"]
    assert main([*command, "--minutes", "0.001"]) == 0
    shown = capsys.readouterr().out
    assert f"trained {out}" in shown
    assert "last_loss" in shown
    assert json.loads((tmp_path / "p.summary.json").read_text())["observations"] == "pos"
    assert sys.modules[OBS_UTILS].OBS_KEYS_TO_MODALITIES is before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert main(command) == 2
    assert "exists; choose another path" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.pth", "p.summary.json"]


def test_what_cannot_be_trained_says_why(robot_file: Path, tmp_path: Path) -> None:
    far = tmp_path / "far.hdf5"
    with RobomimicWriter(far, ENV_ARGS) as writer:
        writer.add_episode({"pos": np.zeros((4, 2), np.float32)}, np.full((3, 2), 2.5))
    with pytest.raises(ValueError, match=r"actions of .*far\.hdf5 reach 2\.5; .* between -1 and 1"):
        train_policy(far, tmp_path / "p.pth")
    with pytest.raises(ValueError, match="has 4 episodes to choose from, asked for are 9"):
        train_policy(robot_file, tmp_path / "p.pth", PolicyConfig(episodes=9))
    with pytest.raises(KeyError, match="side"):
        train_policy(robot_file, tmp_path / "p.pth", options=DataOptions(cameras=["side"]))
    assert not (tmp_path / "p.pth").exists()


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    path = tmp_path / "d.hdf5"
    with RobomimicWriter(path, ENV_ARGS) as writer:
        writer.add_episode({"pos": np.full((4, 2), 1e38, np.float32)}, np.zeros((3, 2)))
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/pos"][1:] = -3e38
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="the loss of step 1"):
        train_policy(path, tmp_path / "p.pth", PolicyConfig(algo="bc-transformer", steps=2))
    assert not (tmp_path / "p.pth").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"algo": "dagger"},
            "algo must be one of .'bc', 'bc-rnn', 'bc-transformer'., got 'dagger'",
        ),
        ({"backbone": "vit"}, "backbone must be one of"),
        ({"steps": 1, "minutes": 2}, "give one of .*, got .'steps', 'minutes'"),
        ({"hidden": 0}, "hidden must be above 0, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyConfig(**changes)


def test_the_choices_of_the_command_are_all_that_there_are() -> None:
    assert tuple(STEPS) == policies.ALGOS
    assert tuple(BACKBONES) == policies.BACKBONES


def test_names_that_robomimic_cannot_have_are_matched_when_it_acts(tmp_path: Path) -> None:
    data, random = tmp_path / "data.hdf5", np.random.default_rng(0)
    with RobomimicWriter(data, ENV_ARGS) as writer:
        for _ in range(2):
            seen = {
                name: random.normal(size=(9, 2)).astype(np.float32)
                for name in ("observation.state", "robot0.pos")
            }
            writer.add_episode(seen, random.uniform(-1, 1, (8, 2)), success=False)
    assert train_policy(data, tmp_path / "p.pth", PolicyConfig(**QUICK))["steps"] == 3
    policy = RobomimicPolicy.load(tmp_path / "p.pth")
    assert {*policy.observation_shapes} == {"observation_state", "robot0_pos"}
    shown = {name: values[:1] for name, values in seen.items()}
    flat = {name.replace(".", "_"): values for name, values in shown.items()}
    expected = policy.act(flat)
    policy.reset(0)
    np.testing.assert_array_equal(policy.act(shown), expected)
    space = Dict({name: Box(-9, 9, (2,)) for name in shown})
    check_policy(policy, space, Box(-1, 1, (2,)))


def test_crops_are_smaller_than_the_images(robot_file: Path, tmp_path: Path) -> None:
    config = PolicyConfig(crop=16, **QUICK)
    with pytest.raises(ValueError, match="smaller than the images, whose least side is 16, got 16"):
        train_policy(robot_file, tmp_path / "p.pth", config)


def test_however_short_the_time_a_step_is_taken(linear: Path, tmp_path: Path) -> None:
    config = PolicyConfig(minutes=1e-9, batch_size=4, hidden=8)
    assert train_policy(linear, tmp_path / "p.pth", config)["steps"] == 1
