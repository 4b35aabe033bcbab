"""Checkpoints of robomimic act as they do in robomimic, many at once, beside each other."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scd_wm.policies.robomimic_policy import RobomimicPolicy, read_checkpoint
from scd_wm.robomimic_setup import OBS_UTILS, load_robomimic, quiet
from tests.robomimic_checkpoints import (
    HORIZON,
    KINDS,
    needs_robomimic,
    observations,
    write_checkpoint,
)

pytestmark = needs_robomimic
VECTORS = {"a": 2, "b": 4}
CAMERAS = {"top": (16, 24)}
STEPS = 2 * HORIZON + 1


def robomimic_alone(path: Path, seen: list[dict[str, np.ndarray]], stacked: int) -> np.ndarray:
    """Return the actions of robomimic's own policy, fed as its own environments feed it."""
    load_robomimic("robomimic.utils.file_utils")
    from robomimic.utils import file_utils

    with quiet():
        policy, _ = file_utils.policy_from_checkpoint(device="cpu", ckpt_path=str(path))
    policy.start_episode()
    frames = [
        {
            k: v[0].astype(np.float32).transpose(2, 0, 1) / 255 if v[0].ndim == 3 else v[0]
            for k, v in observation.items()
        }
        for observation in seen
    ]
    actions = []
    for t, frame in enumerate(frames):
        if stacked > 1:
            past = [frames[max(0, t - back)] for back in reversed(range(stacked))]
            frame = {k: np.stack([f[k] for f in past]) for k in frame}
        actions.append(policy(ob=dict(frame)))
    return np.stack(actions)


def actions_of(policy: RobomimicPolicy, seen: list[dict[str, np.ndarray]], seed: int) -> np.ndarray:
    """Return the actions of an episode, (steps, B, A)."""
    policy.reset(seed)
    return np.stack([policy.act(observation) for observation in seen])


def rows(seen: list[dict[str, np.ndarray]], row: int) -> list[dict[str, np.ndarray]]:
    return [{k: v[row : row + 1] for k, v in observation.items()} for observation in seen]


@pytest.mark.parametrize(
    ("kind", "cameras"),
    [(kind, {}) for kind in KINDS if kind != "bc-gaussian"]
    + [("bc", CAMERAS), ("bc-rnn", CAMERAS), ("bc-transformer", CAMERAS)],
)
def test_it_acts_as_robomimic_s_own_policy_does(
    kind: str, cameras: Mapping[str, tuple[int, int]], tmp_path: Path
) -> None:
    # One mode, so that what is drawn at random is the mean but for 1e-4.
    path = write_checkpoint(tmp_path / "p.pth", kind, vectors=VECTORS, cameras=cameras, modes=1)
    policy = RobomimicPolicy.load(path)
    seen = observations(STEPS, 1, VECTORS, cameras)
    expected = robomimic_alone(path, seen, policy.num_stacked)
    tolerance = 1e-3 if "gmm" in kind else 1e-5
    np.testing.assert_allclose(actions_of(policy, seen, 0)[:, 0], expected, atol=tolerance)
    assert np.ptp(expected, axis=0).min() > 0.02  # what is seen matters


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_acts_as_it_would_alone_with_its_own_seed(kind: str, tmp_path: Path) -> None:
    policy = RobomimicPolicy.load(write_checkpoint(tmp_path / "p.pth", kind))
    seen = observations(STEPS, 3, VECTORS, {})
    together = actions_of(policy, seen, 5)
    assert together.dtype == np.float32
    for row in range(3):
        alone = actions_of(policy, rows(seen, row), 5 + row)
        np.testing.assert_allclose(together[:, row], alone[:, 0], atol=1e-5)
    np.testing.assert_array_equal(actions_of(policy, seen, 5), together)
    if kind in ("bc-gaussian", "bc-gmm", "bc-rnn-gmm", "transformer-gmm"):
        assert np.abs(actions_of(policy, seen, 6) - together).max() > 0.01


def test_a_mixture_is_drawn_from_with_its_own_probabilities(tmp_path: Path) -> None:
    policy = RobomimicPolicy.load(write_checkpoint(tmp_path / "p.pth", "bc-gmm", modes=3))
    (one,) = observations(1, 1, VECTORS, {})
    many = {k: np.repeat(v, 4000, axis=0) for k, v in one.items()}
    ours = policy.act(many)
    with policy.registry.active(), torch.no_grad():
        tensors = {k: torch.from_numpy(v) for k, v in many.items()}
        network = policy.algo.nets["policy"]
        theirs = type(network).forward_train(network, tensors).sample().numpy()
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=0.06)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), atol=0.06)
    assert ours.std(axis=0).min() > 0.1


