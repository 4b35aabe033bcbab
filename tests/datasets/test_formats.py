"""Recognising formats, and what is said of what is none."""

from pathlib import Path

import numpy as np
import pytest

from scd_wm.datasets.dataset import open_dataset
from scd_wm.datasets.doctor import diagnose
from scd_wm.datasets.resize import resize_images


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    for open_path in (open_dataset, diagnose):
        with pytest.raises(FileNotFoundError, match=r"no data set at .*absent\.hdf5"):
            open_path(tmp_path / "absent.hdf5")


def test_unknown_formats_say_what_was_found_and_what_is_known(tmp_path: Path) -> None:
    known = r"known are .*robomimic HDF5 file, .*LeRobot v2 or v3 folder"
    file = tmp_path / "data.hdf5"
    file.write_text("hello")
    with pytest.raises(
        ValueError, match=rf"data\.hdf5 is a file of 5 bytes that .*b'hello'.*{known}"
    ):
        open_dataset(file)
    for i in range(7):
        (tmp_path / f"{i}.txt").touch()
    with pytest.raises(ValueError, match=rf"is a folder with \['0.txt', .*\] and 3 more.*{known}"):
        open_dataset(tmp_path)


def test_resizing_averages_and_keeps_what_fits() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, ::4] = 200
    np.testing.assert_array_equal(resize_images(images, (8, 8)), images)
    small = resize_images(images, (2, 2))
    assert small.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(small[0].mean(), 50, atol=10)
    assert not small[1].any()
    assert resize_images(images[:0], (2, 4)).shape == (0, 2, 4, 3)


def test_a_folder_of_data_sets_says_what_in_it_can_be_opened(robomimic_file: Path) -> None:
    with pytest.raises(
        ValueError, match=r"\(open 'robomimic.hdf5' in it, or several as a mixture\)"
    ):
        open_dataset(robomimic_file.parent)
