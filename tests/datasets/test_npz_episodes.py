"""Folders of npz episodes: what the mapping may say, what is skipped and what is refused."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.npz_file import npz_arrays
from scd_wm.datasets.reader import Reader
from tests.datasets.conftest import images
from tests.datasets.write_npz import MAPPING, episode_arrays, write_mapping, write_npz


def write_one(folder: Path, mapping: dict[str, Any] | None = None, **changes: Any) -> Reader:
    """Open a folder of two episodes, the second with some arrays changed or, if None, left out."""
    write_npz(folder, (5, 4))
    write_mapping(folder, **(mapping or {}))
    arrays = {k: v for k, v in (episode_arrays(1, 4) | changes).items() if v is not None}
    np.savez(folder / "1.npz", **arrays)
    return open_reader(folder)


def test_a_mapping_or_its_folder_is_opened(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "x")
    for path in (folder, folder / "scd_wm.json"):
        reader = open_reader(path)
        assert reader.info.format == "npz episodes"
        assert [e.name for e in reader.info.episodes] == ["0", "1", "2"]
        assert [e.num_observations for e in reader.info.episodes] == [5, 2, 7]
        assert reader.info.metadata["action"] == "act"
        np.testing.assert_array_equal(reader.read(2, "top", 1, 4), images(2, 7)[1:4])
        assert reader.read(2, "top", 3, 3).shape == (0, 32, 48, 3)
        assert reader.read(1, "reward", 0, 2).tolist() == [0, 1]


def test_files_elsewhere_are_named_by_a_pattern(tmp_path: Path) -> None:
    write_npz(tmp_path / "data/task_a", (3,))
    write_npz(tmp_path / "data/task_b", (3,))
    (tmp_path / "notes").mkdir()
    for pattern in ("../data/*/*.npz", f"{tmp_path}/data/**/0.npz"):
        file = write_mapping(tmp_path / "notes", episodes=pattern)
        names = [e.name for e in open_reader(file).info.episodes]
        assert [name.split("data/")[1] for name in names] == ["task_a/0", "task_b/0"]


def test_actions_stored_with_the_frame_they_led_to_are_shifted(tmp_path: Path) -> None:
    reader = open_reader(write_npz(tmp_path / "x", leads=True))
    assert [e.num_actions for e in reader.info.episodes] == [5, 2, 7]
    assert all(e.has_last_observation for e in reader.info.episodes)
    assert reader.read(0, "action", 0, 5).tolist() == [[0, t] for t in range(5)]
    assert reader.read(0, "reward", 3, 5).tolist() == [3, 4]
    assert reader.read(0, "state", 0, 6).tolist() == [[0, t] for t in range(6)]


def test_one_observation_more_than_actions_is_the_last_one(tmp_path: Path) -> None:
    more = episode_arrays(1, 5)
    reader = write_one(tmp_path / "x", observation=more["observation"], joints=more["joints"])
    assert [e.has_last_observation for e in reader.info.episodes] == [False, True]
    reader = write_one(tmp_path / "y", observation=more["observation"])  # the state has no more
    assert [e.num_observations for e in reader.info.episodes] == [5, 4]
    assert reader.info.skipped == ()


PICTURES = images(1, 4)


@pytest.mark.parametrize(
    ("stored", "camera", "expected"),
    [
        (PICTURES, {"layout": "HWC"}, PICTURES),
        (PICTURES, {}, PICTURES),
        (np.moveaxis(PICTURES, -1, 1), {"layout": "CHW"}, PICTURES),
        (np.asfortranarray(PICTURES), {}, PICTURES),
        (PICTURES[..., 0], {"layout": "HW"}, np.repeat(PICTURES[..., :1], 3, -1)),
        (PICTURES[..., :1], {}, np.repeat(PICTURES[..., :1], 3, -1)),
        (PICTURES, {"channels": [1, 2]}, np.repeat(PICTURES[..., 1:2], 3, -1)),
        (np.repeat(PICTURES, 2, -1)[..., 1:5], {"channels": [0, 3]}, PICTURES[..., [0, 1, 1]]),
        ((PICTURES / 255).astype("f4"), {"scale": 255}, PICTURES),
        ((PICTURES / 255).astype(">f8"), {"scale": 255}, PICTURES),
        (PICTURES.astype("f2"), {"scale": 1}, PICTURES),
    ],
)
def test_images_of_every_layout_become_the_pixels(
    tmp_path: Path, stored: np.ndarray, camera: dict[str, Any], expected: np.ndarray
) -> None:
    np.savez(tmp_path / "0.npz", view=stored, act=np.zeros(4, "f4"))
    content = {"format": "npz episodes", "action": "act", "cameras": {"view": camera}}
    (tmp_path / "any_name.json").write_text(json.dumps(content))
    reader = open_reader(tmp_path)
    assert reader.info.fields["view"].shape == expected.shape[1:]
    np.testing.assert_array_equal(reader.read(0, "view", 1, 4), expected[1:4])
    assert reader.read(0, "action", 0, 4).shape == (4, 1)


def test_rows_come_in_blocks_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_npz(tmp_path / "x")
    monkeypatch.setattr("scd_wm.datasets.npz_file.BLOCK_BYTES", 20_000)  # two frames
    np.testing.assert_array_equal(open_reader(folder).read(2, "top", 1, 6), images(2, 7)[1:6])


def test_numbers_of_other_byte_orders_and_axes_are_read(tmp_path: Path) -> None:
    rows = np.asfortranarray(episode_arrays(1, 4)["joints"].astype(">f8"))
    reader = write_one(tmp_path / "x", joints=rows, act=np.asfortranarray(rows))
    found = reader.read(1, "state", 1, 4)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, rows[1:])
    np.testing.assert_array_equal(reader.read(1, "action", 1, 4), rows[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act": None}, r"1\.npz has no array 'act'; it has \['joints', 'observation', 'rew'"),
        ({"joints": np.zeros((3, 2), "f4")}, "joints has 3 rows for 4 of act; expected 4 or 5"),
        ({"rew": np.zeros(5)}, "rew has 5 rows for 4 of act; expected 4, and"),
        ({"act": np.zeros((4, 2, 2))}, r"act has shape \(4, 2, 2\); expected \(N, D\)"),
        ({"act": np.zeros((4, 3))}, "act has 3 values, the first episode's 2"),
        ({"joints": np.zeros((4, 3))}, "joints has 3 values, the first episode's 2"),
        ({"rew": np.zeros((4, 2))}, r"rew has shape \(4, 2\); expected \(N,\) or \(N, 1\)"),
        ({"act": np.float64(3)}, r"act is float64 of shape \(\); expected numbers"),
        ({"act": np.array(["a"] * 4)}, r"act is <U1 of shape \(4,\); expected numbers"),
        ({"act": np.zeros(4, complex)}, "act is complex128"),
        ({"observation": np.zeros((4, 5, 8, 3), "u1")}, "has 5 channels of shape"),
        ({"observation": np.zeros((4, 8, 8), "u1")}, r"layout 'CHW' needs \(N, CHW\)"),
        ({"observation": np.zeros((4, 6, 8, 8))}, "float64; images must be uint8, or float with"),
        ({"observation": np.zeros((4, 6, 8, 8), "i4")}, "is int32; images must be uint8"),
    ],
)
def test_an_episode_that_cannot_be_used_is_counted(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    reader = write_one(tmp_path / "x", **changes)
    assert [e.name for e in reader.info.episodes] == ["0"]
    (line,) = reader.info.skipped
    assert re.match(rf"1 of 2 episodes: .*1\.npz.*{message}|1 of 2 episodes: .*{message}", line)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    reader = write_one(tmp_path / "x", act=np.array([Harmful()] * 4, object))
    assert "act is object of shape (4,); expected numbers" in reader.info.skipped[0]
    assert not (tmp_path / "harmed").exists()


def test_no_usable_episode_is_an_error_that_says_why(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "x")
    write_mapping(folder, action="action")
    with pytest.raises(
        ValueError,
        match=r"no episode of .*scd_wm\.json can be used: 3 of 3 episodes: .*0\.npz has no array "
        "'action'",
    ):
        open_reader(folder)
    write_mapping(folder, episodes="*/*.npz")
    with pytest.raises(ValueError, match=r"no files '\*/\*\.npz' in .*x"):
        open_reader(folder)


def test_images_of_another_size_are_known(tmp_path: Path) -> None:
    reader = write_one(tmp_path / "x", observation=np.zeros((4, 6, 8, 10), "u1"))
    assert reader.info.episodes[1].image_shapes == {"top": (8, 10, 3)}
    assert reader.read(1, "top", 0, 4).shape == (4, 8, 10, 3)
    with pytest.raises(ValueError, match="two sizes"):
        open_dataset(tmp_path / "x")


def test_a_folder_without_a_mapping_gets_one_that_works(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "x", leads=True)
    (folder / "scd_wm.json").unlink()
    for file in folder.glob("*.npz"):  # names that a guess can know
        arrays = dict(np.load(file))
        arrays["actions"] = arrays.pop("act")
        arrays["actions"][1:] += 0.5
        arrays["reward"] = arrays.pop("rew")
        np.savez(file, **arrays)
    for path in (folder, folder / "0.npz", tmp_path):
        with pytest.raises(ValueError, match=r"'actions': \(\(6, 2\), 'float32'\)") as error:
            open_reader(path)
    found = re.search(r"Write (\S+), such as (\{.*\}), and see", str(error.value))
    assert found is not None
    assert json.loads(found[2]) == {
        "format": "npz episodes",
        "episodes": "*/*.npz",
        "action": "actions",
        "action_leads_to_frame": True,
        "reward": "reward",
        "success": "success",
        "cameras": {"observation": {"key": "observation", "layout": "CHW", "channels": [3, 6]}},
        "vectors": {"joints": "joints"},
    }
    Path(found[1]).write_text(found[2])
    assert [e.num_actions for e in open_reader(tmp_path).info.episodes] == [5, 2, 7]


def test_two_mappings_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder = write_npz(tmp_path / "x")
    (folder / "other.json").write_text((folder / "scd_wm.json").read_text())
    with pytest.raises(ValueError, match=r"2 mappings, open one: \['other\.json', 'scd_wm\.json'"):
        open_reader(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera": {}}, r"unknown entries \['camera'\] .*; allowed are \['format', 'episodes'"),
        ({"action": None}, "action must be the name of an array or files, is None"),
        ({"action": 3}, "action must be the name"),
        ({"episodes": []}, "episodes must be the name"),
        ({"fps": "fast"}, "fps must be a number above 0, is 'fast'"),
        ({"fps": 0}, "fps must be a number above 0"),
        ({"action_leads_to_frame": 1}, "action_leads_to_frame must be true or false, is 1"),
        ({"cameras": None, "vectors": None}, "no cameras and no vectors"),
        ({"cameras": ["top"]}, r"cameras must be an object of names, is \['top'\]"),
        ({"cameras": {"top": "x"}}, r"cameras\.top must be an object"),
        ({"cameras": {"top": {"layout": "WHC"}}}, r"layout other than .*'CHW'.*: 'WHC'"),
        ({"cameras": {"top": {"layout": []}}}, r"layout other than .*: \[\]"),
        ({"cameras": {"top": {"crop": 1}}}, r"cameras\.top has unknown entries \['crop'\]"),
        ({"cameras": {"top": {"channels": [3, 3]}}}, r"channels must be \[first, after the last\]"),
        ({"cameras": {"top": {"channels": 3}}}, "channels must be"),
        ({"cameras": {"top": {"layout": "HW", "channels": [0, 1]}}}, "images that have channels"),
        ({"cameras": {"top": {"scale": -1}}}, r"scale must be above 0 and at most 255, is -1"),
        ({"vectors": {"action": "x"}}, r"\['action'\] can name no camera or vector"),
        ({"vectors": {"top": "x"}}, r"\['top'\] can name no camera or vector, or not both"),
    ],
)
def test_what_a_mapping_may_not_say(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = write_mapping(write_npz(tmp_path / "x"), **changes)
    with pytest.raises(ValueError, match=rf"scd_wm\.json.*{message}"):
        open_reader(file)


def test_a_mapping_that_is_no_json_is_refused(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "x") / "scd_wm.json"
    file.write_text(json.dumps(MAPPING)[:-1])
    with pytest.raises(ValueError, match=r"scd_wm\.json is not JSON"):
        open_reader(file)
    file.write_text('"npz episodes"')
    with pytest.raises(ValueError, match="must hold a JSON object"):
        open_reader(tmp_path / "x")


def pack(path: Path, **entries: bytes) -> Path:
    """Write an npz file of raw entries, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return path


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """Return the beginning of an npy file whose header says so."""
    width = 2 if version == (1, 0) else 4
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(width, "little") + text.encode()


