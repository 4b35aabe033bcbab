from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from scd_wm.clip import Clip, collate
from scd_wm.collect import collect
from scd_wm.counterfactual_run import (
    CounterfactualConfig,
    play_counterfactuals,
)
from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.evaluation.clips import ClipPlace
from scd_wm.evaluation.counterfactual import Counterfactual
from scd_wm.evaluation.evaluate import EvaluationConfig
from scd_wm.evaluation.null_models import Imagine, copy_last
from scd_wm.imagination import Frames
from scd_wm.rollouts.repeating_simulator import RepeatingSimulator, find_simulator

ENV = "scd_wm/PushTState-v0"
EVALUATION = EvaluationConfig(history=3, horizons=(1, 4, 6), num_resamples=50)
FEW = CounterfactualConfig(num_starts=3, num_sequences=3, horizon=6)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("counterfactual") / "push_t.hdf5"
    collect(ENV, "scripted", 4, path, seed=7, max_steps=30)
    return path


@pytest.fixture
def source(recording: Path) -> RobotDataset:
    return open_dataset(recording)


def true_world(history: Clip, actions: Tensor, seeds: Tensor) -> Frames:
    """Imagine by the simulator: in PushT a frame of vectors is the whole state."""
    env = gym.make(ENV, max_episode_steps=1000)
    rows = []
    for row, sequence in enumerate(actions.numpy()):
        pusher, block = (
            history.vectors[k][row, -1].numpy().astype(np.float64)
            for k in ("pusher_pos", "block_pose")
        )
        state = np.array([*pusher, *block[:2], np.arctan2(block[3], block[2])])
        env.reset(options={"state": state})
        rows.append([env.step(action)[0] for action in sequence])
    env.close()
    vectors = {
        k: torch.tensor(np.array([[o[k] for o in row] for row in rows]), dtype=torch.float32)
        for k in ("pusher_pos", "block_pose")
    }
    return Frames({}, vectors, {})


def play(imagine: Imagine, source: RobotDataset, env_id: str | None = None) -> Counterfactual:
    return play_counterfactuals(imagine, source, source.spec(), EVALUATION, FEW, env_id)


def test_the_simulator_itself_parts_as_the_simulator_does(source: RobotDataset) -> None:
    played = play(true_world, source)
    assert (played.env, played.num_starts, played.horizons) == (ENV, 3, (1, 4, 6))
    pusher = played.divergences["pusher_pos"]
    np.testing.assert_allclose(pusher.slope.mean, 1, atol=1e-3)
    np.testing.assert_allclose(pusher.error.mean, 0, atol=1e-3)
    assert (pusher.shuffled.mean > 1).all()
    assert pusher.real.shape == (3 * 3,)
    assert (pusher.real > 0.005).all()


def test_the_same_happens_by_chance_to_all_futures_of_a_start(tmp_path: Path) -> None:
    path = tmp_path / "chance.hdf5"
    kwargs = {"disturbance": 0.01}
    collect(ENV, "scripted", 2, path, seed=7, max_steps=12, env_kwargs=kwargs)
    source, place = open_dataset(path), ClipPlace(1, 2)
    clip = collate([source.clip(1, 2, 6)])
    actions = clip.actions[0, 2:].numpy()[None].repeat(2, axis=0)
    with RepeatingSimulator(*find_simulator(source, None), source) as simulator:
        futures = simulator.play(place, 3, actions, clip)
    for values in futures.vectors.values():
        assert torch.equal(values[0], values[1])
    assert (futures.vectors["pusher_pos"][0] - clip.vectors["pusher_pos"][0, 3:]).abs().max() > 1e-3


def test_the_last_frame_copied_never_parts(source: RobotDataset) -> None:
    pusher = play(copy_last, source).divergences["pusher_pos"]
    np.testing.assert_allclose(pusher.slope.mean, 0)
    np.testing.assert_allclose(pusher.error.mean, 1)


def test_a_simulator_without_a_state_repeats_the_episode_for_each_future(
    source: RobotDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = play(true_world, source)
    plain = "scd_wm/PushTState-v0"

    class Hidden(gym.Wrapper):
        @property
        def unwrapped(self) -> gym.Env:
            return self  # which has no state

    made = gym.make(plain, max_episode_steps=1000)
    monkeypatch.setattr("scd_wm.rollouts.repeating_simulator.make_env", lambda *a: Hidden(made))
    again = play(true_world, source)
    for name, divergence in wanted.divergences.items():
        np.testing.assert_allclose(again.divergences[name].real, divergence.real, atol=1e-6)


def test_a_recording_that_is_not_repeated_is_not_compared(source: RobotDataset) -> None:
    source.info.metadata["scd_wm"]["seed"] += 1
    with pytest.raises(ValueError, match=r"does not repeat the recording: .* is another"):
        play(copy_last, source)


def test_what_is_missing_is_said(source: RobotDataset) -> None:
    with pytest.raises(ValueError, match="'Robot-v9' is no registered environment; give that in"):
        find_simulator(source, "Robot-v9")
    metadata = source.info.metadata
    assert isinstance(metadata, dict)
    metadata["env_name"] = None
    with pytest.raises(ValueError, match="the data names no environment; name the simulator by"):
        find_simulator(source, None)
    metadata["env_name"] = "Robot-v8"
    with pytest.raises(ValueError, match="'Robot-v8', which the data names, is no registered env"):
        find_simulator(source, None)
    metadata["env_name"] = ENV
    with pytest.raises(ValueError, match="does not observe"):
        play(copy_last, source, "scd_wm/LiftState-v0")
    source.info.metadata["scd_wm"].clear()
    with pytest.raises(ValueError, match="by which seeds it was recorded"):
        find_simulator(source, None)
    with pytest.raises(ValueError, match="3 sequences or more"):
        CounterfactualConfig(num_sequences=2)
