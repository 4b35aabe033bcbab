"""Planning in a world of latents: environments, policies and goals have pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from scd_wm import testing
from scd_wm.collect import collect
from scd_wm.imagination import Frames, observed
from scd_wm.imagination.latents import Latents
from scd_wm.model.scd import SCDWorldModel
from scd_wm.planning.run import PlanConfig, plan_run
from scd_wm.policies.goals import ImageGoal, OnPixels, OutcomeGoal, VectorGoal
from scd_wm.policies.mpc import MPC
from scd_wm.policies.planner import ActionLimits
from scd_wm.policies.planners import make_planner
from scd_wm.policies.prior import PolicyPrior
from scd_wm.spec import CameraSpec, Spec, VectorSpec
from scd_wm.training.run import train_run

from .conftest import SMALL

LATENT = CameraSpec(height=4, width=4, channels=3, kind="latent", delta_std=1.0, downscale=2)
SPEC = Spec(
    cameras={"top": LATENT, "side": CameraSpec(height=8, width=8)},
    vectors={"pos": VectorSpec.unit(2)},
    action=VectorSpec.unit(2),
    outcomes=("success",),
)
LIMITS = ActionLimits(-torch.ones(2), torch.ones(2))


class Halves:
    """Encodes every second pixel, in [0, 1], and decodes by repeating it."""

    def encode(self, images: Tensor) -> Tensor:
        assert images.ndim == 4
        return images[:, ::2, ::2].float() / 255

    def decode(self, latents: Tensor) -> Tensor:
        assert latents.ndim == 4
        whole = latents.repeat_interleave(2, 1).repeat_interleave(2, 2)
        return (whole * 255).round().clamp(0, 255).to(torch.uint8)


LATENTS = Latents(SPEC, Halves())


def observation(rows: int = 2) -> dict[str, np.ndarray]:
    """Return what an environment of pixels shows."""
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (rows, 8, 8, 3), np.uint8) for name in ("top", "side")} | {
        "pos": rng.normal(size=(rows, 2)).astype(np.float32)
    }


def small_model() -> SCDWorldModel:
    torch.manual_seed(0)
    return SCDWorldModel(SPEC, testing.config(patch_size=2, open_gates=True)).eval()


def test_only_latent_cameras_are_coded_and_leading_axes_are_kept() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8, 3), dtype=torch.uint8)
    coded = LATENTS.encode({"top": images, "side": images, "pos": torch.zeros(2, 3, 2)})
    assert coded["top"].shape == (2, 3, 4, 4, 3)
    assert coded["side"] is images
    shown = LATENTS.decode(coded)
    assert torch.equal(shown["top"][:, :, ::2, ::2], images[:, :, ::2, ::2])
    assert shown["pos"].shape == (2, 3, 2)


def test_a_goal_on_pixels_is_shown_decoded_frames_and_checked_against_pixels() -> None:
    images = {"top": torch.rand(2, 4, 4, 3), "side": torch.zeros(2, 8, 8, 3, dtype=torch.uint8)}
    picture = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8)
    goal = OnPixels(ImageGoal("top", picture), LATENTS)
    goal.check(SPEC)
    seen = LATENTS.decode(images)["top"].float()
    wanted = ((seen - picture.float()) / 255).square().mean((1, 2, 3))
    torch.testing.assert_close(goal(Frames(images, {}, {})), wanted)
    with pytest.raises(ValueError, match=r"must be \(8, 8, 3\) pixels, got \(4, 4, 3\)"):
        OnPixels(ImageGoal("top", picture[:4, :4]), LATENTS).check(SPEC)


def test_control_reads_pixels_as_the_model_reads_their_latents() -> None:
    model, seen = small_model(), observation()
    goal = VectorGoal("pos", torch.ones(2))
    planner = make_planner("cem", horizon=2, candidates=4, iterations=1)
    mpc = MPC(model, goal, planner, LIMITS, latents=LATENTS)
    assert mpc.act(seen).shape == (2, 2)
    encoded = LATENTS.encode({k: torch.as_tensor(v) for k, v in seen.items()})
    packed = model.layout.pack(observed(SPEC, encoded))[:, 0]
    assert mpc._state is not None
    torch.testing.assert_close(mpc._state.last, packed)
    assert np.array_equal(mpc.last_image("top")[::2, ::2], seen["top"][0, ::2, ::2])
    ahead = mpc.foresee().images["top"]
    assert ahead.shape == (2, 2, 8, 8, 3)
    assert ahead.dtype == torch.uint8
    assert mpc.observation_shapes == {"top": (8, 8, 3), "side": (8, 8, 3), "pos": (2,)}
    with pytest.raises(ValueError, match=r"\(8, 8, 3\)"):  # in pixels, which are what is given
        MPC(model, goal, planner, LIMITS, latents=LATENTS).act({**seen, "top": seen["top"][:, :4]})
    with pytest.raises(ValueError, match="give those that encode what is seen"):
        MPC(model, goal, planner, LIMITS)


def test_a_policy_that_proposes_plans_sees_pixels() -> None:
    shown: list[Mapping[str, np.ndarray]] = []

    class Looks:
        def reset(self, seed: int) -> None: ...

        def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
            shown.append(observation)
            return np.zeros((len(observation["pos"]), 2), np.float32)

    planner = PolicyPrior(policy=Looks(), horizon=2, candidates=3)
    MPC(small_model(), OutcomeGoal(), planner, LIMITS, latents=LATENTS).act(observation())
    assert [seen["top"].shape for seen in shown] == [(6, 8, 8, 3)] * 2
    assert all(seen["top"].dtype == np.uint8 for seen in shown)


@pytest.fixture(scope="module")
def push_t_run(autoencoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push_t")
    collect("scd_wm/PushT-v0", "scripted", 2, folder / "data.hdf5", max_steps=8)
    train_run(
        folder / "data.hdf5",
        folder / "run",
        steps=1,
        overrides=SMALL,
        autoencoder=autoencoder_folder,
    )
    return folder / "run"


@pytest.mark.parametrize("goal", ["top_image", "features", "success"])
def test_plans_are_made_and_filmed_for_goals_of_pixels(
    goal: str, push_t_run: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "goal.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(picture)
    config = PlanConfig(
        goal=goal if goal == "success" else f"{goal}={picture}",
        planners=("cem",),
        settings={"horizon": 2, "candidates": 3, "iterations": 1},
        episodes=1,
        max_steps=2,
        videos=1,
    )
    summary = plan_run(push_t_run, "scd_wm/PushT-v0", tmp_path / "plan", config)
    assert summary["policies"]["cem"]["episodes"] == 1
    assert (tmp_path / "plan" / "episode_1.mp4").stat().st_size > 500
    if goal == "success":
        return
    wrong = replace(config, goal=f"{goal}={tmp_path / 'small.png'}")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"\(16, 16, 3\)") as refused:
        plan_run(push_t_run, "scd_wm/PushT-v0", tmp_path / "other", wrong)
    assert "(64, 64, 3)" in str(refused.value)
