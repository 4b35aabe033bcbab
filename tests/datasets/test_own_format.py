"""A format that a user's package adds: the class of docs/extending.md, installed and checked."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.reader import EpisodeInfo, Field, Reader, SourceInfo
from scd_wm.testing import check_reader
from tests.datasets.conftest import images, index_rows, write_robomimic

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n((?:(?!```).)*?class CsvAndPng.*?)```", TEXT, re.DOTALL)
LENGTHS = (4, 3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a folder that the document's class reads."""
    for episode, length in enumerate(LENGTHS):
        folder = tmp_path / f"data/episode_{episode}"
        folder.mkdir(parents=True)
        rows = np.concatenate([np.ones((length, 3)), index_rows(episode, length)], axis=1)
        np.savetxt(folder / "steps.csv", rows, delimiter=",")
        for t, picture in enumerate(images(episode, length, (48, 64, 3))):
            Image.fromarray(picture).save(folder / f"{t:04d}.png")
    return tmp_path / "data"


class Installer:
    """Puts packages with entry points where Python finds them, for one test."""

    def __init__(self, site: Path) -> None:
        self.site, self.modules = site, set[str]()

    def install(self, module: str, code: str, *entries: str) -> None:
        """Write a module and the record of a distribution that names it."""
        (self.site / f"{module}.py").write_text(code)
        self.modules.add(module)
        record = self.site / f"{module}-1.0.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (record / "entry_points.txt").write_text("\n".join(["[scd_wm.formats]", *entries]))


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Return what installs packages, and forget them afterwards."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    made = Installer(site)
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)


def test_the_code_is_short() -> None:
    lines = [line for line in CODE.splitlines() if line.strip()]
    assert len(lines) + 2 < 40  # with the entry point


def test_an_installed_format_opens_and_keeps_the_contract(data: Path, installer: Installer) -> None:
    installer.install("my_robot", CODE, "csv_and_png = my_robot:CsvAndPng")
    dataset = open_dataset(data)
    assert (dataset.info.format, dataset.cameras, dataset.vectors) == (
        "CSV and PNG",
        ("camera",),
        ("joints",),
    )
    clip = dataset.clip(1, 0, 3)
    assert clip.actions.tolist() == [[1, 0], [1, 1]]
    np.testing.assert_array_equal(clip.images["camera"], images(1, 3, (48, 64, 3)))
    check_reader(open_reader(data))


def test_a_class_opens_data_without_being_installed(data: Path) -> None:
    namespace: dict[str, Any] = {}
    exec(CODE, namespace)
    assert len(open_reader(data, reader=namespace["CsvAndPng"]).info.episodes) == 2
    with pytest.raises(FileNotFoundError, match="no data set at"):
        open_reader(data / "absent", reader=namespace["CsvAndPng"])
    with pytest.raises(ValueError, match=r"reader .* made no reader of .*data but \[.*episode_0"):
        open_reader(data, reader=no_reader)


def no_reader(path: Path) -> Any:
    """Make something that is no reader."""
    return list(path.iterdir())


def test_an_installed_format_goes_before_a_kind_that_is_known(
    tmp_path: Path, installer: Installer
) -> None:
    path = write_robomimic(tmp_path / "x.hdf5")
    code = (
        "from scd_wm.datasets.robomimic_reader import RobomimicReader\n"
        "class Mine(RobomimicReader):\n"
        "    recognise = staticmethod(lambda path: path.name == 'x.hdf5')\n"
    )
    installer.install("my_hdf5", code, "mine = my_hdf5:Mine")
    assert type(open_reader(path)).__name__ == "Mine"
    assert type(open_reader(path.rename(tmp_path / "y.hdf5"))).__name__ == "RobomimicReader"


BROKEN = [
    ("import not_there", "Mine", r"cannot be loaded: ModuleNotFoundError\(.*not_there"),
    ("1 / 0", "Mine", r"cannot be loaded: ZeroDivisionError"),
    ("class Other: pass", "Mine", "cannot be loaded: AttributeError"),
    ("class Mine: pass", "Mine", r"must be a class with a static method recognise\(path\), is"),
    ("Mine = 3", "Mine", "must be a class with a static method"),
]


@pytest.mark.parametrize(("code", "name", "message"), BROKEN)
def test_a_broken_entry_point_is_named_only_where_it_may_have_been_meant(
    tmp_path: Path, data: Path, installer: Installer, code: str, name: str, message: str
) -> None:
    installer.install("my_broken", code, f"mine = my_broken:{name}")
    known = write_robomimic(tmp_path / "x.hdf5")
    assert len(open_reader(known).info.episodes) == 3
    what = rf"; besides, format 'mine' \(my_broken:{name}\) of my_broken {message}"
    with pytest.raises(ValueError, match=rf"data is a folder with .*known are .*robomimic.*{what}"):
        open_reader(data)
    known.write_bytes(known.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"x\.hdf5 is cut short.*{what}"):
        open_reader(known)
    installer.install("my_robot", CODE, "csv_and_png = my_robot:CsvAndPng")
    assert len(open_reader(data).info.episodes) == 2


def test_a_format_that_fails_at_a_path_is_named(data: Path, installer: Installer) -> None:
    code = "class Mine:\n    @staticmethod\n    def recognise(path):\n        return path.nothing\n"
    installer.install("my_fault", code, "mine = my_fault:Mine")
    with pytest.raises(
        ValueError, match=r"format 'mine' \(my_fault:Mine\) of my_fault failed to recognise .*data"
    ):
        open_reader(data)
    code = "class Mine:\n    recognise = staticmethod(bool)\n    __init__ = lambda *_: None\n"
    installer.install("a_fault", code, "a = a_fault:Mine")
    with pytest.raises(ValueError, match=r"of a_fault made no reader of .*; a reader has `info`"):
        open_reader(data)


