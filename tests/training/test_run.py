import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.loader import ClipLoader
from scd_wm.datasets.options import DataOptions
from scd_wm.training import files
from scd_wm.training.checkpoint import load_world_model
from scd_wm.training.noise_seeds import row_seeds
from scd_wm.training.run import train_run
from scd_wm.training.run_data import open_evaluated, open_run_data

from .conftest import Train, write_data


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_run_leaves_what_is_documented(train_small: Train, tmp_path: Path) -> None:
    summary = train_small(tmp_path / "run", steps=5)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "log.jsonl", "checkpoints", "model", "summary.json"}
    assert summary == files.read_json(tmp_path / "run" / "summary.json")
    assert summary["steps"] == 5
    assert summary["finished"]
    assert summary["train_episodes"] == 7
    assert summary["held_out_episodes"] == 1
    config = files.read_json(tmp_path / "run" / "config.json")
    assert config["train"]["batch_size"] == 4
    assert config["model"]["dim"] == 32
    assert config["data"]["cameras"] == []
    spec = load_world_model(tmp_path / "run").spec.to_json()
    assert json.loads(json.dumps(spec)) == config["spec"]


def test_runs_of_the_same_seed_are_equal_and_of_others_are_not(
    train_small: Train, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_small(tmp_path / name, seed=seed)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_a_dry_run_writes_nothing_and_prints_sizes(
    train_small: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = train_small(tmp_path / "run", dry_run=True)
    assert config["model"]["dim"] == 32
    assert list(tmp_path.iterdir()) == []
    assert "encoder.blocks" in capsys.readouterr().out


def test_training_never_sees_a_held_out_episode(
    train_small: Train, data: Path, tmp_path: Path
) -> None:
    train_small(tmp_path / "run", held_out=0.3)
    held_out = {episode.name for episode in open_run_data(tmp_path / "run").episodes}
    part, rest = open_dataset(data).split(0.3, seed=0)
    assert held_out == {e.name for e in rest.episodes}
    assert len(held_out) == 2
    assert held_out.isdisjoint(e.name for e in part.episodes)


def test_held_out_episodes_are_known_wherever_the_data_lies(
    train_small: Train, data: Path, tmp_path: Path
) -> None:
    train_small(tmp_path / "run")
    moved = tmp_path / "moved.hdf5"
    moved.write_bytes(data.read_bytes())
    other = write_data(tmp_path / "other.hdf5", seed=5)
    for source in (tmp_path / "run", tmp_path / "run" / "model"):
        assert len(open_run_data(source, moved).episodes) == 1
        assert len(open_run_data(source, other).episodes) == 8


def test_data_of_training_that_is_gone_is_said_to_be(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["data"]["path"] = str(tmp_path / "gone.hdf5")
    path.write_text(json.dumps(config))
    with pytest.raises(
        FileNotFoundError, match=r"run was trained on .*gone.hdf5, which is not here"
    ):
        open_run_data(tmp_path / "run")


def mix(path: Path, *parts: Path) -> Path:
    """Write a mixture of files."""
    entries = [{"path": str(part), "weight": 1} for part in parts]
    path.write_text(json.dumps({"format": "scd_wm mixture", "parts": entries}))
    return path


def test_of_a_part_of_a_mixture_only_what_was_held_out_is_unseen(
    train_small: Train, data: Path, tmp_path: Path
) -> None:
    second = write_data(tmp_path / "second.hdf5", seed=1, num_episodes=4)
    other = write_data(tmp_path / "other.hdf5", seed=5, num_episodes=2)
    mixture = mix(tmp_path / "mix.json", data, second)
    train_small(tmp_path / "run", data=mixture, held_out=0.4)
    held_out = [episode.name for episode in open_run_data(tmp_path / "run").episodes]
    expected = {
        part: [n.removeprefix(f"{part.name}/") for n in held_out if n.startswith(part.name)]
        for part in (data, second)
    }
    assert all(expected.values())  # or this shows nothing
    for source in (tmp_path / "run", tmp_path / "run" / "model"):
        for part, names in expected.items():
            assert [e.name for e in open_run_data(source, part).episodes] == names
        trained, unseen = open_evaluated(source, mix(tmp_path / "new.json", other, second))
        assert trained is not None
        assert {e.name for e in trained.episodes}.isdisjoint(e.name for e in unseen.episodes)
        assert [e.name for e in unseen.episodes] == [
            *("other.hdf5/demo_0", "other.hdf5/demo_1"),
            *(f"second.hdf5/{name}" for name in expected[second]),
        ]
        assert open_evaluated(source, other)[0] is None


def test_a_mixture_knows_data_that_was_trained_on_alone(
    train_small: Train, data: Path, tmp_path: Path
) -> None:
    train_small(tmp_path / "run")
    other = write_data(tmp_path / "other.hdf5", seed=5, num_episodes=2)
    mixture = open_run_data(tmp_path / "run", mix(tmp_path / "mix.json", data, other))
    assert len(mixture.episodes) == 1 + 2


def test_a_run_that_does_not_say_what_it_mixed_is_not_trusted_in_silence(
    train_small: Train, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_data(tmp_path / "other.hdf5", seed=5, num_episodes=2)
    mixture = mix(tmp_path / "mix.json", data, other)
    train_small(tmp_path / "run", data=mixture, held_out=0.4)
    config = files.read_json(tmp_path / "run" / "config.json")
    del config["data"]["parts"]  # as runs of earlier versions are
    files.write_json(tmp_path / "run" / "config.json", config)
    assert len(open_run_data(tmp_path / "run").episodes) == 4
    capsys.readouterr()
    assert len(open_run_data(tmp_path / "run", other).episodes) == 2
    assert "other.hdf5 is a part of it, some of these episodes" in capsys.readouterr().err


def test_data_that_was_all_trained_on_is_not_for_evaluation(
    train_small: Train, tmp_path: Path
) -> None:
    train_small(tmp_path / "run", held_out=0)
    with pytest.raises(ValueError, match="was trained on all episodes"):
        open_run_data(tmp_path / "run")


def test_a_run_is_not_overwritten(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path / "run")
    before = tree(tmp_path / "run")
    with pytest.raises(FileExistsError, match=r"checkpoints up to step_00000006; resume it"):
        train_small(tmp_path / "run")
    assert tree(tmp_path / "run") == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("")
    with pytest.raises(FileExistsError, match=r"photos is not a run folder; it has cat.png"):
        train_small(tmp_path / "photos")


def test_there_must_be_something_to_resume(train_small: Train, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to resume: no folder"):
        train_small(tmp_path / "absent", resume=True)


def test_a_resumed_run_may_be_longer_and_equals_one_that_was_from_the_start(
    train_small: Train, tmp_path: Path
) -> None:
    train_small(tmp_path / "a", steps=9)
    train_small(tmp_path / "b", steps=4)
    train_small(tmp_path / "b", steps=9, resume=True)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_a_resumed_run_keeps_the_settings_that_are_not_given_again(
    train_small: Train, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {
        "overrides": ("encoder_lr=0.001", "log_every=1"),
        "held_out": 0.4,
        "options": DataOptions(cameras=[], frame_skip=2),
        "seed": 3,
    }
    train_small(tmp_path / "a", 9, **settings)
    train_small(tmp_path / "b", 4, **settings)
    began = files.read_json(tmp_path / "b" / "config.json")
    shown = train_run(data, tmp_path / "b", resume=True, dry_run=True)
    assert shown["train"] == began["train"]
    with pytest.raises(ValueError, match=r"data.options.frame_skip was 2 and is 3"):
        train_run(data, tmp_path / "b", resume=True, options=DataOptions(frame_skip=3))
    with pytest.raises(ValueError, match=r"preset was 'state' and is 'tiny'.*keeps its own"):
        train_run(data, tmp_path / "b", resume=True, preset="tiny")
    train_run(data, tmp_path / "b", resume=True, overrides=("steps=9",))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    ended = files.read_json(tmp_path / "b" / "config.json")
    assert ended["data"] == began["data"]
    assert ended["train"] == {**began["train"], "steps": 9}


def test_a_run_from_before_a_setting_existed_goes_on_with_its_default(
    train_small: Train, data: Path, tmp_path: Path
) -> None:
    train_small(tmp_path / "run", steps=2)
    path = tmp_path / "run" / "config.json"
    config = files.read_json(path)
    assert config["train"].pop("distill_weight") == 1
    assert config["model"].pop("least_visible") == 0
    assert config["data"]["options"].pop("only_success") is False
    del config["data"]["parts"]
    files.write_json(path, config)
    assert train_run(data, tmp_path / "run", resume=True, steps=3)["steps"] == 3
    assert train_small(tmp_path / "run", steps=4, resume=True)["steps"] == 4
    files.write_json(path, config | {"train": {**config["train"], "distill_steps": 4}})
    with pytest.raises(ValueError, match="with --init"):
        train_run(data, tmp_path / "run", resume=True, steps=5)
    files.write_json(path, config | {"train": {**config["train"], "momentum": 0.5}})
    with pytest.raises(ValueError, match=r"not of a run of this version: .*'momentum'"):
        train_run(data, tmp_path / "run", resume=True, steps=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": ("encoder_lr=0.5",)}, r"train.encoder_lr was 0.002 and is 0.5"),
        ({"overrides": ("mlp_ratio=2",)}, r"model.mlp_ratio was 4 and is 2"),
        ({"seed": 4}, r"train.seed was 0 and is 4"),
        ({"held_out": 0.4}, r"data.num_train_episodes was 7 and is 5"),
        (
            {"options": DataOptions(cameras=["top"])},
            r"data.options.cameras was \[\] and is \['top'\]",
        ),
    ],
)
def test_a_resumed_run_may_not_have_other_settings(
    train_small: Train, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    train_small(tmp_path / "run", steps=2)
    with pytest.raises(ValueError, match=message):
        train_small(tmp_path / "run", steps=4, resume=True, **changes)


def test_a_run_of_a_version_that_had_fewer_settings_can_be_resumed(
    train_small: Train, tmp_path: Path
) -> None:
    train_small(tmp_path / "run", steps=2)
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    for section, name in (("model", "guidance"), ("train", "distill_weight")):
        del stored[section][name]
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"model\.guidance was 1\.0 and is 1\.5"):
        train_small(tmp_path / "run", steps=3, resume=True, overrides=("guidance=1.5",))
    train_small(tmp_path / "run", steps=3, resume=True)
    assert json.loads(path.read_text())["model"]["guidance"] == 1.0


def test_log_lines_after_the_checkpoint_are_dropped_on_resume(
    train_small: Train, tmp_path: Path
) -> None:
    train_small(tmp_path / "run", steps=4, overrides=("log_every=1",))
    log = tmp_path / "run" / "log.jsonl"
    with log.open("a") as file:
        file.write('{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
    train_small(tmp_path / "run", steps=8, overrides=("log_every=2",), resume=True)
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 6, 8]


def test_init_starts_from_weights_statistics_and_sizes_of_another_run(
    train_small: Train, tmp_path: Path
) -> None:
    train_small(tmp_path / "first")
    other = write_data(tmp_path / "other.hdf5", seed=3)
    tuned = ("encoder_lr=1e-9", "decoder_lr=1e-9", "num_steps=3")
    train_small(tmp_path / "second", 1, data=other, init=tmp_path / "first", overrides=tuned)
    first, second = load_world_model(tmp_path / "first"), load_world_model(tmp_path / "second")
    assert second.spec == first.spec
    assert second.config.num_steps == 3
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=0, atol=1e-6)


def test_init_refuses_other_sizes_and_other_data(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path / "first")
    first = tmp_path / "first"
    with pytest.raises(
        ValueError, match=r"do not fit the weights of .*first: dim was 32 and is 64"
    ):
        train_small(tmp_path / "second", init=first, overrides=("dim=64",))
    with pytest.raises(ValueError, match=r"does not fit the model: camera 'top' is 16x16x3"):
        train_small(tmp_path / "second", init=first, options=DataOptions(cameras=["top"]))
    with pytest.raises(FileNotFoundError, match="no run or model folder"):
        train_small(tmp_path / "second", init=tmp_path / "absent")
    assert not (tmp_path / "second").exists()


def test_images_are_taken_as_they_are_unless_they_are_large(
    train_small: Train, tmp_path: Path
) -> None:
    patches = ("patch_size=8",)
    arguments: dict[str, Any] = {"preset": "tiny", "dry_run": True, "overrides": patches}
    config = train_small(tmp_path, **arguments)
    assert config["data"]["image_sizes"] == {"top": [16, 16]}
    config = train_small(tmp_path, **arguments, options=DataOptions(image_size=24, vectors=[]))
    assert config["data"]["vectors"] == []
    assert config["data"]["image_sizes"] == {"top": [24, 24]}
    large = write_data(tmp_path / "large.hdf5", num_episodes=2, side=80)
    config = train_small(tmp_path / "run", **arguments, data=large)
    assert config["data"]["image_sizes"] == {"top": [64, 64]}


def test_clips_longer_than_every_episode_are_refused_before_anything_is_written(
    train_small: Train, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"no episode of .* has 50 frames, the longest has"):
        train_small(tmp_path / "run", overrides=("num_frames=50",))
    assert not (tmp_path / "run").exists()


def test_tensorboard_is_asked_for_by_its_extra(train_small: Train, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'scd-wm\[tensorboard\]'"):
            train_small(tmp_path / "run", tensorboard=True)
        assert not (tmp_path / "run").exists()
    else:
        train_small(tmp_path / "run", tensorboard=True)
        assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_processes_together_see_the_clips_and_noise_of_one(data: Path) -> None:
    dataset = open_dataset(data, cameras=())
    one = ClipLoader(dataset, 5, 6, seed=3)
    ranks = [ClipLoader(dataset, 5, 6, seed=3, rank=rank, world_size=2) for rank in range(2)]
    batches = [loader.batch(7) for loader in ranks]
    actions = torch.cat([batch.actions for batch in batches])
    assert torch.equal(actions, one.batch(7).actions)
    seeds = torch.cat([row_seeds(3, loader.sample_ids(7)) for loader in ranks])
    assert torch.equal(seeds, row_seeds(3, one.sample_ids(7)))
