import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from scd_wm import testing
from scd_wm.model.scd import SCDWorldModel
from scd_wm.spec import VectorSpec
from scd_wm.training import files
from scd_wm.training.checkpoint import (
    checkpoints,
    from_pretrained,
    latest_checkpoint,
    load_world_model,
    save_pretrained,
)
from scd_wm.training.config import TrainConfig
from scd_wm.training.ema import EMA
from scd_wm.training.state import TrainState, load_state, make_optimizer, save_state

CONFIG = TrainConfig(steps=10, encoder_lr=1e-3, decoder_lr=2e-3)


def new_state(seed: int) -> TrainState:
    model = testing.untied(SCDWorldModel(testing.state_spec(), testing.config()), seed)
    return TrainState(model, EMA(model, 0.9), make_optimizer(model, CONFIG))


def take_step(state: TrainState) -> None:
    clip = testing.clip(testing.state_spec(), 2, 5, seed=state.step)
    loss, _ = state.model(clip, torch.arange(2))
    loss.backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.ema.update(state.step)
    state.step += 1


def assert_same(one: TrainState, two: TrainState) -> None:
    assert (one.step, one.samples, one.elapsed_s) == (two.step, two.samples, two.elapsed_s)
    weights = zip(one.model.parameters(), two.model.parameters(), strict=True)
    for a, b in weights:
        assert torch.equal(a, b)
        for moment, value in one.optimizer.state[a].items():
            assert torch.equal(value, two.optimizer.state[b][moment])
    for name, average in one.ema.weights.items():
        assert torch.equal(average, two.ema.weights[name])


def test_a_state_comes_back_bit_for_bit_and_goes_on_the_same(tmp_path: Path) -> None:
    state = new_state(0)
    for _ in range(3):
        take_step(state)
    state.elapsed_s, state.samples = 1.2345678901234567, 99
    save_state(state, tmp_path, keep=2)
    loaded = new_state(1)
    load_state(loaded, tmp_path)
    assert_same(state, loaded)
    take_step(state)
    take_step(loaded)
    assert_same(state, loaded)


def test_only_weight_matrices_decay_and_both_parts_have_their_rate() -> None:
    model = testing.model()
    groups = make_optimizer(model, CONFIG).param_groups
    of = {p: group for group in groups for p in group["params"]}
    assert of.keys() == set(model.parameters())
    for name, parameter in model.named_parameters():
        is_matrix = name.endswith(".weight") and parameter.ndim > 1
        assert of[parameter]["weight_decay"] == (CONFIG.weight_decay if is_matrix else 0)
        rate = CONFIG.encoder_lr if name.startswith("encoder.") else CONFIG.decoder_lr
        assert of[parameter]["lr"] == rate


def test_old_checkpoints_go_when_the_new_one_is_there(tmp_path: Path) -> None:
    state = new_state(0)
    for _ in range(4):
        take_step(state)
        save_state(state, tmp_path, keep=2)
    assert [p.name for p in checkpoints(tmp_path)] == ["step_00000003", "step_00000004"]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path: Path) -> None:
    state = new_state(0)
    take_step(state)
    whole = save_state(state, tmp_path, keep=2)
    partial = files.temporary(whole.with_name("step_00000002"))
    shutil.copytree(whole, partial)
    (partial / "model.safetensors").write_bytes(b"cut")
    assert latest_checkpoint(tmp_path) == whole
    loaded = new_state(1)
    load_state(loaded, tmp_path)
    assert_same(state, loaded)
    assert not partial.exists()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with files.new_folder(tmp_path / "folder") as partial:
            (partial / "file").write_text("new")
            raise ValueError("disk is full")

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    with pytest.raises(ValueError, match="disk is full"):
        write_and_fail()
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_an_exported_model_comes_back_with_its_spec_and_config(tmp_path: Path) -> None:
    model = testing.model()
    save_pretrained(model, tmp_path / "model", {"note": "x"})
    loaded = from_pretrained(tmp_path / "model")
    assert (loaded.spec, loaded.config) == (model.spec, model.config)
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    assert files.read_json(tmp_path / "model" / "config.json")["note"] == "x"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_weights_may_be_read_by_whom_the_user_lets_read_files(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        folder = save_pretrained(testing.model(), tmp_path / "model")
        files.replace_tensors(tmp_path / "one.safetensors", {"a": torch.zeros(2)})
    finally:
        os.umask(before)
    for path in (*folder.iterdir(), tmp_path / "one.safetensors"):
        assert path.stat().st_mode & 0o777 == mode, path


def test_float16_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    model = testing.model()
    sizes = {}
    kinds: tuple[Literal["float32", "float16"], ...] = ("float32", "float16")
    for dtype in kinds:
        folder = save_pretrained(model, tmp_path / dtype, dtype=dtype)
        sizes[dtype] = (folder / "model.safetensors").stat().st_size
    assert sizes["float16"] < 0.6 * sizes["float32"]
    for name, tensor in from_pretrained(tmp_path / "float16").state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.state_dict()[name].half().float())


def test_a_weight_too_large_for_float16_is_refused(tmp_path: Path) -> None:
    model = testing.model()
    with torch.no_grad():
        model.encoder_parameters()[0].fill_(1e6)
    with pytest.raises(ValueError, match="not finite as float16"):
        save_pretrained(model, tmp_path / "model", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_exporting_replaces_a_model_and_nothing_else(tmp_path: Path) -> None:
    save_pretrained(testing.model(), tmp_path / "model")
    save_pretrained(testing.model(), tmp_path / "model", {"second": True})
    assert files.read_json(tmp_path / "model" / "config.json")["second"]
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(FileExistsError, match="something other than a model"):
        save_pretrained(testing.model(), tmp_path)
    assert (tmp_path / "notes").read_text() == "mine"


def test_weights_of_another_shape_or_cut_short_are_refused(tmp_path: Path) -> None:
    folder = save_pretrained(testing.model(), tmp_path / "model")
    config = files.read_json(folder / "config.json")
    wide = replace(testing.image_spec(), action=VectorSpec.unit(5)).to_json()
    files.write_json(folder / "config.json", {**config, "spec": wide})
    with pytest.raises(ValueError, match=r"does not fit: \S*action\S* is .*, the model has .*5"):
        from_pretrained(folder)
    files.write_json(folder / "config.json", config)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        from_pretrained(folder)


def test_a_folder_that_is_no_model_is_named_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run or model folder"):
        load_world_model(tmp_path / "absent")
    (tmp_path / "photos").write_text("")
    with pytest.raises(ValueError, match=r"is not a run or model folder: .*photos"):
        load_world_model(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        load_world_model(tmp_path / "photos")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="has no weights yet"):
        load_world_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"config.json does not describe a model"):
        load_world_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_world_model(tmp_path)
