"""Studies: equal operations, runs that are made once, a table of what was measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import h5py
import pytest

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.collect import collect
from scd_wm.commands.study import ARMS as ARM_NAMES
from scd_wm.commands.study import WORLDS as WORLD_NAMES
from scd_wm.datasets.dataset import RobotDataset
from scd_wm.datasets.options import DataOptions
from scd_wm.study import compute, latency
from scd_wm.study.config import ARMS, WORLDS, RunName, StudyConfig
from scd_wm.study.study import FREE_TO_CHANGE, changes, study
from scd_wm.study.table import lines
from scd_wm.training import files

SMALL = (
    *("dim=32", "num_heads=2", "encoder_layers=2", "decoder_layers=1"),
    *("batch_size=2", "num_frames=4"),
)


def small(**changes: object) -> StudyConfig:
    """Return a study of seconds."""
    settings = {
        "worlds": ("push_t_state",),
        "arms": ("prefix", "entangled"),
        "seeds": (0,),
        "scale": 0.002,
        "data_scale": 0.01,
        "num_clips": 2,
        "horizons": (1, 3),
        "overrides": SMALL,
    }
    return StudyConfig(**(settings | changes))  # type: ignore[arg-type]  # by name


def test_a_study_trains_for_equal_operations_goes_on_and_grows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    first = study(out, small())
    flops = first["step_flops"]["push_t_state"]
    steps = {run["arm"]: run["steps"] for run in first["runs"].values()}
    assert flops["entangled"] > 1.2 * flops["prefix"]
    spent = {arm: steps[arm] * flops[arm] for arm in steps}
    assert abs(spent["entangled"] - spent["prefix"]) <= flops["entangled"] / 2
    capsys.readouterr()
    weights = {p: p.read_bytes() for p in out.glob("runs/*/model/model.safetensors")}
    assert len(weights) == 2
    again = study(out, small(seeds=(0, 1)))
    assert capsys.readouterr().out.count("training push_t_state") == 2  # of the new seed only
    assert {p: p.read_bytes() for p in weights} == weights
    kept = again["runs"]["push_t_state-prefix-0"]
    assert kept == first["runs"]["push_t_state-prefix-0"]
    seeds = [again["runs"][f"push_t_state-prefix-{seed}"]["scores"] for seed in (0, 1)]
    assert seeds[0] != seeds[1]
    table = (out / "table.md").read_text()
    assert table == "\n".join(lines(again)) + "\n"
    for text in ("| prefix | 1 |", "| entangled | 4 |", "last frame copied", "position error"):
        assert text in table
    assert " to " in table  # two seeds have a spread
    with pytest.raises(FileExistsError, match=r"other settings \(horizons, num_clips\)"):
        study(out, small(horizons=(2,), num_clips=3))
    settings = files.read_json(out / "study.json")
    assert settings.pop("sampler_steps") == [1, 4]
    assert settings["options"].pop("mask") is None
    files.write_json(out / "study.json", settings)  # as one begun before these existed
    assert study(out, small(seeds=(0, 1)))["runs"] == again["runs"]


def test_the_table_shows_means_over_seeds_of_the_named_metrics() -> None:
    def run(arm: str, seed: int, value: float) -> dict[str, object]:
        def metric(label: str) -> dict[str, object]:
            means = {"world_model": value, "copy_last": 8.0, "shuffled_actions": 7.0}
            models = {k: {"5": {"mean": v}} for k, v in means.items()}
            return {"label": label, "unit": "px", "models": models}

        metrics = {"position_px/a/b": metric("b: position error"), "ssim/a": metric("SSIM")}
        return {
            "world": "push_t",
            "arm": arm,
            "seed": seed,
            "steps": 10,
            "parameters": 2_000_000,
            "scores": {"1": {"metrics": metrics, "horizons_left_out": [9]}},
        }

    found = {
        "config": {
            "worlds": ["push_t"],
            "arms": ["prefix"],
            "seeds": [0, 1],
            "sampler_steps": [1],
            "horizons": [1, 5, 9],
            "num_clips": 4,
        },
        "runs": {"0": run("prefix", 0, 1.0), "1": run("prefix", 1, 2.0)},
        "step_flops": {"push_t": {"prefix": 3e14}},
        "latency": {"push_t": {"arms": {"prefix": {"1": {"cpu_s": {"median": 0.004}}}}}},
    }
    text = lines(found)
    assert (
        "After 5 imagined frames. Horizons 9: fewer than half of the episodes reach them." in text
    )
    assert "| prefix | 1 | 2.00 | 10 | 3.00 | 1.50 (1.00 to 2.00) | 4.00 |" in text
    assert "| last frame copied |  |  |  |  | 8.00 |  |" in text
    assert "| prefix, shuffled actions |  |  |  |  | 7.00 |  |" in text
    main, rest = (line for line in text if line.startswith("|  | T |"))
    assert "SSIM" not in main
    assert "SSIM" in rest


def test_a_world_of_chance_is_scored_by_several_futures(tmp_path: Path) -> None:
    config = small(
        worlds=("push_t_state_chance",), arms=("prefix",), sampler_steps=(2,), num_futures=2
    )
    found = study(tmp_path / "study", config)
    scores = found["runs"]["push_t_state_chance-prefix-0"]["scores"]["2"]["metrics"]
    score, error = (
        scores[f"{name}/pusher_pos"]["models"]["world_model"]["3"]["mean"]
        for name in ("energy", "position")
    )
    assert 0 < score < error
    heading = (tmp_path / "study/table.md").read_text().split("What else")[0]
    assert "block_pose: energy score | pusher_pos: energy score | block_pose: position" in heading
    recorded = tmp_path / "study/data/push_t_state_chance/train/part_0.hdf5"
    with h5py.File(recorded) as file:
        assert json.loads(file["data"].attrs["env_args"])["env_kwargs"]["disturbance"] == 0.01
    own = changes(config.runs[0], config)
    assert "self_rollouts=0" in own
    assert own.index("draws=2") < changes(replace(config.runs[0], arm="four_draws"), config).index(
        "draws=4"
    )


def test_equal_steps_are_the_nearest_whole_number_and_one_at_least() -> None:
    assert compute.equal_steps(100, 3.0, 2.0) == 150
    assert compute.equal_steps(100, 2.0, 3.0) == 67
    assert compute.equal_steps(1, 1.0, 100.0) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worlds": ("mars",)}, "worlds must be some of .*, got .'mars'"),
        ({"arms": ()}, "arms must be some of"),
        ({"seeds": ()}, "seeds must be numbers from 0 on"),
        ({"scale": 0.0}, "scale must be above 0, got 0"),
        ({"sampler_steps": (0,)}, "sampler_steps must be 1 or more"),
        ({"num_clips": 0}, "num_clips must be 1 or more, got 0"),
        ({"horizons": (0, 4)}, "horizons must be 1 or more, got .0, 4"),
        ({"scale": float("inf")}, "scale must be above 0, got inf"),
        ({"data": {"lift": Path("a")}}, "a name of its own, .'lift'. is a world's"),
        ({"seeds": (0, 1, 0)}, "seeds must be different ones, got .0, 1, 0"),
        ({"arms": ("prefix", "prefix")}, "arms must be different ones"),
        ({"worlds": ("lift", "lift")}, "worlds must be different ones"),
    ],
)
def test_impossible_studies_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_settings_that_cannot_be_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="head width must be a multiple of 16, got 10"):
        study(tmp_path / "study", small(overrides=("dim=30", "num_heads=3")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arm", "override"),
    [
        ("prefix", "seed=3"),  # all seeds would be one
        ("prefix", "train.steps=5"),  # operations would not be equal
        ("prefix", "cooldown_steps=1"),
        ("entangled", "arch=scd"),  # arms would be alike
        ("no_residual", "model.residual=true"),
    ],
)
def test_overrides_that_would_undo_what_is_compared_are_refused(arm: str, override: str) -> None:
    name = override.partition("=")[0].rpartition(".")[2]
    with pytest.raises(ValueError, match=rf"{override} cannot .*sets {name} of '{arm}' itself"):
        changes(RunName("push_t_state", arm, 0), small(overrides=(override,)))


@pytest.mark.parametrize("arm", ["no_own_history", "change_noise"])
def test_an_arm_that_changes_nothing_in_a_world_is_refused(arm: str) -> None:
    with pytest.raises(ValueError, match=f"'{arm}' changes nothing of 'prefix' on 'push_t_state_c"):
        changes(RunName("push_t_state_chance", arm, 0), small())


def test_the_model_of_one_copy_goes_with_a_world_of_chance() -> None:
    assert "vector_noise=value" in changes(
        RunName("push_t_state_chance", "entangled_one_copy", 0), small()
    )


def test_a_study_needs_a_process_at_least(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
        study(tmp_path / "study", small(), workers=0)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something other than"):
        study(tmp_path, small())


def test_the_command_names_what_there_is() -> None:
    assert (*ARMS,) == ARM_NAMES
    assert (*WORLDS,) == WORLD_NAMES


def test_what_was_asked_for_is_written_before_anything_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scd_wm.study.study.record", fail)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "study", small())
    assert files.read_json(tmp_path / "study" / "study.json")["num_clips"] == 2


def test_runs_made_side_by_side_are_those_made_one_after_the_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = small(arms=("prefix", "no_residual"), sampler_steps=(1,), num_clips=1)
    together = study(tmp_path / "together", config, workers=2)
    assert "2 runs" in capfd.readouterr().out
    for run in ("push_t_state-prefix-0", "push_t_state-no_residual-0"):
        log = (tmp_path / "together" / "logs" / f"{run}.log").read_text()
        assert f"training {run}" in log
    alone = study(tmp_path / "alone", replace(config, arms=("prefix",)))
    run = "push_t_state-prefix-0"
    assert together["runs"][run]["scores"] == alone["runs"][run]["scores"]
    for name in ("horizons", "latency"):
        picture = tmp_path / "alone" / "figures" / f"push_t_state_{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_run_that_fails_in_its_process_is_named_with_its_log(tmp_path: Path) -> None:
    out = tmp_path / "study"
    for arm in ("prefix", "entangled"):
        folder = out / "runs" / f"push_t_state-{arm}-0"
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
    files.write_json(out / "study.json", settings_of(small()))
    with pytest.raises(ChildProcessError, match=r"push_t_state-\w+-0 ended with 1: .*logs"):
        study(out, small(), workers=2)


def settings_of(config: StudyConfig) -> dict[str, object]:
    """Return what study.json says of a study."""
    return {k: v for k, v in config.to_json().items() if k not in FREE_TO_CHANGE}


def test_data_of_the_user_is_a_world_whose_held_out_episodes_are_the_test(tmp_path: Path) -> None:
    data = tmp_path / "mine.hdf5"
    collect("scd_wm/PushT-v0", "scripted", 4, data, max_steps=12)
    config = small(
        worlds=("mine",),
        data={"mine": data},
        options=DataOptions(frame_skip=2, action_mode="last"),
        arms=("prefix",),
        overrides=(*SMALL, "patch_size=32", "refine_channels=0", "action_layers=1"),
        horizons=(1, 2),
        sampler_steps=(1,),
    )
    found = study(tmp_path / "study", config)
    scores = found["runs"]["mine-prefix-0"]["scores"]["1"]
    trained = files.read_json(tmp_path / "study" / "runs" / "mine-prefix-0" / "config.json")
    assert {clip["episode"] for clip in scores["clips"]} == {*trained["data"]["held_out"]}
    assert trained["data"]["options"]["frame_skip"] == 2
    assert len(trained["data"]["held_out"]) == 1  # a quarter of four


def test_data_that_cannot_be_used_is_named_before_anything_is_written(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.hdf5"
    damaged.write_text("no data")
    with pytest.raises((OSError, ValueError), match="damaged"):
        study(tmp_path / "study", small(worlds=("a",), data={"a": damaged}))
    assert [*tmp_path.iterdir()] == [damaged]


def test_missing_data_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data set .*nowhere"):
        study(tmp_path / "study", small(worlds=("a",), data={"a": tmp_path / "nowhere"}))
    assert not list(tmp_path.iterdir())


def test_an_arm_moves_layers_between_encoder_and_decoder() -> None:
    run = RunName("push_t_state", "deeper_encoder", 0)
    config = small(overrides=("encoder_layers=2", "decoder_layers=2"))
    assert changes(run, config)[-2:] == ("encoder_layers=3", "decoder_layers=1")
    with pytest.raises(ValueError, match="decoder_layers must be at least 1, got 0"):
        changes(run, small())  # its decoder has one layer


def test_ctrl_c_to_all_processes_keeps_what_every_run_has_learned(tmp_path: Path) -> None:
    """As a terminal sends it: to the command and to the runs that it has started."""
    out = tmp_path / "study"
    command = [
        *(sys.executable, "-m", "scd_wm", "study", "--out", str(out), "--workers", "2"),
        *("--worlds", "push_t_state", "--arms", "prefix,no_residual", "--seeds", "0"),
        *("--scale", "50", "--data-scale", "0.01", "--clips", "2", "--horizons", "1", *SMALL),
    ]
    with (tmp_path / "printed.txt").open("w") as printed:
        process = subprocess.Popen(
            # A shell's job in the background ignores SIGINT, and so would what it starts.
            [sys.executable, "-c", FOREGROUND, *command],
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        try:
            wait_for(lambda: sum(has_learned(log) for log in out.glob("runs/*/log.jsonl")) == 2)
            os.killpg(process.pid, signal.SIGINT)
            status = process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    text = (tmp_path / "printed.txt").read_text()
    assert status == 130, text
    assert "interrupted; go on with: scd-wm study --out" in text
    assert "Traceback" not in text
    for run in out.glob("runs/*"):
        learned = files.read_json(run / "summary.json")
        assert learned["steps"] > 0
        assert learned["finished"] is False
        assert len([*run.glob("checkpoints/step_*")]) == 1
    logs = [log.read_text() for log in out.glob("logs/*.log")]
    assert len(logs) == 2
    assert all("stopped after step" in log and "Traceback" not in log for log in logs)


FOREGROUND = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def has_learned(log: Path) -> bool:
    """Say whether a run has written a line of its log."""
    return log.read_text().endswith("\n")


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until something is true, a minute or two at the most."""
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)


def test_frames_are_timed_on_an_episode_that_fills_the_window() -> None:
    model = testing.model(num_steps=1)
    clip = testing.clip(model.spec, 1, 9)

    class Episodes:
        episodes = (SimpleNamespace(num_observations=2), SimpleNamespace(num_observations=9))

        def clip(self, episode: int, start: int, length: int) -> Clip:
            assert start + length <= self.episodes[episode].num_observations
            return clip.frames(start, start + length).map(lambda x: x[0])

    latency._stepper(model, cast("RobotDataset", Episodes()), 1)()
