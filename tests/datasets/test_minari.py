"""Minari data sets: images, spaces, infos, and what is said of what cannot be read."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.minari_reader import MinariReader
from tests.datasets.write_minari import jpeg, write_episode, write_metadata

T = 4
STATE = np.arange(2.0 * (T + 1)).reshape(T + 1, 2)


def write(
    folder: Path,
    observations: Mapping[str, np.ndarray],
    actions: np.ndarray | None = None,
    success: Sequence[bool] | None = None,
    **metadata: Any,
) -> Path:
    """Write a data set of two equal episodes."""
    (folder / "data").mkdir(parents=True)
    write_metadata(folder / "data", **metadata)
    with h5py.File(folder / "data/main_data.hdf5", "w") as file:
        for index in range(2):
            given = np.zeros((T, 2), np.float32) if actions is None else actions
            write_episode(file, index, observations, given, success)
    return folder


def edit(folder: Path, change: Callable[[h5py.File], object]) -> MinariReader:
    """Change a data set's file and open it."""
    with h5py.File(folder / "data/main_data.hdf5", "r+") as file:
        change(file)
    return MinariReader(folder)


def images(seed: int = 0) -> np.ndarray:
    """Return (T + 1, 32, 48, 3) uint8 images, no two alike."""
    return np.random.default_rng(seed).integers(0, 256, (T + 1, 32, 48, 3), np.uint8)


def test_a_data_set_opens_by_folder_data_and_file(minari_folder: Path) -> None:
    for path in (minari_folder, minari_folder / "data", minari_folder / "data/main_data.hdf5"):
        dataset = open_dataset(path)
        assert dataset.info.format == "Minari"
        assert dataset.fps == 10
        assert dataset.outcomes == ("reward", "terminated", "success")
    renamed = minari_folder / "other.h5"
    (minari_folder / "data/main_data.hdf5").rename(renamed)
    assert open_reader(renamed).info.fps is None


def test_images_are_read_exactly_lossless_or_as_pillow_decodes_them(tmp_path: Path) -> None:
    equal = np.zeros((T + 1, 32, 48, 3), np.uint8)  # JPEG files of one length: no varying type
    frames = {"raw": images(), "jpeg": images(), "a/equal_jpeg": equal}
    reader = open_reader(write(tmp_path / "m", frames))
    with h5py.File(tmp_path / "m/data/main_data.hdf5") as file:
        kinds = [
            file[f"episode_0/observations/{key}"].dtype.kind for key in ("jpeg", "a/equal_jpeg")
        ]
    assert kinds == ["O", "u"]
    assert {f.shape for f in reader.info.fields.values()} == {(32, 48, 3)}
    np.testing.assert_array_equal(reader.read(1, "raw", 1, T + 1), images()[1:])
    np.testing.assert_array_equal(reader.read(1, "a/equal_jpeg", 0, T + 1), equal)
    decoded = [np.asarray(Image.open(io.BytesIO(jpeg(i).tobytes()))) for i in images()[2:4]]
    np.testing.assert_array_equal(reader.read(1, "jpeg", 2, 4), np.stack(decoded))


def test_one_array_of_observations_keeps_its_name(tmp_path: Path) -> None:
    reader = open_reader(write(tmp_path / "m", {"": STATE}))
    assert list(reader.info.fields) == ["observations"]
    np.testing.assert_array_equal(reader.read(0, "observations", 3, 5), STATE[3:])


def test_discrete_actions_become_one_hot(tmp_path: Path) -> None:
    space = {"type": "Discrete", "dtype": "int64", "start": 1, "n": 5}
    path = write(
        tmp_path / "m", {"": STATE}, np.array([1, 5, 3, 1]), action_space=json.dumps(space)
    )
    assert open_reader(path).info.action_dim == 5
    rows = open_reader(path).read(0, "action", 1, 4)
    np.testing.assert_array_equal(rows, np.eye(5)[[4, 2, 0]])
    reader = edit(path, lambda file: file["episode_0/actions"].__setitem__(2, 6))
    with pytest.raises(ValueError, match=r"episode_0/actions in .* 1 to 6, but .*\(5,\) choices"):
        reader.read(0, "action", 2, 4)


def test_several_discrete_actions_become_one_hot_side_by_side(tmp_path: Path) -> None:
    space = json.dumps({"type": "MultiDiscrete", "nvec": [2, 3], "start": [0, 0]})
    actions = np.array([[0, 2], [1, 0], [1, 1], [0, 0]])
    reader = open_reader(write(tmp_path / "m", {"": STATE}, actions, action_space=space))
    rows = reader.read(0, "action", 0, 2)
    assert rows.tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]


@pytest.mark.parametrize("space", ["{}", "no", '{"type": "Discrete", "n": 9000}', None, [1]])
def test_whole_numbers_without_a_space_are_refused(tmp_path: Path, space: object) -> None:
    path = write(tmp_path / "m", {"": STATE}, np.arange(T), action_space=space)
    with pytest.raises(ValueError, match=r"one whole number each .*no Discrete space .*vectors"):
        open_reader(path)


def test_actions_of_a_dict_space_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m", {"": STATE})

    def change(file: h5py.File) -> None:
        for episode in file.values():
            episode.move("actions", "actions_x")
            episode.move("actions_x", "actions/arm")

    with pytest.raises(ValueError, match=r"Dict or Tuple space are not read: .*episode_0, epi"):
        edit(path, change)


