import io

import av
import numpy as np
import pytest
from PIL import Image

from scd_wm.report.video import HOLD_S, decode_mp4, encode_mp4, encode_png


def film(count: int = 6, height: int = 40, width: int = 60) -> np.ndarray:
    """Return a bright square that moves over grey."""
    frames = np.full((count, height, width, 3), 90, np.uint8)
    for t in range(count):
        frames[t, 10:26, 4 + 6 * t : 20 + 6 * t] = (220, 60, 40)
    return frames


def test_a_video_decodes_to_what_went_in_and_holds_its_last_frame() -> None:
    frames = film()
    decoded = decode_mp4(encode_mp4(frames, 10))
    assert decoded.shape == (6 + round(10 * HOLD_S), 40, 60, 3)
    error = np.abs(decoded[:6].astype(float) - frames).mean(axis=(1, 2, 3))
    assert error.max() < 5
    assert np.abs(decoded[-1].astype(float) - frames[-1]).mean() < 5


def test_it_is_h264_in_the_one_format_that_every_browser_plays() -> None:
    with av.open(io.BytesIO(encode_mp4(film(), 12.5)), "r") as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate or 0) == pytest.approx(12.5)


def test_odd_sizes_get_a_line_more() -> None:
    assert decode_mp4(encode_mp4(film(2, 33, 47), 10)).shape[1:3] == (34, 48)


def test_the_same_frames_are_the_same_file() -> None:
    """On a CPU with AVX-512 x264 once gave nine, depending on what was in memory before."""
    rng, files, left = np.random.default_rng(0), set(), []
    frames = np.pad(film(), [(0, 0), (0, 8), (0, 4), (0, 0)])
    for _ in range(60):
        files.add(encode_mp4(frames, 10))
        left.append(rng.integers(0, 256, rng.integers(100, 200_000), dtype=np.uint8))
        left = left[-25:]
    assert len(files) == 1


def test_what_is_no_video_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(T, H, W, 3\), got \(0, 40, 60, 3\)"):
        encode_mp4(film(0), 10)
    with pytest.raises(ValueError, match="fps must be above 0, got 0"):
        encode_mp4(film(), 0)


def test_a_png_is_lossless() -> None:
    picture = film(1)[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(picture)))), picture)
