from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scd_wm import testing
from scd_wm.clip import Clip
from scd_wm.model.scd import SCDWorldModel
from scd_wm.spec import Spec
from scd_wm.training.checkpoint import checkpoints, load_world_model
from scd_wm.training.config import TrainConfig
from scd_wm.training.ema import EMA
from scd_wm.training.noise_seeds import row_seeds
from scd_wm.training.run_log import read_log
from scd_wm.training.state import TrainState
from scd_wm.training.trainer import NonFiniteLossError, held_out_losses, make_accelerator, train

from .conftest import Train


class SameClip:
    """The same two clips at every step; from a given step on with a NaN in them."""

    def __init__(self, spec: Spec, broken_step: int | None = None) -> None:
        self.clip = testing.clip(spec, batch=2, num_frames=5)
        self.broken_step = broken_step

    def sample_ids(self, step: int) -> list[int]:
        return [2 * step, 2 * step + 1]

    def batch(self, step: int) -> Clip:
        if self.broken_step is None or step < self.broken_step:
            return self.clip
        return self.clip.map(lambda x: x * float("nan") if x.is_floating_point() else x)

    def iterate(self, start_step: int = 0) -> Iterator[Clip]:
        while True:
            yield self.batch(start_step)
            start_step += 1


def run_small(
    run: Path, config: TrainConfig, batches: SameClip, held_out: SameClip | None = None
) -> TrainState:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SCDWorldModel(testing.state_spec(), testing.config(interface_noise=0.0))
    return train(model, batches, held_out, config, run, make_accelerator())


def test_one_clip_is_learned_by_heart(tmp_path: Path) -> None:
    config = TrainConfig(steps=150, encoder_lr=3e-3, decoder_lr=3e-3, warmup_steps=10, log_every=10)
    run_small(tmp_path, config, SameClip(testing.state_spec()))
    losses = [line["vector"] for line in read_log(tmp_path)]
    assert losses[-1] < losses[0] / 20


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path: Path) -> None:
    config = TrainConfig(steps=9, batch_size=2, checkpoint_every=1)
    with pytest.raises(NonFiniteLossError, match=r"loss is nan.*at step 3.*episode 0; episode 1"):
        run_small(tmp_path, config, SameClip(testing.state_spec(), broken_step=2))
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000001", "step_00000002"]
    assert len(read_log(tmp_path)) == 0


def test_a_line_of_the_log_is_the_mean_since_the_line_before(tmp_path: Path) -> None:
    batches = SameClip(testing.state_spec())
    logs = []
    for log_every in (1, 3):
        run = tmp_path / str(log_every)
        run.mkdir()
        run_small(run, TrainConfig(steps=7, log_every=log_every), batches)
        logs.append(read_log(run))
    each, by_three = logs
    assert [line["step"] for line in by_three] == [3, 6, 7]
    mean = sum(line["grad_norm"] for line in each[3:6]) / 3
    assert by_three[1]["grad_norm"] == pytest.approx(mean)
    assert by_three[2]["loss"] == each[6]["loss"]


def test_averages_follow_the_weights_after_every_step(tmp_path: Path) -> None:
    rates: dict[str, Any] = {"encoder_lr": 0.1, "decoder_lr": 0.1, "warmup_steps": 0}
    config = TrainConfig(steps=4, ema_decay=0.2, checkpoint_every=1, keep_checkpoints=4, **rates)
    run_small(tmp_path, config, SameClip(testing.state_spec()))
    weights, averages = (
        [load_file(path / name)["decoder.join.weight"] for path in checkpoints(tmp_path)]
        for name in ("model.safetensors", "ema.safetensors")
    )
    for step, decay in ((1, 2 / 11), (2, 0.2), (3, 0.2)):
        expected = decay * averages[step - 1] + (1 - decay) * weights[step]
        torch.testing.assert_close(averages[step], expected, rtol=1e-5, atol=1e-6)


def test_every_step_draws_noise_of_its_own(tmp_path: Path) -> None:
    config = TrainConfig(steps=4, encoder_lr=1e-12, decoder_lr=1e-12, log_every=1)
    run_small(tmp_path, config, SameClip(testing.state_spec()))
    assert len({line["loss"] for line in read_log(tmp_path)}) == 4


def test_held_out_losses_are_those_of_the_averaged_weights(tmp_path: Path) -> None:
    config = TrainConfig(steps=4, batch_size=2, eval_every=2, eval_batches=2, log_every=100)
    held_out = SameClip(testing.state_spec())
    state = run_small(tmp_path, config, SameClip(testing.state_spec()), held_out)
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines if "val_loss" in line] == [2, 4]
    averaged = SCDWorldModel(state.model.spec, state.model.config)
    averaged.load_state_dict(state.ema.weights)
    batches = [(held_out.clip, row_seeds(2**40, held_out.sample_ids(i))) for i in range(2)]
    with torch.no_grad():
        losses = [float(averaged(clip, seeds)[0]) for clip, seeds in batches]
    assert lines[-1]["val_loss"] == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert held_out_losses(state.model, state.ema, batches)["val_loss"] == lines[-1]["val_loss"]


@pytest.mark.parametrize("architecture", ["scd", "entangled"])
def test_averaged_weights_take_the_place_of_all_parameters(architecture: str) -> None:
    config = {"refine_channels": 4, "self_rollouts": 1, "draws": 2}  # every kind of layer
    make = testing.entangled if architecture == "entangled" else testing.model
    model = make(testing.image_spec(), **config)
    ema = EMA(model, 0.9)  # its weights are tensors, no parameters
    clip, seeds = testing.clip(model.spec, 2, 5), torch.arange(2)
    with torch.no_grad():
        expected = float(model(clip, seeds)[0])
        for parameter in model.parameters():
            parameter.zero_()
    assert held_out_losses(model, ema, [(clip, seeds)])["val_loss"] == pytest.approx(expected)


def test_evaluation_does_not_change_training(tmp_path: Path) -> None:
    batches = SameClip(testing.state_spec())
    weights = []
    for eval_every in (0, 1):
        run = tmp_path / str(eval_every)
        run.mkdir()
        config = TrainConfig(steps=3, batch_size=2, eval_every=eval_every, eval_batches=1)
        weights.append(run_small(run, config, batches, batches).model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_minutes_limit_a_run_by_its_time(tmp_path: Path) -> None:
    state = run_small(tmp_path, TrainConfig(minutes=0.01), SameClip(testing.state_spec()))
    assert state.step > 0
    assert 0.6 <= state.elapsed_s < 5
    again = run_small(tmp_path, TrainConfig(minutes=0.01), SameClip(testing.state_spec()))
    assert again.step == state.step


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # slower, not wrong
def test_bfloat16_trains_with_float32_weights(tmp_path: Path) -> None:
    config = TrainConfig(steps=3, batch_size=2, precision="bfloat16")
    state = run_small(tmp_path, config, SameClip(testing.state_spec()))
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}


def test_weights_loaded_from_a_run_are_the_averaged_ones(
    train_small: Train, tmp_path: Path
) -> None:
    train_small(tmp_path / "run", overrides=("ema_decay=0.9",))
    from_run = load_world_model(tmp_path / "run").state_dict()
    exported = load_world_model(tmp_path / "run" / "model").state_dict()
    assert all(torch.equal(from_run[name], exported[name]) for name in from_run)
