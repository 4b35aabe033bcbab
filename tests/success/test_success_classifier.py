"""A classifier that tells success from a frame: it learns, is calibrated, and can be kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import scd_wm
from scd_wm import testing
from scd_wm.cli import main
from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.spec import CameraSpec, Spec, VectorSpec
from scd_wm.success.classifier import (
    ClassifierConfig,
    SuccessClassifier,
    SuccessNetwork,
    load_success_classifier,
    network_inputs,
    save_success_classifier,
)
from scd_wm.success.fit import fit_success_classifier, labelled_frames, split_by_success
from scd_wm.success.training import ClassifierTraining, degrade, train_classifier

SPEC = Spec(
    cameras={"top.image": CameraSpec(height=20, width=16)},
    vectors={"pos": VectorSpec(dim=2, mean=(1, 2), std=(0.5, 2), delta_std=(1, 1))},
    action=VectorSpec.unit(2),
)
STEPS = 10

Success = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def write_squares(path: Path, success: Success | None, num_episodes: int = 24) -> Path:
    """Write episodes in which a bright square jumps about; `success` looks at its rows, (T,)."""
    random = np.random.default_rng(0)
    with RobomimicWriter(path, {"env_name": "test", "type": 2, "env_kwargs": {}}) as writer:
        for _ in range(num_episodes):
            rows, columns = random.integers(0, 13, (2, STEPS + 1))
            images = np.full((STEPS + 1, 16, 16, 3), 60, np.uint8)
            for image, row, column in zip(images, rows, columns, strict=True):
                image[row : row + 3, column : column + 3] = 200
            times = np.arange(STEPS + 1, dtype=np.float32)[:, None]
            flags = None if success is None else success(rows[1:], random)
            actions = np.zeros((STEPS, 2), np.float32)
            nothing = np.zeros(STEPS, np.float32)
            writer.add_episode({"top": images, "time": times}, actions, nothing, nothing > 0, flags)
    return path


def high(rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return rows <= 1


def network(seed: int = 0) -> SuccessNetwork:
    torch.manual_seed(seed)
    return SuccessNetwork(SPEC, ClassifierConfig(channels=4, width=8))


def observation(count: int) -> dict[str, np.ndarray]:
    clip = testing.clip(SPEC, count, 1)
    return {k: v[:, 0].numpy() for k, v in {**clip.images, **clip.vectors}.items()}


def test_the_command_trains_one_that_knows_success_in_episodes_it_never_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_squares(tmp_path / "squares.hdf5", high), tmp_path / "judge"
    assert main(["train-success", str(data), "--out", str(out), "--steps", "120"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["held_out"]["auroc"]["value"] > 0.95
    assert summary["held_out"]["brier"]["high"] < summary["held_out"]["base_rate"] * 0.7
    printed = capsys.readouterr().out
    assert "AUROC" in printed
    assert "of the base rate" in printed
    judge = scd_wm.load_success_classifier(out)
    images = np.full((2, 16, 16, 3), 60, np.uint8)
    images[0, 0:3, 5:8] = images[1, 9:12, 5:8] = 200
    sure, unlikely = judge({"top": images, "time": np.full((2, 1), 5, np.float32)})
    assert sure > 0.8
    assert unlikely < 0.1


def test_probabilities_are_those_of_the_data_though_successes_are_drawn_more_often() -> None:
    random = np.random.default_rng(0)
    spec = Spec(vectors={"x": VectorSpec.unit(1)}, action=VectorSpec.unit(1))
    x = random.uniform(-1, 1, (40_000, 1)).astype(np.float32)
    true = np.where(x[:, 0] > 0, 0.08, 0.01)
    success = random.random(len(x)) < true
    torch.manual_seed(0)
    learner = SuccessNetwork(spec, ClassifierConfig(width=16))

    def read(chosen: np.ndarray) -> dict[str, torch.Tensor]:
        return {"x": torch.from_numpy(x[chosen])}

    train_classifier(learner, success, read, ClassifierTraining(steps=600, batch_size=128))
    found = SuccessClassifier(learner)({"x": x})
    for share, where in ((0.08, x[:, 0] > 0.2), (0.01, x[:, 0] < -0.2)):
        assert 0.7 * share < found[where].mean() < 1.4 * share
    assert found.mean() == pytest.approx(success.mean(), rel=0.25)


def test_it_comes_back_from_disk_bit_for_bit(tmp_path: Path) -> None:
    before = SuccessClassifier(network())
    save_success_classifier(before.network, tmp_path, {"more": 1})
    after, seen = load_success_classifier(tmp_path), observation(300)  # more than one batch
    assert after.spec == before.spec
    np.testing.assert_array_equal(after(seen), before(seen))
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_frames_are_judged_one_by_one_whether_tensors_or_arrays() -> None:
    judge, seen = SuccessClassifier(network()), observation(3)
    tensors = {k: torch.from_numpy(v) for k, v in seen.items()} | {"more": torch.zeros(3, 7)}
    np.testing.assert_array_equal(judge(tensors), judge(seen))
    for row in range(3):
        one = judge({k: v[row : row + 1] for k, v in seen.items()})
        np.testing.assert_allclose(one, judge(seen)[row : row + 1], rtol=1e-5)
    assert judge({k: v[:0] for k, v in seen.items()}).shape == (0,)


def test_a_frame_has_the_success_of_the_step_before_it(tmp_path: Path) -> None:
    dataset = open_dataset(write_squares(tmp_path / "squares.hdf5", high, 3))
    frames = labelled_frames(dataset)
    seen = frames.read(np.arange(len(frames.success)))
    assert seen["time"][:, 0].tolist() == [*range(1, STEPS + 1)] * 3
    top_rows = seen["top"][:, :, :, 0].float().amax(dim=2).argmax(dim=1)
    assert (top_rows.numpy() <= 1).tolist() == frames.success.tolist()


def test_both_parts_of_the_split_have_successes_and_failures(tmp_path: Path) -> None:
    lucky = iter([True, False, False, True, *[False] * 16])
    data = write_squares(
        tmp_path / "rare.hdf5", lambda rows, _: (rows >= 0) & (next(lucky) & (rows > 6)), 20
    )
    dataset = open_dataset(data)
    part, rest = split_by_success(dataset, 0.2)
    assert {*part.indices} | {*rest.indices} == {*range(20)}
    assert not {*part.indices} & {*rest.indices}
    assert len(rest.indices) == 5  # one of 2 and a fifth of 18
    assert all(len(np.unique(labelled_frames(p).success)) == 2 for p in (part, rest))


def test_a_split_that_leaves_a_part_without_failures_is_refused(tmp_path: Path) -> None:
    seldom = iter([True, True, *[False] * 6])
    data = write_squares(
        tmp_path / "sure.hdf5", lambda rows, _: (rows > 6) if next(seldom) else rows >= 0, 8
    )
    dataset = open_dataset(data)
    for share in (0.1, 0.9):  # either part is a single episode
        message = r"sure\.hdf5 none would have a failure;.* got 0\.[19]"
        with pytest.raises(ValueError, match=message):
            split_by_success(dataset, share)


def test_degraded_images_are_blurred_and_noisy_in_the_share_that_is_asked_for() -> None:
    frames = network_inputs({k: torch.from_numpy(v) for k, v in observation(200).items()}, SPEC)
    for share in (0.0, 0.3, 1.0):
        changed = degrade(frames, network(), ClassifierTraining(degraded=share), step=3)
        apart = (changed["top.image"] - frames["top.image"]).abs().amax(dim=(1, 2, 3)) > 0
        assert apart.float().mean().item() == pytest.approx(share, abs=0.1)
        assert torch.equal(changed["pos"], frames["pos"])
        assert changed["top.image"].std() <= frames["top.image"].std()  # blur of random pixels


def test_what_data_does_not_allow_is_said_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "judge"
    silent = write_squares(tmp_path / "silent.hdf5", None)
    with pytest.raises(ValueError, match=r"silent\.hdf5 does not say what is a success, it has"):
        fit_success_classifier(silent, out)
    hopeless = write_squares(tmp_path / "hopeless.hdf5", lambda rows, _: rows < 0)
    with pytest.raises(ValueError, match="frames that are successes are in 0 of the 24 episodes"):
        fit_success_classifier(hopeless, out)
    trivial = write_squares(tmp_path / "trivial.hdf5", lambda rows, _: rows >= 0)
    with pytest.raises(ValueError, match="frames that are failures are in 0 of the 24 episodes"):
        fit_success_classifier(trivial, out)
    fine = write_squares(tmp_path / "fine.hdf5", high)
    with pytest.raises(ValueError, match="held_out must be between 0 and 1, got 1"):
        fit_success_classifier(fine, out, held_out=1)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="holds something other than"):
        fit_success_classifier(fine, out)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        ClassifierConfig(width=0)
    with pytest.raises(ValueError, match="steps must be 1 or more and batch_size 2 or more, got 0"):
        ClassifierTraining(steps=0)
    with pytest.raises(ValueError, match=r"least_share must be above 0 and up to 0\.5, got 0\.6"):
        ClassifierTraining(least_share=0.6)
    with pytest.raises(ValueError, match="degraded must be from 0 to 1, got 2"):
        ClassifierTraining(degraded=2)


def test_a_world_that_it_cannot_judge_is_told_what_is_missing() -> None:
    judge = SuccessClassifier(network())
    judge.check(SPEC)
    more = replace(SPEC, vectors={**SPEC.vectors, "other": VectorSpec.unit(3)})
    judge.check(replace(more, action=VectorSpec.unit(5)))
    with pytest.raises(ValueError, match=r"looks at camera 'top.image' of 20x16x3, the world has"):
        judge.check(replace(SPEC, cameras={}))
    latent = CameraSpec(height=5, width=4, channels=8, kind="latent", downscale=4)
    judge.check(replace(SPEC, cameras={"top.image": latent}))
    with pytest.raises(KeyError, match="looks at 'pos'; got"):
        judge({"top.image": observation(2)["top.image"]})
    with pytest.raises(ValueError, match=r"'pos' must be \(B, 2\), got \(2, 3\)"):
        judge(observation(2) | {"pos": np.zeros((2, 3))})


def test_a_folder_that_holds_something_else_is_said_to(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*; make one with scd-wm train-succ"):
        load_success_classifier(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="holds no success classifier"):
        load_success_classifier(tmp_path)
    save_success_classifier(network(), tmp_path, {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"sizes": {"depth": 3}}))
    with pytest.raises(ValueError, match=r"does not fit this version: .*depth"):
        load_success_classifier(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": "scd_wm model"}))
    with pytest.raises(ValueError, match="is of 'scd_wm model', version 1; a success classifier"):
        load_success_classifier(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"sizes": {"width": 9}}))
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit: "):
        load_success_classifier(tmp_path)
