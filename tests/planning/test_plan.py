"""Planning in a simulator: an honest protocol, and what does not fit refused before it begins."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from scd_wm.cli import main
from scd_wm.imagination import Frames
from scd_wm.model.build import build_world_model
from scd_wm.model.config import WorldModelConfig
from scd_wm.planning.run import PlanConfig, check_fits, plan_run, table
from scd_wm.planning.video import Film
from scd_wm.policies.mpc import MPCConfig
from scd_wm.rollouts.played import honest_seeds
from scd_wm.spec import CameraSpec, Spec, VectorSpec
from scd_wm.training.checkpoint import save_pretrained

QUICK = {"horizon": 2, "candidates": 8, "iterations": 2}


def spec_of(**vectors: int) -> Spec:
    return Spec(
        vectors={name: VectorSpec.unit(dim) for name, dim in vectors.items()},
        action=VectorSpec.unit(2),
        outcomes=("reward", "success"),
        fps=10,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the state-only PushT."""
    path = tmp_path_factory.mktemp("models") / "push_t"
    spec = spec_of(pusher_pos=2, block_pose=4)
    config = WorldModelConfig(dim=32, num_heads=2, encoder_layers=1, decoder_layers=1, window=2)
    save_pretrained(build_world_model(spec, config), path, {})
    return path