def plain(shape: str, descr: str = "'<f4'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(plain("(4, 2)")) + bytes(28), r"claims shape \(4, 2\) of float32, 32 bytes; 28"),
        (header(plain("(4, 2)")) + bytes(99), r"32 bytes; 99 are there"),
        (header(plain(f"({10**12}, 2)")), f"claims shape .{10**12}, 2. .*; 0 are there"),
        (header(plain("(-4, -2)")) + bytes(32), r"claims shape \(-4, -2\)"),
        (header(plain("(4.0, 2)")) + bytes(32), "damaged header"),
        (header(plain("'x'")), "damaged header"),
        (header(plain("(4, 2)", "'<q9'")) + bytes(32), "damaged header"),
        (header(plain("(4, 2)", "[('x', '<f4')]")) + bytes(32), None),  # numbers with a name
        (header("{" * 5000), "damaged header"),
        (header("__import__('os').getcwd()"), "damaged header"),
        (header(" " * 11_000 + plain("(4, 2)")), "damaged header"),
        (header(plain("(1,)")[:20]), "damaged header"),
        (header(plain("(4, 2)"), (3, 0)) + bytes(32), "damaged header"),
        (header(plain("(4, 2)"), (2, 0)) + bytes(32), None),
        (b"", "damaged header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 10**6, "damaged header"),
        (b"\x80\x04N.", "damaged header"),
    ],
)
@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")  # of headers made up here
def test_headers_are_not_trusted(tmp_path: Path, content: bytes, message: str | None) -> None:
    path = pack(tmp_path / "x.npz", a=content)
    if message is None:
        assert npz_arrays(path)["a"].shape == (4, 2)
        return
    with pytest.raises(ValueError, match=rf"x\.npz: a .*{message}"):
        npz_arrays(path)


