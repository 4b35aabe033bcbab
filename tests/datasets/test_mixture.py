"""Several data sets as one: what must agree, what is drawn how often, whose images are read."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scd_wm.datasets.dataset import RobotDataset, open_dataset
from scd_wm.datasets.doctor_images import survey_images
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.loader import ClipLoader
from scd_wm.datasets.robomimic_hdf5 import RobomimicWriter
from scd_wm.testing import check_reader
from tests.datasets.conftest import write_lerobot, write_robomimic

RENAME = {"observation.images.top": "top_image", "observation.state": "state"}


def write_mixture(path: Path, parts: list[Any]) -> Path:
    """Write a mixture file."""
    path.write_text(json.dumps({"format": "scd_wm mixture", "parts": parts}))
    return path


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """Return a mixture of a file and a folder with video, the second drawn three times as often."""
    write_robomimic(tmp_path / "sim.hdf5", (5, 2))
    write_lerobot(tmp_path / "real", (4, 3, 6))
    parts = [
        {"path": "sim.hdf5", "weight": 1},
        {"path": "real", "weight": 3, "rename": RENAME},
    ]
    return write_mixture(tmp_path / "mix.json", parts)


def test_a_mixture_has_the_episodes_of_all_parts(mixture: Path, tmp_path: Path) -> None:
    dataset = open_dataset(mixture)
    parts = [open_dataset(tmp_path / "sim.hdf5"), open_dataset(tmp_path / "real", rename=RENAME)]
    names = ["sim.hdf5/demo_0", "sim.hdf5/demo_1", *(f"real/episode_00000{i}" for i in range(3))]
    assert [e.name for e in dataset.episodes] == names
    assert dataset.cameras == ("top_image",)
    assert dataset.fps == 10
    whole = [clips(part) for part in parts]
    assert clips(dataset) == whole[0] + whole[1]


def clips(dataset: RobotDataset) -> list[Any]:
    """Return all that a data set gives."""
    return [
        (
            clip.images["top_image"].tolist(),
            clip.vectors["state"].tolist(),
            clip.actions.tolist(),
            clip.outcome["success"].tolist(),
            clip.valid["top_image"].tolist(),
        )
        for i, e in enumerate(dataset.episodes)
        for clip in [dataset.clip(i, 0, e.num_actions + 1)]
    ]


def test_outcomes_that_a_part_lacks_are_left_out_and_said(mixture: Path) -> None:
    dataset = open_dataset(mixture)
    assert dataset.outcomes == ("reward", "success")
    assert "sim.hdf5: terminated not in all parts of the mixture" in dataset.info.skipped


def test_clips_are_drawn_by_weight_each_part_evenly(mixture: Path) -> None:
    loader = ClipLoader(open_dataset(mixture, cameras=[]), 3, 1, seed=0)
    num_drawn = 40 * loader.num_windows
    drawn = [loader.batch(step).episodes[0] for step in range(num_drawn)]
    shares = np.mean([name.startswith("real/") for name in drawn])
    assert shares == pytest.approx(0.75, abs=0.02)
    for part, num_windows in (("sim", 5 + 2), ("real", 4 + 3 + 6)):  # one starts before frame 0
        names, counts = np.unique([n for n in drawn if n.startswith(part)], return_counts=True)
        assert len(names) == num_windows
        assert counts.max() - counts.min() <= 1


def test_the_order_depends_on_seed_and_step_alone(mixture: Path) -> None:
    dataset = open_dataset(mixture, cameras=[])
    first, second = (ClipLoader(dataset, 3, 4, seed=1) for _ in range(2))
    assert first.batch(57).episodes == second.batch(57).episodes
    halves = [ClipLoader(dataset, 3, 4, seed=1, rank=rank, world_size=2) for rank in range(2)]
    joined = [name for half in halves for name in half.batch(57).episodes]
    assert joined == list(first.batch(57).episodes)


def test_without_weights_every_window_comes_once(mixture: Path, tmp_path: Path) -> None:
    parts = [{"path": "sim.hdf5"}, {"path": str(tmp_path / "real"), "rename": RENAME}]
    dataset = open_dataset(write_mixture(tmp_path / "plain.json", parts), cameras=[])
    loader = ClipLoader(dataset, 3, 1, seed=0)
    drawn = [loader.batch(step).episodes[0] for step in range(loader.num_windows)]
    assert len(set(drawn)) == loader.num_windows


def test_a_subset_of_a_mixture_keeps_the_weights(mixture: Path) -> None:
    dataset = open_dataset(mixture, cameras=[])
    assert dataset.weighted_groups() == [(1, [0, 1]), (3, [2, 3, 4])]
    assert dataset.subset([1, 4]).weighted_groups() == [(1, [0]), (3, [1])]
    assert dataset.subset([3, 4]).weighted_groups() == [(3, [0, 1])]


def test_a_pattern_stands_for_all_that_it_matches(mixture: Path, tmp_path: Path) -> None:
    write_robomimic(tmp_path / "sim2.hdf5", (3,))
    parts = [{"path": "sim*.hdf5", "weight": 1}, {"path": "real", "weight": 3, "rename": RENAME}]
    dataset = open_dataset(write_mixture(mixture, parts), cameras=[])
    assert dataset.weighted_groups() == [(0.5, [0, 1]), (0.5, [2]), (3, [3, 4, 5])]
    write_mixture(mixture, [{"path": "none*.hdf5"}])
    with pytest.raises(FileNotFoundError, match=r"mix.json: nothing matches .*none\*.hdf5"):
        open_dataset(mixture)


def test_parts_that_do_not_agree_are_refused(mixture: Path, tmp_path: Path) -> None:
    write_mixture(mixture, [{"path": "sim.hdf5"}, {"path": "real"}])
    with pytest.raises(ValueError, match=r"share no key: .*sim.hdf5 has \['state', .*'rename'"):
        open_dataset(mixture)
    with h5py.File(tmp_path / "sim.hdf5", "r+") as file:
        for demo in file["data"].values():
            del demo["actions"]
            demo["actions"] = np.zeros((len(demo["rewards"]), 3))
    write_mixture(mixture, [{"path": "sim.hdf5"}, {"path": "real", "rename": RENAME}])
    with pytest.raises(ValueError, match=r"cannot mix .*sim.hdf5 with .*real: actions of length 3"):
        open_dataset(mixture)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "needs 'parts', a list"),
        ([{"weight": 1}], "part 0 needs a 'path', got {'weight': 1}"),
        ([{"path": "sim.hdf5", "wait": 1}], r"part 0 has \['wait'\]; allowed are"),
        ([{"path": "sim.hdf5", "weight": 0}], r"'weight' above 0 or none, got \[0\]"),
        ([{"path": "sim.hdf5", "weight": 1}, {"path": "real"}], r"or none, got \[1, None\]"),
        ([{"path": "sim.hdf5", "rename": "x"}], "'rename' of part 0 must be old: new"),
    ],
)
def test_wrong_mixture_files_are_refused(mixture: Path, parts: list[Any], message: str) -> None:
    write_mixture(mixture, parts)
    with pytest.raises(ValueError, match=message):
        open_dataset(mixture)


def test_a_part_that_is_not_there_is_named(mixture: Path) -> None:
    write_mixture(mixture, [{"path": "elsewhere"}])
    with pytest.raises(FileNotFoundError, match=r"no data set at .*elsewhere"):
        open_dataset(mixture)


def with_rate(path: Path, fps: float | None) -> Path:
    """Write a robomimic file of a control rate."""
    kwargs = {} if fps is None else {"control_freq": fps}
    env_args = {"env_name": "Test", "type": 2, "env_kwargs": kwargs}
    with RobomimicWriter(path, env_args) as writer:
        writer.add_episode({"state": np.zeros((4, 2))}, np.zeros((3, 2)))
    return path


def test_all_parts_that_say_their_rate_must_have_one(tmp_path: Path) -> None:
    for number, fps in enumerate((None, 10, 20)):
        with_rate(tmp_path / f"{number}.hdf5", fps)
    mixture = write_mixture(tmp_path / "mix.json", [{"path": "*.hdf5"}])
    with pytest.raises(ValueError, match=r"1\.hdf5 with .*2\.hdf5: steps a second: 10 and 20"):
        open_dataset(mixture)


def test_a_key_has_the_dtype_that_holds_it_in_all_parts(tmp_path: Path) -> None:
    for name, dtype in (("a", np.float32), ("b", np.float64)):
        with RobomimicWriter(tmp_path / f"{name}.hdf5", {}) as writer:
            writer.add_episode({"state": np.full((4, 2), 0.1, dtype)}, np.zeros((3, 2)))
    reader = open_reader(write_mixture(tmp_path / "mix.json", [{"path": "*.hdf5"}]))
    check_reader(reader)
    assert reader.info.fields["state"].dtype == "float64"
    assert reader.read(1, "state", 0, 1).tolist() == [[0.1, 0.1]]


@pytest.mark.parametrize("pattern", ["*.json", "other.json"])
def test_a_mixture_within_a_mixture_is_refused(tmp_path: Path, pattern: str) -> None:
    write_mixture(tmp_path / "other.json", [{"path": "sim.hdf5", "weight": 2}])
    mixture = write_mixture(tmp_path / "mix.json", [{"path": pattern}])
    with pytest.raises(ValueError, match=r"part .*\.json is a mixture itself; name its parts"):
        open_dataset(mixture)


def test_what_a_mixture_does_not_know_is_refused(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "sim.hdf5", (3,))
    mixture = write_mixture(tmp_path / "mix.json", [{"path": "sim.hdf5", "rename": {"state": 3}}])
    with pytest.raises(ValueError, match=r"'rename' of part 0 must be old: new, texts both"):
        open_dataset(mixture)
    mixture.write_text(
        json.dumps({"format": "scd_wm mixture", "parts": [{"path": "sim.hdf5"}], "weights": [1]})
    )
    with pytest.raises(ValueError, match=r"has \['weights'\]; allowed are \['format', 'parts'\]"):
        open_dataset(mixture)


@pytest.mark.parametrize("has_video", [False, True])
def test_the_doctor_looks_at_images_of_every_part(
    mixture: Path, tmp_path: Path, has_video: bool
) -> None:
    parts = [{"path": "sim.hdf5"}, {"path": "other.hdf5"}]
    write_robomimic(tmp_path / "other.hdf5", (5, 2))
    path = mixture if has_video else write_mixture(tmp_path / "files.json", parts)
    reader = open_reader(path)
    (survey,) = survey_images(reader, 10, budget_s=60).values()
    assert survey.problems == {}
    assert sorted(s.episode for s in survey.stretches) == list(range(len(reader.info.episodes)))
