from dataclasses import replace

import numpy as np
import pytest

from scd_wm.model.config import WorldModelConfig
from scd_wm.model.presets import PRESETS
from scd_wm.training.config import TrainConfig
from scd_wm.training.noise_seeds import _mix, row_seeds
from scd_wm.training.overrides import apply_overrides
from scd_wm.training.recipes import RECIPES, recipe

MODEL = WorldModelConfig(dim=32, num_heads=2, encoder_layers=1, decoder_layers=1)
CONFIGS = {"model": MODEL, "train": TrainConfig(steps=10)}


def test_overrides_are_parsed_by_the_type_of_their_field() -> None:
    changed = apply_overrides(
        [
            "dim=64", "model.residual=no", "prediction=velocity", "encoder_lr=3e-4",
            "betas=0.8,0.9", "precision=bfloat16", "steps=none", "minutes=2.5",
        ],
        CONFIGS,
    )  # fmt: skip
    assert changed["model"] == replace(MODEL, dim=64, residual=False, prediction="velocity")
    assert changed["train"] == TrainConfig(
        minutes=2.5, encoder_lr=3e-4, betas=(0.8, 0.9), precision="bfloat16"
    )
    assert CONFIGS["model"] == MODEL


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "dimension=3",
            r"no setting 'dimension'; there are model: arch, dim, .*train: steps, minutes",
        ),
        ("dmi=3", r"no setting 'dmi'; did you mean dim\? there are model: "),
        ("train.dim=3", r"no setting 'train.dim'"),
        ("dim", r"form key=value, got 'dim'"),
        ("dim=wide", r"dim must be int, got 'wide'"),
        ("residual=maybe", r"residual must be bool, got 'maybe'"),
        ("betas=0.9", r"betas must be tuple\[float, float\], got '0.9'"),
        ("precision=half", r"precision must be one of \['float32', 'bfloat16'\], got 'half'"),
        ("batch_size=0", r"batch_size must be at least 1, got 0"),
    ],
)
def test_a_wrong_override_is_named_with_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_overrides([override], CONFIGS)


def test_a_key_of_two_sections_needs_its_section() -> None:
    both = {"one": CONFIGS["train"], "two": CONFIGS["train"]}
    with pytest.raises(ValueError, match=r"'seed' is in \['one', 'two'\]: write one.seed"):
        apply_overrides(["seed=3"], both)
    assert apply_overrides(["two.seed=3"], both)["two"].seed == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "either steps or minutes"),
        ({"minutes": 3.0}, "either steps or minutes"),
        ({"steps": 0}, "steps must be above 0"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0"),
        ({"num_frames": 1}, "num_frames must be at least 2"),
        ({"ema_decay": 1.0}, "betas and ema_decay must be in"),
        ({"cooldown_steps": 11}, "cooldown_steps=11 needs at least as many steps"),
        ({"steps": None, "minutes": 1.0, "cooldown_steps": 1}, "cooldown_steps=1 needs"),
    ],
)
def test_a_wrong_training_configuration_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TrainConfig(steps=10), **changes)


def test_the_rate_rises_stays_and_falls() -> None:
    config = TrainConfig(steps=10, warmup_steps=4, cooldown_steps=2)
    rates = [config.lr_scale(step) for step in range(11)]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.5, 0]


def test_without_cooldown_the_rate_does_not_depend_on_the_limit() -> None:
    short, long = TrainConfig(steps=10), TrainConfig(minutes=1000)
    assert [short.lr_scale(step) for step in range(10)] == [long.lr_scale(s) for s in range(10)]


def test_every_model_preset_has_a_recipe() -> None:
    assert list(RECIPES) == list(PRESETS)
    for name, preset in PRESETS.items():
        assert recipe(name).model == preset()
        assert recipe(name).train.num_frames >= 2 * preset().window


def test_an_unknown_preset_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"no preset 'huge'; there are .*tiny"):
        recipe("huge")


def test_noise_seeds_do_not_depend_on_how_clips_are_divided() -> None:
    together = row_seeds(7, range(100))
    assert together[40:60].tolist() == row_seeds(7, range(40, 60)).tolist()


def test_noise_seeds_of_clips_and_of_runs_differ() -> None:
    seeds = [row_seeds(run, range(1000)).tolist() for run in range(3)]
    assert len(np.unique(seeds)) == 3000


def test_the_hash_is_splitmix64() -> None:
    # The first number of the published generator when its state starts at 0.
    assert _mix(np.zeros(1, np.uint64)).tolist() == [0xE220A8397B1DCDAF]
