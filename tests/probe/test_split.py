"""The suggested split on made numbers, and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scd_wm.probe.config import ProbeConfig
from scd_wm.probe.split import in_words, regularities, sampler_words, suggest
from scd_wm.probe.summary import rise

CONFIG = ProbeConfig()
UNIFORM = 0.8


def layer(number: int, cosine: float, past: float, once: float, **changes: float) -> dict[str, Any]:
    return {
        "layer": number,
        "steps": {"centred": {"mean": cosine}},
        "next_frame": {"centred": changes.get("next_frame", 0.5)},
        "past_mass": {"mean": past},
        "loss_blind": {"mean": changes.get("blind", past)},
        "once": {"rise": {"mean": once, "low": changes.get("low", once / 2)}},
    }


PAPER = [  # as in the paper: early layers see noise, middle ones reason, deep ones denoise
    layer(0, 0.80, 0.5, 0.9),
    layer(1, 0.97, 0.6, 0.04),
    layer(2, 0.98, 0.7, 0.0),
    layer(3, 0.96, 0.4, 0.01),
    layer(4, 0.70, 0.05, 0.3),
    layer(5, 0.60, 0.01, 0.5),
]


def test_the_encoder_ends_with_the_plateau_and_the_decoder_has_what_denoises() -> None:
    split = suggest(PAPER, UNIFORM, CONFIG)
    assert split.encoder == [0, 1, 2, 3]
    assert split.decoder == [0, 4, 5]
    assert [reason.split(":")[0] for reason in split.reasons] == [
        "encoder and decoder",
        *["encoder"] * 3,
        *["decoder"] * 2,
    ]
    change = split.intervention()
    assert change.once == {1, 2, 3}
    assert change.blind == {4, 5}
    assert change.blind_later == {0}


def test_steps_no_more_alike_than_frames_are_no_plateau() -> None:
    layers = [layer(i, 0.98, 0.5, 0.0, next_frame=0.99) for i in range(3)]
    split = suggest(layers, UNIFORM, CONFIG)
    assert split.encoder == []
    assert split.decoder == [0, 1, 2]
    words = in_words(regularities(layers, UNIFORM, CONFIG), split, layers)
    assert words[-1].startswith("No split is suggested")


def test_a_decoder_has_a_layer_even_if_none_must_be_in_it() -> None:
    split = suggest([layer(i, 0.99, 0.5, 0.0) for i in range(3)], UNIFORM, CONFIG)
    assert (split.encoder, split.decoder) == ([0, 1, 2], [2])


def test_a_rise_that_could_be_chance_does_not_make_a_layer_needed() -> None:
    layers = [layer(0, 0.99, 0.5, 0.3, low=-0.1), layer(1, 0.99, 0.5, 0.3, low=0.1)]
    assert suggest(layers, UNIFORM, CONFIG).decoder == [1]


def test_regularities_are_seen_partly_seen_or_not() -> None:
    found = regularities(PAPER, UNIFORM, CONFIG)
    assert found["first_deep_layer"] == 4
    assert found["same_features"] == "partly seen"  # not in layer 0
    assert found["no_past_in_deep_layers"] == "seen"
    assert found["rank_of_past_mass_and_loss_without_past"] == pytest.approx(1.0)
    assert found["rank_of_change_between_steps_and_error_if_run_once"] > 0.5
    against = [{**x, "loss_blind": {"mean": -x["past_mass"]["mean"]}} for x in PAPER]
    turned = regularities(against, UNIFORM, CONFIG)
    assert turned["rank_of_past_mass_and_loss_without_past"] == pytest.approx(-1.0)
    split = suggest(PAPER, UNIFORM, CONFIG)
    assert in_words(turned, split, PAPER)[2].endswith("of -1.00: they do not agree.")
    assert in_words(found, split, PAPER)[2].endswith("of 1.00: they agree.")


def test_a_sampler_that_needs_one_step_is_said_to_tell_little() -> None:
    samplers = {"one step": {"rise": {"mean": 0.3}, "moved": 0.48}, "middle once": {"moved": 0.12}}
    assert sampler_words(samplers, CONFIG) == []
    error, drawn = sampler_words(
        {**samplers, "one step": {"rise": {"mean": -0.1}, "moved": 0.48}}, CONFIG
    )
    assert "differs by -10.0% from that of" in error
    assert "moves 0.48 when a single step" in drawn
    assert drawn.endswith("and 0.12 when the middle layers run once.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plateau": 2.0}, "plateau must be a cosine from -1 to 1, got 2.0"),
        ({"plateau": float("nan")}, "plateau must be a cosine from -1 to 1, got nan"),
        ({"matters": float("nan")}, "near_zero and matters must be 0 or more, got 0.1 and nan"),
        ({"near_zero": -0.1}, "near_zero and matters must be 0 or more, got -0.1"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_thresholds_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbeConfig(**changes)


def test_a_rise_is_of_sums_at_each_level_and_its_interval_of_whole_groups() -> None:
    full = np.array([[1.0, 2.0], [3.0, 2.0], [1.0, 2.0], [3.0, 2.0]])
    found = rise(full * np.array([1.5, 1.0]), full, np.array([0, 0, 1, 1]), CONFIG)
    assert found["by_level"] == pytest.approx([0.5, 0.0])
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((0.25, 0.25, 0.25))
    changed = full.copy()
    changed[:2] *= 2  # one group doubles, the other stays
    found = rise(changed, full, np.array([0, 0, 1, 1]), CONFIG)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((0.5, 0.0, 1.0))