def test_a_format_is_listed_where_none_recognises(tmp_path: Path, installer: Installer) -> None:
    installer.install("my_robot", CODE, "csv_and_png = my_robot:CsvAndPng")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(
        ValueError, match=r"known are .*robomimic.*, format 'csv_and_png' \(my_robot"
    ):
        open_reader(tmp_path / "x.txt")


class Rows:
    """A right reader, from which faults are made."""

    def __init__(self) -> None:
        self.info = SourceInfo(
            path=Path("x"),
            format="rows",
            fields={
                "top": Field((8, 9, 3), "uint8", "image"),
                "state": Field((2,), "float32", "vector"),
            },
            action_dim=2,
            outcomes=("reward",),
            fps=None,
            episodes=tuple(EpisodeInfo(str(i), 30 + i, has_last_observation=True) for i in (0, 1)),
            skipped=(),
            metadata={},
        )

    def whole(self, episode: int, key: str) -> np.ndarray:
        """Return all rows of a key."""
        frames = self.info.episodes[episode].num_observations
        if key == "top":
            return images(episode, frames, (8, 9, 3))
        rows = index_rows(episode, frames if key == "state" else frames - 1)
        return rows[:, 1] if key == "reward" else rows

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        """Return rows of a key."""
        return self.whole(episode, key)[start:stop]


def test_a_right_reader_passes() -> None:
    check_reader(Rows())


STATE = Field((2,), "float32", "vector")
DEPTH = Field((2,), "float32", "depth")  # type: ignore[arg-type]  # the mistake tested
FIRST = EpisodeInfo("0", 30, has_last_observation=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "x"}, "info.path must be a Path, is 'x'"),
        ({"format": ""}, "info.format must name the format"),
        ({"action_dim": 0}, "info.action_dim must be a number of values, is 0"),
        ({"action_dim": 3}, r"read\(0, 'action', 0, 16\) must have shape \(16, 3\), has \(16, 2\)"),
        ({"outcomes": ("success", "reward")}, r"info.outcomes must be some of .* in this order"),
        ({"fps": 0.0}, "info.fps must be above 0"),
        ({"skipped": ["x"]}, "info.skipped must be a tuple of lines"),
        ({"metadata": {"a": np.zeros(2)}}, "info.metadata must be of JSON types"),
        ({"fields": {}}, "info.fields must hold at least one observation"),
        ({"fields": {"action": STATE}}, "no field may be called 'action'"),
        ({"fields": {"top": Field((8, 9), "uint8", "image")}}, "must have 3 axes"),
        ({"fields": {"top": Field((8, 9, 4), "uint8", "image")}}, r"must be \(H, W, 3\) of uint8"),
        ({"fields": {"top": Field((9, 8, 3), "uint8", "image")}}, r"shape \(16, 9, 8, 3\), has"),
        ({"fields": {"state": Field((2,), "float64", "vector")}}, "of float64, is of float32"),
        ({"fields": {"state": Field((2, 1), "float32", "vector")}}, "must have 1 axes"),
        ({"fields": {"state": DEPTH}}, "must be of kind 'image' or"),
        ({"episodes": ()}, "info.episodes must hold an episode"),
        ({"episodes": (FIRST, FIRST)}, "two episodes have one name"),
        ({"episodes": (replace(FIRST, num_actions=0),)}, "episode '0' has 0 actions"),
        ({"episodes": (replace(FIRST, missing=frozenset(["x"])),)}, r"names \['x'\], which are no"),
        ({"masks": {"train": ("7",)}}, r"mask 'train' names \['7'\], which are no episodes"),
    ],
)
def test_what_a_reader_says_is_checked(changes: dict[str, Any], message: str) -> None:
    reader = Rows()
    reader.info = replace(reader.info, **changes)
    with pytest.raises(AssertionError, match=message):
        check_reader(reader)


class GoesOn(Rows):
    """Gives another episode's rows beyond the end."""

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        both = np.concatenate([self.whole(episode, key), self.whole(1 - episode, key)])
        return both[start:stop]


class IgnoresStart(Rows):
    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        return self.whole(episode, key)[: stop - start]


class ReturnsLists(Rows):
    def read(self, episode: int, key: str, start: int, stop: int) -> Any:
        return super().read(episode, key, start, stop).tolist()


class OneShort(Rows):
    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        return self.whole(episode, key)[:-1][start:stop]


class ForgetsWhenPickled(Rows):
    shift = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state | {"shift": 1}

    def read(self, episode: int, key: str, start: int, stop: int) -> np.ndarray:
        return np.roll(self.whole(episode, key), self.shift, axis=0)[start:stop]


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (GoesOn, "'top' of episode 0 goes on beyond its end, at 31: raise IndexError"),
        (IgnoresStart, r"read\(0, 'top', \d+, \d+\) does not give the rows that a longer read"),
        (ReturnsLists, "must return an array, returns <class 'list'>"),
        (OneShort, r"read\(0, 'top', 15, 31\) must have shape \(16, 8, 9, 3\), has \(15, 8"),
        (ForgetsWhenPickled, r"a pickled copy's read\(0, 'top', 0, 16\) does not give the rows"),
    ],
)
def test_what_a_reader_reads_is_checked(faulty: type[Rows], message: str) -> None:
    reader: Reader = faulty()
    with pytest.raises(AssertionError, match=message):
        check_reader(reader)


def test_the_document_shows_it_in_under_40_lines() -> None:
    blocks = re.findall(r"```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert sum(len(block.splitlines()) for block in blocks) < 40