def test_normalised_observations_are_normalised(tmp_path: Path) -> None:
    given: dict[str, Any] = {"vectors": VECTORS, "cameras": CAMERAS}
    path = write_checkpoint(tmp_path / "p.pth", "bc-rnn", normalised=True, **given)
    seen = observations(STEPS, 1, **given)
    policy = RobomimicPolicy.load(path)
    ours = actions_of(policy, seen, 0)[:, 0]
    np.testing.assert_allclose(ours, robomimic_alone(path, seen, 1), atol=1e-5)
    plain = RobomimicPolicy.load(write_checkpoint(tmp_path / "plain.pth", "bc-rnn", **given))
    assert np.abs(actions_of(plain, seen, 0)[:, 0] - ours).max() > 0.01


def as_of_0_5(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint in the layout of robomimic 0.5, whose actions are normalised."""
    config = json.loads(checkpoint["config"])
    config["train"] |= {"action_keys": ["grip", "move"], "data": [{"path": "x.hdf5"}]}
    config["train"]["action_config"] = {"grip": {"normalization": None}, "move": {"format": None}}
    optimizers: dict[str, Any] = {"optimizers": {}, "lr_schedulers": {}}
    return {
        **checkpoint,
        "config": json.dumps(config),
        "model": {"nets": checkpoint["model"], **optimizers},
        "variable_state": {},
        "obs_normalization_stats": {"a": {"offset": [[1.0, 2.0]], "scale": [[2.0, 4.0]]}},
        "action_normalization_stats": {
            "move": {"scale": [[10.0]], "offset": [[3.0]]},
            "grip": {"scale": [[0.5]], "offset": [[-1.0]]},
        },
    }


def test_a_checkpoint_of_0_5_acts_in_the_units_of_its_data(tmp_path: Path) -> None:
    old = read_checkpoint(write_checkpoint(tmp_path / "p.pth"))
    torch.save(as_of_0_5(old), tmp_path / "new.pth")
    (seen,) = observations(1, 3, VECTORS, {})
    normal = {**seen, "a": (seen["a"] - [1, 2]) / [2, 4]}
    expected = RobomimicPolicy(old).act(normal) * [0.5, 10] + [-1, 3]
    new = RobomimicPolicy.load(tmp_path / "new.pth")
    np.testing.assert_allclose(new.act(seen), expected, atol=1e-5)
    assert new.act(seen).dtype == np.float32
    rollout = new.rollout_policy()
    rollout.obs_normalization_stats = None  # robomimic 0.3 wants them of all or none
    action = rollout({k: v[0] for k, v in normal.items()})
    np.testing.assert_allclose(action, expected[0], atol=1e-5)


def test_two_policies_that_disagree_on_a_name_act_in_one_process(tmp_path: Path) -> None:
    load_robomimic(OBS_UTILS)
    obs_utils = sys.modules[OBS_UTILS]
    with quiet():
        obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["mine"]}})
    before = obs_utils.OBS_KEYS_TO_MODALITIES
    sees: dict[str, Any] = {"vectors": {"a": 2}, "cameras": {"x": (16, 24)}}
    feels: dict[str, Any] = {"vectors": {"a": 2, "x": 3}, "cameras": {}}
    first, second = (
        RobomimicPolicy.load(write_checkpoint(tmp_path / "p.pth", "bc", **given))
        for given in (sees, feels)
    )
    alone = RobomimicPolicy.load(write_checkpoint(tmp_path / "p.pth", "bc", **sees))
    for one, other in zip(observations(2, 2, **sees), observations(2, 2, **feels), strict=True):
        np.testing.assert_array_equal(first.act(one), alone.act(one))
        assert second.act(other).shape == (2, 2)
    assert obs_utils.OBS_KEYS_TO_MODALITIES is before
    assert dict(before) == {"mine": "low_dim"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top": None}, "the policy reads 'top', which is not observed; there are .'a', 'b'"),
        ({"top": np.zeros((1, 3, 16, 24), np.uint8)}, r"'top' must be \(B, 16, 24, 3\), got"),
        ({"top": np.zeros((1, 16, 24, 3), np.float32)}, "'top' must be uint8, 0 to 255, got float"),
        ({"a": np.zeros((1, 3), np.float32)}, r"'a' must be \(B, 2,\), got \(1, 3\)"),
    ],
)
def test_observations_of_another_kind_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path / "p.pth", vectors=VECTORS, cameras=CAMERAS)
    policy = RobomimicPolicy.load(path)
    assert policy.observation_shapes == {"a": (2,), "b": (4,), "top": (16, 24, 3)}
    assert policy.action_dim == 2
    seen = observations(1, 1, VECTORS, CAMERAS)[0] | change
    with pytest.raises(ValueError, match=message):
        policy.act({k: v for k, v in seen.items() if v is not None})


def changed(checkpoint: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """Return a checkpoint whose configuration says something else at a dotted place."""
    config = json.loads(checkpoint["config"])
    *groups, name = where.split(".")
    place = config
    for group in groups:
        place = place[group]
    place[name] = value
    return {**checkpoint, "config": json.dumps(config)}


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("algo.vae.enabled", True, "is a BC-VAE, which cannot act here; behaviour cloning"),
        ("observation.modalities.goal.low_dim", ["a"], "wants pictures or values of a goal"),
        ("observation.modalities.obs.depth", ["d"], r"reads \{'depth': \['d'\]"),
        ("train.frame_stack", 4, "stacks 4 frames without a transformer"),
        ("train.action_config", {"r": {"format": "rot_6d"}}, r"rotations in six numbers in \['r'"),
        ("algo.actor_layer_dims", [17], "its weights do not fit the networks"),
    ],
)
def test_what_cannot_act_here_says_why(
    where: str, value: Any, message: str, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "p.pth"))
    with pytest.raises(ValueError, match=message) as caught:
        RobomimicPolicy(changed(checkpoint, where, value), source="x.pth")
    assert "x.pth" in str(caught.value)
    with pytest.raises(ValueError, match="of robomimic's 'bcq', which cannot act here"):
        RobomimicPolicy({**checkpoint, "algo_name": "bcq"})


class Runs:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was_run"),))


def test_files_that_are_no_checkpoints_are_refused_and_no_code_in_them_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Runs()}, "code.pth")
    Path("text.pth").write_text("not a checkpoint")
    Path("pickle.pth").write_bytes(pickle.dumps({"model": 1}))
    torch.save({"model": {}}, "part.pth")
    for name in ("code.pth", "text.pth", "pickle.pth"):
        with pytest.raises(ValueError, match=f"{name} is no checkpoint of robomimic"):
            read_checkpoint(name)
    with pytest.raises(ValueError, match=r"it has no \['config', 'algo_name', 'shape_metadata'\]"):
        read_checkpoint("part.pth")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint none\.pth"):
        read_checkpoint("none.pth")
    assert not Path("was_run").exists()


def test_without_robomimic_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "p.pth")
    monkeypatch.setitem(sys.modules, "robomimic.algo", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'scd-wm\[robomimic\]'") as caught:
        RobomimicPolicy.load(path)
    assert caught.value.name == "robomimic"


@pytest.mark.parametrize("key", ["backbone_class", "pool_class"])
def test_a_class_that_is_more_than_a_name_is_refused_and_not_run(key: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "p.pth", cameras=CAMERAS, vectors=VECTORS)
    checkpoint, ran = read_checkpoint(path), tmp_path / "ran"
    config = json.loads(checkpoint["config"])
    text = f"[__import__('pathlib').Path({str(ran)!r}).touch(), ShallowConv][1]"
    config["observation"]["encoder"]["rgb"]["core_kwargs"][key] = text
    with pytest.raises(ValueError, match=f"has as {key} .* which is no name of a class"):
        RobomimicPolicy({**checkpoint, "config": json.dumps(config)})
    assert not ran.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": "{"}, "its config is not JSON"),
        ({"shape_metadata": {}}, "shape_metadata lacks"),
    ],
)
def test_a_damaged_checkpoint_is_named(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path / "p.pth")
    torch.save({**read_checkpoint(path), **changes}, path)
    with pytest.raises(ValueError, match=rf"p\.pth is no checkpoint of robomimic: {message}"):
        read_checkpoint(path)
