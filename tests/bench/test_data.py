"""The measurement of loaders runs, and what it times are the same clips."""

import json
from pathlib import Path

import pytest

from scd_wm.bench.data import BenchConfig, bench_data, table_lines
from scd_wm.bench.data_sources import SOURCES
from scd_wm.datasets.dataset import open_dataset
from tests.convert.test_convert import NUM_STEPS, write_source

FAST = BenchConfig(num_frames=4, batch_size=2, rounds=1, turn_s=0.001)


def test_every_format_and_robomimics_loader_have_a_row(tmp_path: Path) -> None:
    pytest.importorskip("robomimic", reason="needs the extra 'robomimic'")
    source = write_source(tmp_path / "source.hdf5", num_episodes=2)
    result = bench_data(source, FAST, tmp_path / "out/result.json")
    assert json.loads((tmp_path / "out/result.json").read_text()) == result
    rows = [(row["loader"], row["memory"]) for row in result["rows"]]
    assert rows[: 2 * len(SOURCES)] == [(n, m) for n in SOURCES for m in ("all", "numbers")]
    assert [memory for name, memory in rows if name == "SequenceDataset of robomimic.hdf5"] == [
        "all",
        "numbers",
        "nothing",
    ]
    assert all(0 < r["least"] <= r["clips_per_cpu_s"] <= r["most"] for r in result["rows"])
    assert f"{2 * NUM_STEPS} steps" in result["clip"]
    assert len(table_lines(result)) == 1 + len(rows)
    assert result["resident_mib_in_an_epoch"]["at_the_end"] > 0


def test_the_same_episodes_are_written_in_each_format(tmp_path: Path) -> None:
    source = open_dataset(write_source(tmp_path / "source.hdf5", num_episodes=2))
    expected = source.clip(1, 3, 5)
    for name, write in SOURCES.items():
        write(source, tmp_path / name)
        found = open_dataset(tmp_path / name, cache_dir=tmp_path / "cache").clip(1, 3, 5)
        assert (found.actions == expected.actions).all()
        if name != "lerobot":  # video is lossy
            assert (found.images["top_image"] == expected.images["top_image"]).all()
