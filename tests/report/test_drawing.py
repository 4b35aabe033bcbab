import numpy as np
import pytest

from scd_wm.report.drawing import (
    EDGE,
    GAP,
    HEADER,
    IMAGINED,
    REAL,
    Panel,
    compose,
    difference,
    film_strip,
    font,
    resize,
    shortened,
)


def frames(count: int = 5, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def test_small_images_grow_by_a_whole_factor_and_keep_their_pixels() -> None:
    images = frames()
    large = resize(images, 34)
    assert large.shape == (5, 32, 32, 3)
    assert (large[:, ::4, ::4] == images).all()
    assert (large[:, 3::4, 3::4] == images).all()


def test_large_images_shrink_by_averages_of_blocks() -> None:
    images = frames(height=40, width=80)
    small = resize(images, 20)
    assert small.shape == (5, 10, 20, 3)
    expected = images.reshape(5, 10, 4, 20, 4, 3).mean(axis=(2, 4))
    assert np.abs(small - expected).max() <= 1


def test_panels_lie_where_they_should_and_edges_say_what_is_imagined() -> None:
    images = frames()
    film = compose([Panel("real", images), Panel("imagined", images, 2)], 2, 2, 32)
    assert film.shape[1] % 2 == 0
    assert film.shape[2] % 2 == 0
    left, right, top = GAP, GAP + 32 + GAP, GAP + HEADER
    for start in (left, right):
        np.testing.assert_array_equal(film[:, top : top + 32 : 4, start : start + 32 : 4], images)
    edge = film[:, top + 32 + EDGE - 1]
    assert (edge[:, left] == REAL).all()
    assert (edge[:2, right] == REAL).all()
    assert (edge[2:, right] == IMAGINED).all()


def test_the_clock_moves_only_after_the_frames_given() -> None:
    images = np.zeros((5, 8, 8, 3), np.uint8)
    film = compose([Panel("real", images)], 1, 3, 64)
    assert (film[0] == film[2]).all()
    assert (film[2] != film[3]).any()
    assert (film[3] != film[4]).any()


def test_a_second_row_of_panels_lies_below_the_first() -> None:
    panels = [Panel(str(i), frames()) for i in range(3)]
    one, two = compose(panels[:2], 2, 1, 32), compose(panels, 2, 1, 32)
    assert two.shape[2] == one.shape[2]
    assert two.shape[1] == 2 * (HEADER + 32 + EDGE + GAP) + GAP


def test_a_film_strip_holds_every_frame_in_order() -> None:
    images = frames(3)
    strip = film_strip([("real", images), ("imagined", 255 - images)], ["a", "b", "c"], 8)
    for row, expected in enumerate((images, 255 - images)):
        for column in range(3):
            top, left = HEADER + row * (8 + GAP), 84 + column * (8 + GAP)
            np.testing.assert_array_equal(strip[top : top + 8, left : left + 8], expected[column])


@pytest.mark.parametrize(("a", "b", "expected"), [(10, 14, 8), (14, 10, 8), (0, 255, 255)])
def test_differences_are_doubled_and_cut(a: int, b: int, expected: int) -> None:
    one, other = (np.full((1, 1, 1, 3), x, np.uint8) for x in (a, b))
    assert (difference(one, other) == expected).all()


def test_captions_that_fit_are_kept_and_others_are_cut() -> None:
    caption = "real (robot0_eye_in_hand)"
    length = font(13).getlength(caption)
    assert shortened(caption, length) == caption
    for width in (length - 1, length / 2, 30):
        cut = shortened(caption, width)
        assert font(13).getlength(cut) <= width
        assert cut.endswith("\N{HORIZONTAL ELLIPSIS}")
        assert caption.startswith(cut[:-1])


def test_a_long_caption_leaves_the_clock_alone() -> None:
    images = np.zeros((2, 16, 16, 3), np.uint8)
    panels = [Panel(caption, images) for caption in ("real", "real (a camera of a long name)")]
    short, long = (compose([panel], 1, 2, 96)[0] for panel in panels)
    clock = slice(GAP + 96 - int(font(12).getlength("given")) - 1, None)
    np.testing.assert_array_equal(short[:, clock], long[:, clock])
    assert (short != long).any()
