"""Learning on true rollouts as a stage of training: from `--init`, resumed, exported."""

from pathlib import Path

import pytest

from scd_wm.training.checkpoint import load_world_model
from scd_wm.training.run_log import read_log

from .conftest import Train
from .test_run import same, weights

FORCED = ("self_rollouts=0", "self_forcing=2", "history_noise=0.3", "log_every=1")


@pytest.mark.parametrize("arch", ["scd", "entangled"])
def test_a_run_on_its_own_rollouts_resumes_exactly(
    train_small: Train, tmp_path: Path, arch: str
) -> None:
    first = tmp_path / "first"
    train_small(first, 2, (f"arch={arch}", "self_rollouts=0"))
    train_small(tmp_path / "whole", 5, FORCED, init=first)
    train_small(tmp_path / "parts", 2, FORCED, init=first)
    train_small(tmp_path / "parts", 5, FORCED, init=first, resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert [line["step"] for line in read_log(tmp_path / "parts")] == [1, 2, 3, 4, 5]
    assert load_world_model(tmp_path / "whole").config.self_forcing == 2
    train_small(tmp_path / "plain", 5, ("log_every=1",), init=first)
    assert not same(weights(tmp_path / "whole"), weights(tmp_path / "plain"))


def test_the_stage_takes_the_place_of_parallel_passes(train_small: Train, tmp_path: Path) -> None:
    """Those that the initial model was trained with are to be ended by name."""
    train_small(tmp_path / "first", 2)
    with pytest.raises(ValueError, match="self_rollouts must be 0 with self_forcing, got 1"):
        train_small(tmp_path / "run", 2, ("self_forcing=1",), init=tmp_path / "first")
    assert not (tmp_path / "run").exists()