def test_all_policies_play_the_same_starts_and_what_they_did_is_written(
    model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "plan"
    config = PlanConfig(
        goal="block_pose[0:2]=0,0",
        planners=("icem", "cem"),
        settings={**QUICK, "icem.shrink": 1.0, "icem.kept": 0.0},
        mpc=MPCConfig(execute=2, num_steps=3),
        episodes=2,
        seed=5,
        max_steps=4,
        videos=1,
    )
    summary = plan_run(model, "scd_wm/PushTState-v0", out, config)
    assert [*summary["policies"]] == ["icem", "cem", "zero", "random", "expert"]
    assert summary["seeds"] == [5, 6]
    assert json.loads((out / "summary.json").read_text())["policies"]["zero"]["success"] == 0
    rows = list(csv.DictReader((out / "episodes.csv").read_text().splitlines()))
    assert [(row["policy"], row["seed"]) for row in rows[:3]] == [
        ("icem", "5"),
        ("icem", "6"),
        ("cem", "5"),
    ]
    assert all(int(row["num_steps"]) <= 4 for row in rows)
    assert (out / "episode_1.mp4").stat().st_size > 1000
    assert not (out / "episode_2.mp4").exists()
    cem, mpc = summary["policies"]["cem"], summary["policies"]["icem"]
    # A plan every 2 decisions: 2 frames of 3 sampler steps for 8 candidates in 2 iterations, and
    # in the last of them for iCEM's mean.
    assert cem["model_evaluations_a_decision"] == 16 * 2 * 3 / 2
    assert mpc["model_evaluations_a_decision"] == 17 * 2 * 3 / 2
    assert mpc["cpu_s_a_decision"] > summary["policies"]["zero"]["cpu_s_a_decision"] > 0
    low, high = mpc["success_interval"]
    assert low <= mpc["success_rate"] <= high
    assert any("0/2" in line for line in table(summary))


def test_the_command_says_what_it_did(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", str(model), "scd_wm/PushTState-v0", "horizon=2", "candidates=8"]
    arguments += ["iterations=1", "--episodes", "1", "--max-steps", "2", "--planner", "cem"]
    assert main([*arguments, "--out", str(tmp_path / "plan"), "--videos", "0"]) == 0
    shown, steps = capsys.readouterr().out, WorldModelConfig.num_steps
    for text in ("seeds 0 to 0; starts refused: 0", "cem", "expert", "0/1", f"{8 * 2 * steps}"):
        assert text in shown
    assert main([*arguments, "--out", str(tmp_path / "other"), "--goal", "fame"]) == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planners": ()}, r"planners must be different ones, got \[\]"),
        ({"planners": ("cem", "cem")}, "planners must be different ones"),
        ({"settings": {"mppi.std": 1.0}}, r"settings are of .'mppi'., but planned is by .'icem'"),
        ({"planners": ("magic",)}, r"unknown planners .'magic'.; there are"),
        ({"planners": ("prior",)}, "'prior' and a policy for it go together"),
        ({"prior": "policy.pth"}, "'prior' and a policy for it go together"),
        ({"max_steps": -1}, "max_steps must be 1 or more, got -1"),
        ({"episodes": 0}, "episodes must be 1 or more, got 0"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlanConfig(**changes)


def test_settings_are_of_all_planners_or_of_one() -> None:
    config = PlanConfig(
        planners=("cem", "mppi"), settings={"horizon": 3, "mppi.std": 0.25, "cem.horizon": 5}
    )
    mppi: Any = config.make_planner("mppi", "cpu")
    assert (config.make_planner("cem", "cpu").horizon, mppi.horizon, mppi.std) == (5, 3, 0.25)
    with pytest.raises(ValueError, match=r"planner .cem.*std"):
        PlanConfig(planners=("cem",), settings={"std": 1.0}).make_planner("cem", "cpu")


def towards_the_middle(seen: dict[str, torch.Tensor]) -> torch.Tensor:
    """A policy that is named on the command line below."""
    return -seen["pusher_pos"]


def test_a_policy_proposes_and_one_that_does_not_fit_is_refused(
    model: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"episodes": 1, "max_steps": 2, "videos": 0, "goal": "reward"}
    config = PlanConfig(
        planners=("prior",),
        prior=f"{__name__}:towards_the_middle",
        settings={"horizon": 2, "candidates": 4},
        mpc=MPCConfig(num_steps=1),
        **changes,
    )
    summary = plan_run(model, "scd_wm/PushTState-v0", tmp_path / "plan", config)
    assert list(summary["policies"]) == ["prior", "policy", "zero", "random", "expert"]
    assert summary["policies"]["prior"]["model_evaluations_a_decision"] == 4 * 2
    config = PlanConfig(planners=("prior",), prior="expert", **changes)
    with pytest.raises(ValueError, match="'expert' cannot act in imagination"):
        plan_run(model, "scd_wm/PushTState-v0", tmp_path / "other", config)
    config = PlanConfig(planners=("prior",), prior="policy.pth", **changes)
    with pytest.raises(FileNotFoundError, match=r"policy\.pth"):
        plan_run(model, "scd_wm/PushTState-v0", tmp_path / "other", config)
    assert not (tmp_path / "other").exists()


class Numbered:
    """A planner whose imagined frames are numbered: plan k foresees 10 k + 1, 10 k + 2, ..."""

    def __init__(self) -> None:
        self.plans, self.made_plan = 0, False

    def foresee(self) -> Frames:
        values = torch.arange(1, 4, dtype=torch.uint8) + 10 * self.plans
        return Frames({"top": values[None, :, None, None, None].expand(1, 3, 8, 8, 3)}, {}, {})

    def last_image(self, _: str) -> np.ndarray:
        return np.full((8, 8, 3), 99, np.uint8)

    def render(self) -> np.ndarray:
        return np.full((8, 8, 3), 200, np.uint8)


def test_films_show_what_was_imagined_before_and_where_the_plan_leads() -> None:
    camera = CameraSpec(height=8, width=8)
    film = Film("seed 0", Spec(cameras={"top": camera}, action=VectorSpec.unit(2)))
    planner: Any = Numbered()
    for step in range(5):  # a plan every 2 steps
        planner.made_plan = step % 2 == 0
        planner.plans = step // 2 + 1
        film.add(planner, planner)
    shown = [panel.frames[:, 0, 0, 0].tolist() for panel in film.panels()]
    assert shown == [[200] * 5, [99, 11, 12, 21, 22], [13, 13, 23, 23, 33]]


class Doors(gym.Env):
    """Every third start is a success already."""

    observation_space = Dict({"door": Box(-1, 1, (1,), np.float32)})
    action_space = Box(-1, 1, (2,), np.float32)
    metadata = {"render_fps": 10, "render_modes": []}  # noqa: RUF012  (gymnasium's)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return {"door": np.zeros(1, np.float32)}, {"success": seed % 3 == 0}


def test_starts_that_are_a_success_are_refused() -> None:
    assert honest_seeds(Doors(), 0, 4) == ([1, 2, 4, 5], [0, 3])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (spec_of(window=1), "Doors does not show 'window'; it shows .'door'"),
        (spec_of(door=2), r"'door' of Doors is \(1,\), the model reads \(2,\)"),
        (
            Spec(vectors={"door": VectorSpec.unit(1)}, action=VectorSpec.unit(3)),
            "the model takes 3 values of action",
        ),
        (
            Spec(vectors={"door": VectorSpec.unit(1)}, action=VectorSpec.unit(2), fps=5),
            "Doors makes 10 steps a second, the model's data 5: train with the frame skip",
        ),
        (
            Spec(
                cameras={"door": CameraSpec(height=8, width=8, kind="latent", downscale=2)},
                action=VectorSpec.unit(2),
            ),
            r"'door' of Doors is \(1,\), the model reads \(16, 16, 3\)",
        ),
    ],
)
def test_an_environment_that_does_not_fit_the_model_is_refused(spec: Spec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fits(Doors(), spec, "Doors")
