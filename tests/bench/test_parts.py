"""The parts that measurements are made of: peaks, shares of time, memory, tables, models."""

from __future__ import annotations

import pytest
import torch

from scd_wm import imagination
from scd_wm.bench import breakdown, memory, models, results
from scd_wm.bench.machine import describe, gemm_peak
from scd_wm.bench.options import BenchOptions
from scd_wm.bench.resident import in_fresh_process, peak_mib, resident_mib
from scd_wm.bench.timing import Turn


def test_the_peak_is_that_of_the_best_shape() -> None:
    peak = gemm_peak("cpu", torch.float32, 0.0, shapes=((8, 8, 8), (256, 256, 256)))
    assert set(peak["by_shape"]) == {"8x8x8", "256x256x256"}
    assert peak["gflop_per_s"] == peak["by_shape"][peak["shape"]] == max(peak["by_shape"].values())


def test_the_machine_is_described() -> None:
    machine = describe()
    assert machine["threads"] == torch.get_num_threads()
    assert machine["torch"] == torch.__version__
    assert machine["cpu"]


def test_operations_are_of_the_right_kind() -> None:
    kinds = {
        "aten::addmm": "matrix products",
        "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
        "aten::mkldnn_convolution": "convolutions",
        "aten::copy_": "copies",
        "aten::gelu": breakdown.REST,
        "aten::native_layer_norm": breakdown.REST,
    }
    assert {name: breakdown.kind_of(name) for name in kinds} == kinds


def test_shares_are_of_the_wall_time_and_the_rest_is_overhead() -> None:
    found = breakdown.shares({"aten::mm": 30.0, "aten::bmm": 20.0, "aten::gelu": 10.0}, 100.0)
    assert found["matrix products"] == 0.5
    assert found[breakdown.REST] == pytest.approx(0.1)
    assert found[breakdown.OVERHEAD] == pytest.approx(0.4)
    assert sum(found.values()) == pytest.approx(1.0)
    assert breakdown.shares({"aten::mm": 300.0}, 100.0)[breakdown.OVERHEAD] == 0.0  # two threads


def test_matrix_products_are_where_the_time_of_matrix_products_goes() -> None:
    a = torch.ones(512, 512)
    found = breakdown.breakdown(lambda: [torch.mm(a, a) for _ in range(10)])
    assert max(found, key=lambda kind: found[kind]) == "matrix products"


def grow(mebibytes: int) -> tuple[float, float]:
    before = resident_mib()
    assert before is not None
    block = bytearray(mebibytes * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])  # touch every page
    held = resident_mib()
    assert held is not None
    del block
    return held - before, peak_mib() - before


def test_memory_is_measured_in_a_fresh_process() -> None:
    ballast = bytearray(b"x") * (600 * 2**20)  # ours, not that of the process to come
    held, peak = in_fresh_process(grow, 100)
    assert len(ballast) == 600 * 2**20
    assert held == pytest.approx(100, abs=5)
    assert peak == pytest.approx(100, abs=20)


def fail() -> None:
    raise ValueError("no such luck")


def test_a_process_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="the process that measures fail failed"):
        in_fresh_process(fail)
    assert "no such luck" in capfd.readouterr().err


def test_a_storage_counts_once_however_many_views_it_has() -> None:
    whole = torch.zeros(100)
    value = {"a": [whole, whole[:10]], "b": (whole.view(10, 10), torch.zeros(5))}
    assert memory.storage_bytes(value) == 4 * 105


def test_a_branchs_own_memory_is_its_frames_keys_and_values() -> None:
    config, options = memory.MemoryConfig(), BenchOptions()
    entry = config.branching_entry("prefix")
    keys_and_values = 2 * 6 * 4 * 16 * 128 * 4  # both, layers, frames, tokens, width, bytes
    last = 16 * 8 * 8 * 3 * 4
    assert memory.private_bytes(entry, config, options) == keys_and_values + last


def test_a_fork_has_the_rows_of_its_state() -> None:
    options, config = BenchOptions(), memory.QUICK
    entry = config.branching_entry("prefix")
    model = models.build(entry, options)
    state = imagination.begin(model, models.history(entry, 1, options, 2))
    forked = state.fork(3, 2)
    assert forked.last.shape[0] == 3
    assert (forked.last == state.last).all()


@pytest.mark.parametrize("tokens", [1, 7, 16, 64, 128])
def test_a_world_has_the_tokens_that_were_asked_for(tokens: int) -> None:
    config = models.make_config(dim=32, layers=(1, 1), window=2, num_steps=1)
    assert models.entry(models.camera_world(tokens), config, "prefix").num_tokens == tokens


def test_columns_are_in_the_units_that_they_say() -> None:
    turns = [Turn(wall_s=2.0, cpu_s=1.0), Turn(wall_s=6.0, cpu_s=3.0), Turn(wall_s=4.0, cpu_s=2.0)]
    row = results.time_columns(turns, units=0.5)
    assert row["cpu_s"] == {"median": 4.0, "least": 2.0, "most": 6.0}
    assert row["wall_s"] == {"median": 8.0, "least": 4.0, "most": 12.0}
    result = {"gemm_peak": {"float32": {"gflop_per_s": 100.0}}}
    work = results.work_columns(result, row, BenchOptions(), model_flops=80e9, counted=200e9)
    assert work == {
        "model_gflop": 80.0,
        "counted_gflop": 200.0,
        "gflop_per_s": 50.0,
        "share_of_peak": 0.5,
    }


def test_ratios_are_against_the_entangled_contestant() -> None:
    turns = [[Turn(1.0, 1.0), Turn(1.0, 2.0)], [Turn(1.0, 3.0), Turn(1.0, 8.0)]]
    names = ["SCD prefix 1+1", "entangled 2"]
    fast, rival = results.ratio_columns(turns, names, "cpu")
    assert fast["against_entangled"] == {"median": 3.5, "least": 3.0, "most": 4.0}
    assert rival["against_entangled"]["median"] == 1.0
    assert results.ratio_columns(turns[:1], names[:1], "cpu") == [{"against_entangled": None}]


def test_a_table_lines_its_columns_up() -> None:
    columns = (("name", lambda row: row["n"]), ("x", lambda row: results.shown_number(row["x"])))
    rows = [{"n": "first", "x": 1234.6}, {"n": "b", "x": 0.12345}]
    assert results.table(rows, columns) == ["name       x", "first   1230", "b      0.123"]
    assert results.shown_spread({"median": 0.25, "least": 0.1, "most": 1.5}, 1e3) == (
        "250 (100 to 1500)"
    )