@pytest.mark.parametrize("key", ["infos/success", "infos/is_success"])
@pytest.mark.parametrize("with_reset", [True, False])
def test_success_is_that_of_the_step(tmp_path: Path, key: str, with_reset: bool) -> None:
    flags = [False, False, True, False, True]
    path = write(tmp_path / "m", {"": STATE})
    reader = edit(
        path,
        lambda file: [e.__setitem__(key, flags[not with_reset :]) for e in file.values()],
    )
    assert reader.read(0, "success", 0, T).tolist() == flags[1:]
    assert reader.read(0, "success", 1, 3).tolist() == flags[2:4]
    assert reader.read(0, "terminated", 0, T).tolist() == [False, False, False, True]
    assert reader.read(0, "reward", 2, 4).tolist() == [2, 3]


def test_what_is_not_used_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "m", {"state": STATE, "words/text": np.array([b"go"] * (T + 1), "S2")})

    def change(file: h5py.File) -> None:
        file["episode_0"].attrs["total_steps"] = 99
        file["episode_1/infos/deep/x"] = np.zeros(T + 1)
        del file["episode_0/rewards"]
        file["episode_7/actions"] = np.zeros((T, 3))
        file["episode_7/observations/state"] = STATE
        file["episode_8/actions"] = np.zeros((0, 2))
        file["episode_8/observations/state"] = STATE[:1]
        file["episode_9/observations"] = STATE
        file["episode_10/actions"] = np.zeros((T, 2))
        file["episode_10/observations/state"] = STATE[:2]

    info = edit(path, change).info
    assert [e.name for e in info.episodes] == ["episode_0", "episode_1"]
    assert info.outcomes == ("terminated",)
    said = "\n".join(info.skipped)
    for line in (
        "words/text: text of shape () a frame is neither",
        "attribute total_steps: not used (1): episode_0 says 99 for 4",
        "infos/deep/x: not used (1): episode_1",
        "actions have not the 2 values of episode_0 (1): episode_7",
        "actions: must be numbers",
        "episode needs 'actions' and 'observations', has ['observations'] (1): episode_9",
        "state: not as many rows as there are actions (1): episode_10 has 2 for 4",
        "rewards: not used, as not every episode has it (1): episode_0",
    ):
        assert line in said


def test_a_shared_reward_that_the_first_episode_has_is_named_when_another_lacks_it(
    minari_folder: Path,
) -> None:
    info = edit(minari_folder, lambda file: file.__delitem__("episode_2/rewards")).info
    assert info.outcomes == ("terminated", "success")
    assert "rewards: not used, as not every episode has it (1): episode_2" in info.skipped


def test_observations_without_the_last_are_masked(minari_folder: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["episode_1/observations/views"]
        file["episode_1/observations/state"].resize(2, axis=0)

    info = edit(minari_folder, change).info
    assert [e.has_last_observation for e in info.episodes] == [True, False, True]
    clip = open_dataset(minari_folder, cameras=()).clip(1, 1, 2)
    assert clip.valid["state"].tolist() == [True, False]
    assert clip.valid["success"].tolist() == [True, True]


def test_damaged_jpeg_names_where_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "m", {"jpeg": images()})
    half = jpeg(images()[0])[:400]
    other = jpeg(images()[0, :16])

    def change(file: h5py.File) -> None:
        file["episode_0/observations/jpeg"][1] = half
        file["episode_1/observations/jpeg"][1] = other

    reader = edit(path, change)
    assert reader.read(0, "jpeg", 0, 1).shape == (1, 32, 48, 3)
    with pytest.raises(
        ValueError, match=r"episode_0/observations/jpeg in .*main_data.* is damaged"
    ):
        reader.read(0, "jpeg", 0, 2)
    with pytest.raises(ValueError, match=r"episode_1/obs.*\(48, 16\) RGB, the first \(32, 48, 3\)"):
        reader.read(1, "jpeg", 1, 2)


def test_a_length_of_bytes_that_the_file_has_not_takes_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "m", {"jpeg": images()}) / "data/main_data.hdf5"
    with h5py.File(path) as file:
        start = file["episode_1/observations/jpeg"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    info = open_reader(path).info
    assert [e.missing for e in info.episodes if e.name == "episode_0"] == [frozenset()]
    assert any(line.startswith("jpeg: values claim 429") for line in info.skipped)


def test_other_formats_and_damage_of_minari_are_refused(minari_folder: Path) -> None:
    file = minari_folder / "data/main_data.hdf5"
    content = file.read_bytes()
    file.write_bytes(content[:3000])
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is cut short or damaged"):
        open_reader(minari_folder)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is cut short or damaged"):
        open_reader(minari_folder)
    file.write_bytes(content)
    (minari_folder / "data/metadata.json").write_text("{")
    assert "metadata.json: not used, as it is damaged" in open_reader(minari_folder).info.skipped[0]
    file.unlink()
    with pytest.raises(ValueError, match=r"without main_data\.hdf5; .*'arrow'.*data_format='hdf5'"):
        open_reader(minari_folder)


def test_a_file_without_episodes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data/main_data.hdf5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match=r"main_data\.hdf5 has no usable episode: it has \['x'\]"):
        open_reader(tmp_path)
