"""The page about a data set, and its short form in other reports."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scd_wm.report.data_page import Strip, render_data
from scd_wm.report.data_section import data_section
from scd_wm.report.drawing import BACKGROUND
from tests.datasets.robots import examined, record
from tests.report.test_build import Tags


@pytest.fixture(scope="module")
def diagnosis() -> dict[str, Any]:
    episodes = record(num_episodes=6)
    episodes[3]["pos"][5, 1] = np.nan
    return examined(episodes, format="<robot> & more").to_json()


@pytest.fixture(scope="module")
def page(diagnosis: dict[str, Any]) -> str:
    frames = np.zeros((3, 8, 10, 3), np.uint8)
    return render_data(diagnosis, [Strip("top", "demo_0", frames)])


def test_the_page_is_whole_and_needs_no_network(page: str) -> None:
    assert Tags(page).found
    assert "&lt;robot&gt; &amp; more" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"https?://", page)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_the_page_shows_every_finding_plot_and_key(page: str, diagnosis: dict[str, Any]) -> None:
    for finding in diagnosis["findings"]:
        assert finding["what"] in page.replace("&#39;", "'")
    assert "1 error" in page
    assert page.count("<svg") == 2 + len(diagnosis["motion"]["actions_to_vectors"]) + 1
    assert diagnosis["suggestion"]["command"] in page.replace("&lt;", "<")
    for key in ("top", "pos", "action"):
        assert f"<th>{key}</th>" in page


def test_film_strips_have_a_gap_between_frames(page: str) -> None:
    (data,) = re.findall(r"data:image/png;base64,([^\"]+)", page)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert picture.shape == (8, 3 * 10 + 2 * 4, 3)
    assert (picture[:, 10:14] == BACKGROUND).all()
    assert not picture[:, 14:24].any()


def test_the_short_section_lists_what_is_serious(diagnosis: dict[str, Any]) -> None:
    section = data_section(diagnosis)
    assert [f["code"] for f in section.findings] == ["nan"]
    assert section.num_notes == len(diagnosis["findings"]) - 1
    assert ("episodes", "6") in section.facts
    assert ("rate", "10 Hz") in section.facts


def test_a_page_on_data_without_images_and_little_motion() -> None:
    episodes = [{k: v for k, v in e.items() if k != "top"} for e in record(num_steps=12)]
    html = render_data(examined(episodes, fps=None).to_json(), [])
    assert 'id="cameras"' not in html
    assert "rate not known" in html
