"""Decoding video: any part of it exact, and every fault one clear error."""

import multiprocessing
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from scd_wm.datasets.video import VideoFile, decode, probe
from tests.datasets.write_lerobot import encode

NOISE = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
X264 = {"crf": "10", "g": "4", "bf": "2"}


def write(path: Path, options: Mapping[str, str], pictures: np.ndarray = NOISE) -> Path:
    """Write a video with its header in front, so that it can be cut."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10, options=dict(options))
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a video of 20 images at 10 a second, with a key frame every 4."""
    return write(tmp_path / "video.mp4", X264)


def test_the_header_says_size_length_and_rate(video: Path) -> None:
    assert probe(video) == VideoFile(32, 48, num_frames=20, fps=10, duration_s=2)


@pytest.mark.parametrize(
    "options",
    [X264, {"g": "250", "bf": "3"}, {"g": "6", "bf": "3", "x264-params": "open-gop=1"}, {"g": "1"}],
)
def test_any_part_is_what_decoding_all_gives_there(tmp_path: Path, options: dict[str, str]) -> None:
    video = write(tmp_path / "video.mp4", options)
    whole = np.stack(list(decode(video, 20)))
    for start in range(1, 18):
        for start_s in (start / 10, start / 10 - 0.03, start / 10 + 0.03):  # sums of times are off
            part = np.stack(list(decode(video, 3, start_s)))
            np.testing.assert_array_equal(part, whole[start : start + 3])


def test_decoding_a_part_does_not_touch_what_comes_before(video: Path) -> None:
    expected = list(decode(video, 4, 1.6))
    content = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        for packet in container.demux(video=0):
            if packet.pos is not None and (packet.pts or 0) * packet.time_base < 1.2:
                content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    video.write_bytes(content)
    with pytest.raises(ValueError, match=r"video\.mp4 is damaged after 0 frames"):
        list(decode(video, 4))
    np.testing.assert_array_equal(list(decode(video, 4, 1.6)), expected)


def test_decoding_a_part_does_not_touch_what_comes_after(video: Path) -> None:
    images = decode(video, 3)
    assert len(list(images)) == 3
    content = bytearray(video.read_bytes())
    content[-len(content) // 3 :] = bytes(len(content) // 3 + 1)
    video.write_bytes(content)
    assert len(list(decode(video, 3))) == 3


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv444p", "mp4"),
        ("libx264", "yuv420p10le", "mp4"),
        ("libx264", "gray", "mp4"),
        ("libx264rgb", "rgb24", "mp4"),
        ("ffv1", "yuv420p", "mkv"),  # does not say how many frames there are
    ],
)
def test_pixel_formats_become_colours(
    tmp_path: Path, codec: str, pix_fmt: str, suffix: str
) -> None:
    grey = np.repeat(NOISE[:5, :4, :6, :1], 3, axis=3).repeat(8, axis=1).repeat(8, axis=2)
    video = tmp_path / f"video.{suffix}"
    encode(video, grey, codec=codec, pix_fmt=pix_fmt, options={"qp": "0"})
    images = np.stack(list(decode(video, 5)))
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - grey).mean() < 12  # the range of grey may change
    assert probe(video).frames_from(0, np.inf) in (5, np.inf)


def test_a_video_that_ends_sooner_than_its_header_says_is_an_error(video: Path) -> None:
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 2 // 3])
    assert probe(video).num_frames == 20
    for start_s in (0.0, 0.5):
        with pytest.raises(ValueError, match=r"video\.mp4 (ends|is damaged) after \d+ frames"):
            list(decode(video, 15, start_s))


@pytest.mark.parametrize("suffix", ["ts", "avi", "mkv", "h264"])
def test_parts_of_files_without_an_index_are_refused(tmp_path: Path, suffix: str) -> None:
    encode(tmp_path / f"video.{suffix}", NOISE)
    video = (tmp_path / f"video.{suffix}").rename(tmp_path / "video.mp4")
    assert len(list(decode(video, 20))) == 20
    with pytest.raises(ValueError, match=r"video\.mp4 is \w+.* can be found in mp4 files that"):
        list(decode(video, 2, 0.5))


def test_a_part_whose_first_image_is_not_there_is_an_error(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0", "g": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for number, picture in enumerate(NOISE):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 10), number + 50 * (number > 9)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"no image at 3 s, the next one is at 6 s"):
        list(decode(video, 2, 3.0))


def test_an_image_that_is_concealed_is_an_error(video: Path) -> None:
    content = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packet = next(p for number, p in enumerate(container.demux(video=0)) if number == 5)
        assert packet.pos is not None
        middle = packet.pos + packet.size // 2
        content[middle : packet.pos + packet.size] = bytes(packet.size - packet.size // 2)
    video.write_bytes(content)
    with pytest.raises(ValueError, match=r"video\.mp4 is damaged: image \d is incomplete"):
        list(decode(video, 20))


@pytest.mark.parametrize(("start_s", "found"), [(99.0, 0), (1.8, 2)])
def test_a_part_beyond_the_end_is_an_error(video: Path, start_s: float, found: int) -> None:
    message = rf"video\.mp4 ends after {found} frames, its episode has 5"
    with pytest.raises(ValueError, match=message):
        list(decode(video, 5, start_s))


def test_a_video_to_be_turned_is_refused(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.set_display_rotation(90)
        for picture in NOISE:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"video\.mp4 is to be turned by 90 degrees .* upright"):
        next(decode(video, 1))


def test_images_that_change_their_size_are_refused(tmp_path: Path) -> None:
    for name, size in [("a", 32), ("b", 64)]:
        encode(tmp_path / f"{name}.h264", np.zeros((3, size, 48, 3), np.uint8))
    video = tmp_path / "video.h264"
    video.write_bytes(b"".join((tmp_path / f"{name}.h264").read_bytes() for name in "ab"))
    with pytest.raises(ValueError, match=r"image 3 has 64x48 pixels, the first one has 32x48"):
        list(decode(video, 6))


def test_images_larger_than_any_camera_s_are_refused_before_decoding(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    encode(video, np.zeros((1, 5000, 5000, 3), np.uint8), options={"preset": "ultrafast"})
    for read in (probe, lambda path: next(decode(path, 1))):
        with pytest.raises(ValueError, match=r"video\.mp4 claims .* of 75000000 bytes"):
            read(video)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00\x00\x00\x20ftypisom" + bytes(100)])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(content)
    with pytest.raises(ValueError, match=r"video\.mp4 is no video or is damaged"):
        probe(video)
    with pytest.raises(ValueError, match=r"video\.mp4 is damaged after 0 frames"):
        list(decode(video, 1))


def test_any_damaged_byte_gives_an_error_or_images(video: Path) -> None:
    content, generator = video.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 5):
            damaged[place] = generator.integers(256)
        video.write_bytes(damaged)
        for start_s in (0.0, 0.7):
            try:
                probe(video)
                assert all(image.shape[2] == 3 for image in decode(video, 10, start_s))
            except ValueError as error:
                assert "video.mp4" in str(error)  # noqa: PT017 - images are allowed too


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_decode_what_the_parent_decodes(video: Path, method: str) -> None:
    here = list(decode(video, 5, 0.5))  # the parent's threads have run before the fork
    with multiprocessing.get_context(method).Pool(2) as pool:
        for theirs in pool.starmap(decode_all, [(video, 5, 0.5)] * 4):
            np.testing.assert_array_equal(theirs, here)


def decode_all(path: Path, num_frames: int, start_s: float) -> list[np.ndarray]:
    return list(decode(path, num_frames, start_s))
