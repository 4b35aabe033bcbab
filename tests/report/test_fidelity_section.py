import numpy as np
import pytest

from scd_wm.evaluation.bootstrap import Interval
from scd_wm.evaluation.counterfactual import Counterfactual, diverge
from scd_wm.evaluation.fidelity import Fidelity
from scd_wm.evaluation.frechet import compare_features
from scd_wm.evaluation.result import REAL, WORLD_MODEL
from scd_wm.report.fidelity_section import fidelity_lines, fidelity_section


def interval(*means: float) -> Interval:
    values = np.array(means)
    return Interval(values, values - 0.1, values + 0.1, np.full(len(means), 4))


@pytest.fixture
def fidelity() -> Fidelity:
    random = np.random.default_rng(0)
    futures = random.normal(size=(5, 3, 4, 2))
    parted = diverge(
        "disc", "px", futures, futures / 2, list("abcde"), (1, 4), seed=0, num_resamples=20
    )
    assert parted is not None
    features = random.normal(size=(12, 3))
    return Fidelity(
        horizons=(1, 4),
        inverse_dynamics={"images": {REAL: interval(0.9, 0.3), WORLD_MODEL: interval(0.8, -7)}},
        frechet=(
            compare_features("net", "top", features, {WORLD_MODEL: features}, np.arange(12), 0),
        ),
        counterfactual=Counterfactual(
            env="Env-v0",
            num_starts=5,
            num_sequences=3,
            horizons=(1, 4),
            divergences={"disc": parted},
        ),
        left_out={"FVD": "no weights"},
    )


def test_every_part_is_drawn_and_told(fidelity: Fidelity) -> None:
    section = fidelity_section(fidelity)
    assert len(section.actions) == 1
    assert "<svg" in section.actions[0]
    assert section.action_table.columns == ["1", "2 to 4"]
    assert section.action_table.rows[1] == (
        "action, by images: world model",
        [("0.800", "0.700 to 0.900"), ("-7.00", "-7.10 to -6.90")],
    )
    sizes = dict(section.divergence_table.rows)["disc: size (1 is right)"]
    assert [text for text, _ in sizes] == ["0.500", "0.500"]
    assert section.num_futures == "3 futures from each of 5 starts"
    assert section.frechet[0][0] == "net, camera top"
    assert "12 samples of 3 features" in section.frechet[0][1]


def test_a_reader_that_fails_on_real_frames_is_warned_of(fidelity: Fidelity) -> None:
    (warning,) = fidelity_section(fidelity).warnings
    assert "hardly be read from the images of real frames" in warning


def test_the_terminal_has_a_line_for_each_part(fidelity: Fidelity) -> None:
    lines = fidelity_lines(fidelity)
    assert lines == [
        "R2 of the action read from images, last stretch: real frames 0.300, world model -7.00",
        "other actions, relative error of what they change: disc 0.500",
        "left out: FVD (no weights)",
    ]


def test_nothing_measured_is_nothing_shown() -> None:
    section = fidelity_section(Fidelity())
    assert not any((section.actions, section.divergences, section.calibration, section.frechet))