def test_large_arrays_whose_rows_are_scattered_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scd_wm.datasets.npz_file.MAX_CHUNK_BYTES", 100)
    np.savez(tmp_path / "x.npz", a=np.asfortranarray(np.zeros((20, 2))))
    with pytest.raises(ValueError, match="first axis varying fastest and 320 bytes; so stored"):
        npz_arrays(tmp_path / "x.npz")


def test_cut_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = write_npz(tmp_path / "x", (5,)) / "0.npz"
    content = whole.read_bytes()
    for damaged in (content[:-30], content[: len(content) // 2], b"", b"junk", b"PK\x03\x04"):
        (tmp_path / "y.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"y\.npz is no npz file, cut short or damaged"):
            npz_arrays(tmp_path / "y.npz")
    (tmp_path / "z.npz").mkdir()
    with pytest.raises(ValueError, match=r"z\.npz is no file"):
        npz_arrays(tmp_path / "z.npz")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_wrong_byte_is_found_by_reading_all_rows(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "x.npz"
    rows = np.random.default_rng(0).integers(0, 256, (1000, 50), np.uint8)
    (np.savez_compressed if compressed else np.savez)(path, allow_pickle=True, a=rows)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz: a is damaged"):
        npz_arrays(path)["a"].read(0, 1000)


def test_the_real_recordings_move_before_an_action_taken_at_their_frames_could(
    shared_data: Path, tmp_path: Path
) -> None:
    pattern = str(shared_data / "metaworld_npz/*/*.npz")
    camera = {"key": "observation", "layout": "CHW", "channels": [6, 9]}
    content = {
        "format": "npz episodes",
        "episodes": pattern,
        "action": "action",
        "cameras": {"image": camera},
        "reward": "reward",
    }
    (tmp_path / "stored.json").write_text(json.dumps(content))
    stored = open_reader(tmp_path / "stored.json")
    (tmp_path / "leads.json").write_text(json.dumps(content | {"action_leads_to_frame": True}))
    leads = open_reader(tmp_path / "leads.json")
    assert len(stored.info.episodes) == len(leads.info.episodes) == 30
    motions = []
    for i, episode in enumerate(leads.info.episodes):
        assert (episode.num_actions, episode.num_observations) == (100, 101)
        assert not stored.read(i, "action", 0, 1).any()
        assert not stored.read(i, "reward", 0, 1).any()
        assert leads.read(i, "action", 0, 1).any()
        pictures = leads.read(i, "image", 0, 11).astype(float)
        change = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
        motions.append(change[0] / np.median(change))
    # The picture moves at once: were actions taken at their frames, zeros would have moved it.
    assert np.mean(motions) > 0.5
