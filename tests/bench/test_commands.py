"""Every measurement runs, small, and leaves a whole result; mistakes are one line before work."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scd_wm import testing
from scd_wm.bench import latency, machine, models
from scd_wm.bench.options import BenchOptions
from scd_wm.cli import build_parser, main
from scd_wm.commands import bench
from scd_wm.model.engine import ENGINES
from scd_wm.spec import CameraSpec
from scd_wm.training.checkpoint import load_world_model, save_pretrained

TIMED = {
    "latency": models.MODES,
    "throughput": ("prefix",),
    "planning": ("prefix",),
    "training": ("prefix",),
}
"""Measurement: the modes that it compares."""


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep threads as they are, and measure the peak on a small product."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(machine, "SHAPES", ((64, 64, 64),))
    yield
    torch.set_num_threads(threads)


def run(out: Path, *arguments: str) -> Any:
    assert main(["bench", *arguments, "--quick", "--out", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("what", TIMED)
def test_a_timed_measurement_gives_a_whole_result(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draws = ("--draws", "2") if what == "training" else ()
    result = run(tmp_path / "new/result.json", what, "--modes", ",".join(TIMED[what]), *draws)
    assert result["format"] == f"scd_wm bench {what}"
    assert result["machine"]["threads"] == 1
    assert result["gemm_peak"]["float32"]["gflop_per_s"] > 0
    assert result["options"]["rounds"] == 2
    printed = capsys.readouterr().out
    names = " ".join(row["model"] for row in result["rows"])
    assert all(mode in names for mode in TIMED[what])
    for row in result["rows"]:
        assert row["model"] in printed
        for clock in ("cpu_s", "wall_s"):
            assert 0 < row[clock]["least"] <= row[clock]["median"] <= row[clock]["most"]
        assert 0 < row["model_gflop"] < row["counted_gflop"]
        rate = row["counted_gflop"] / row["cpu_s"]["median"]
        assert row["gflop_per_s"] == pytest.approx(rate)
        peak = result["gemm_peak"]["float32"]["gflop_per_s"]
        assert row["share_of_peak"] == pytest.approx(rate / peak)
        assert "where" not in row


def test_environments_in_a_vector_stand_beside_single_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(tmp_path / "result.json", "environments", "--num-envs", "3")
    assert result["format"] == "scd_wm bench environments"
    kinds = [(row["world"], row["what"]) for row in result["rows"]]
    both = ("one vector environment", "single environments")
    assert kinds == [(world, what) for world in ("state", "pixels") for what in both]
    for vector, single in zip(result["rows"][::2], result["rows"][1::2], strict=True):
        assert vector["num_envs"] == single["num_envs"] == 3
        assert single["against_singles"]["median"] == 1.0
        # Each round gives a ratio, and their median lies between those of the extremes.
        least = single["cpu_s"]["least"] / vector["cpu_s"]["most"]
        assert least <= vector["against_singles"]["median"]
        assert (
            vector["against_singles"]["most"]
            <= single["cpu_s"]["most"] / (vector["cpu_s"]["least"])
        )
    assert "state, one vector environment" in capsys.readouterr().out


def test_latency_says_where_the_time_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(tmp_path / "result.json", "latency", "--profile", "--modes", "prefix")
    (row,) = result["rows"]
    assert sum(row["where"].values()) == pytest.approx(1.0)
    assert "where the time goes" in capsys.readouterr().out
    assert row["shape"] == "d=32 P=4+1 for outcomes F=2 T=2"


def test_latency_in_half_precision_has_the_peak_of_both(tmp_path: Path) -> None:
    result = run(tmp_path / "result.json", "latency", "--dtype", "bfloat16")
    assert set(result["gemm_peak"]) == {"float32", "bfloat16"}
    assert {row["dtype"] for row in result["rows"]} == {"bfloat16"}


def test_memory_of_a_long_rollout_and_of_branches(tmp_path: Path) -> None:
    result = run(tmp_path / "result.json", "memory", "--modes", "prefix", "--frames", "30")
    (long,), (branches,) = result["long"], result["branches"]
    assert long["frames"] == 30
    assert long["is_finite"]
    assert long["early_mib"] > 0
    assert branches["branches"] == 4
    assert branches["held_mib"] > branches["history_mib"] > 0


def test_training_has_the_memory_of_every_number_of_draws(tmp_path: Path) -> None:
    options = ("--modes", "prefix", "--draws", "1,2", "--dim", "64")
    rows = run(tmp_path / "result.json", "training", *options)["rows"]
    cases = [(row["draws"], row["way"]) for row in rows]
    assert cases == [(1, "staged"), (2, "together"), (2, "staged")]
    assert rows[0]["time_of_together"] is None
    assert rows[1]["time_of_together"]["median"] == 1.0
    assert rows[2]["time_of_together"]["median"] > 0
    assert rows[1]["counted_gflop"] == rows[2]["counted_gflop"]
    assert all(row["peak_mib"] > row["peak_of_step_mib"] > 0 for row in rows)


def test_sizes_on_the_command_line_take_the_place_of_the_cases(tmp_path: Path) -> None:
    sizes = ("--dim", "48", "--tokens", "6", "--history", "3", "--sampler-steps", "1")
    options = ("--layers", "2+1", "--modes", "prefix")
    (row,) = run(tmp_path / "result.json", "latency", *sizes, *options)["rows"]
    assert row["model"] == "SCD prefix 2+1"
    assert row["shape"] == "d=48 P=6+1 for outcomes F=3 T=1"
    assert row["sequential_layers"] == 3


def test_a_run_is_timed_in_its_own_sizes(small_run: Path, tmp_path: Path) -> None:
    own, rival = run(tmp_path / "result.json", "latency", "--run", str(small_run))["rows"]
    model = load_world_model(small_run)
    assert own["model"] == "SCD prefix 1+1"
    assert own["parameters"] == models.num_parameters(model)
    assert own["shape"] == f"d=32 P=2+1 for outcomes F=3 T={model.config.num_steps}"
    assert (rival["model"], rival["shape"]) == ("entangled 2", own["shape"])
    arguments = ("latency", "--run", str(small_run), "--sampler-steps", "5")
    own, _ = run(tmp_path / "result.json", *arguments)["rows"]
    assert own["shape"].endswith("T=5")


def test_what_the_cost_model_does_not_know_is_timed_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = testing.image_spec()
    cameras = {"top": CameraSpec(height=8, width=8, channels=4, kind="latent")}
    fed = testing.fed(replace(spec, cameras=cameras))
    save_pretrained(fed, tmp_path / "fed")
    own, rival = run(tmp_path / "result.json", "latency", "--run", str(tmp_path / "fed"))["rows"]
    assert own["model"] == "SCD resume 2+2"
    assert own["model_gflop"] is own["sequential_layers"] is None
    assert own["counted_gflop"] > 0
    assert rival["model_gflop"] > 0
    assert "SCD resume 2+2" in capsys.readouterr().out
    save_pretrained(testing.model(guidance=1.5), tmp_path / "guided")
    own, rival = run(tmp_path / "result.json", "latency", "--run", str(tmp_path / "guided"))["rows"]
    assert own["model_gflop"] is None
    assert rival["model_gflop"] > 0


def test_the_cases_are_those_that_the_engine_is_judged_by() -> None:
    assert tuple(latency.CASES) == bench.CASES
    assert models.MODES == bench.MODES
    assert ENGINES == bench.ENGINES
    short, paper = latency.CASES["short"], latency.CASES["paper"]
    assert (short.dim, short.tokens, short.history, short.sampler_steps) == (512, 64, 16, 10)
    assert (paper.dim, paper.tokens, paper.history, paper.sampler_steps) == (1024, 64, 150, 50)
    for case in latency.CASES.values():
        totals = {encoder + decoder for _, encoder, decoder in case.contestants}
        assert len(totals) == 1  # equal depth
    assert models.num_parameters(stream_model()) >= 4e6


def stream_model() -> torch.nn.Module:
    first = latency.CASES["stream"].entries()[0]
    return models.build(first, BenchOptions())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["latency", "--dim", "33"], "dim must be a multiple of 16, got 33"),
        (["latency", "--tokens", "0"], "tokens must be 1 or more, got 0"),
        (["latency", "--modes", "fast"], r"modes must be some of \('prefix', .*, got \('fast',\)"),
        (["throughput", "--batches", "8,0"], r"batches must be numbers of 1 or more, got \(8, 0\)"),
        (["throughput", "--modes", "none"], r"modes must be some of .*, got \(\)"),
        (["planning", "--worlds", "moon"], r"unknown worlds \['moon'\]; there are \('pixels', "),
        (["planning", "--candidates", "0"], "candidates must be 1 or more, got 0"),
        (["training", "--frames", "1"], "num_frames must be 2 or more, got 1"),
        (["training", "--draws", "0"], r"draws must be numbers of 1 or more, got \(0,\)"),
        (["memory", "--branches", "0"], "branches must be 1 or more, got 0"),
        (["memory", "--threads", "0"], "threads must be 1 or more, got 0"),
        (["latency", "--run", "lift_tiny", "--dim", "64"], "leave out --dim or --run"),
        (["latency", "--run", "no_run"], "no run or model folder no_run; models that ship"),
        (["latency", "--run", "lift_tiny", "--sampler-steps", "0"], "must be 1 or more, got 0"),
        (["latency", "--rounds", "0"], "rounds must be 1 or more, got 0"),
        (["latency", "--turn-s", "-1"], "turn_s must be 0 or more, got -1.0"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(models, "build", None)  # whoever works fails
    assert main(["bench", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0])


def test_a_result_that_cannot_be_written_is_a_mistake_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "build", None)
    for what in (*TIMED, "memory"):
        assert main(["bench", what, "--out", str(tmp_path)]) == 2
        assert "is a folder; --out takes the name of a JSON file" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "latency", "--device", "cuda"]) == 2
    assert "torch finds no CUDA GPU; use --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["12", "10+", "0+2", "1+1+1", "a+b"])
def test_layers_are_of_encoder_and_decoder(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "latency", "--layers", text])
    assert "must be encoder and decoder layers such as 10+2" in capsys.readouterr().err


def test_the_help_of_every_measurement_shows_its_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parsers = choices(choices(build_parser())["bench"])
    assert {*parsers} == {"data", *TIMED, "environments", "memory"}
    for name, parser in parsers.items():
        with pytest.raises(SystemExit, match="0"):
            main(["bench", name, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        for action in parser._actions:
            assert action.help
            if action.default not in (None, False) and action.dest != "help":
                assert f"(default: {action.default})" in text


def choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    assert parser._subparsers is not None
    (group,) = parser._subparsers._group_actions
    return dict(group.choices or {})
