"""The page in a browser: keyboard and mouse drive it, and nothing comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scd_wm.play.app import App
from scd_wm.play.server import Server
from scd_wm.play.world import World
from scd_wm.training.checkpoint import load_world_model
from tests.play import chromium
from tests.play.browser_client import serving
from tests.play.chromium import Page

pytestmark = pytest.mark.skipif(chromium.find() is None, reason=chromium.MISSING)

READY = "document.body && document.body.dataset.ready === 'yes'"
WHERE = "document.querySelector('#where').textContent"
PICTURE = "document.querySelector('.screen[data-kind=imagined] canvas').toDataURL()"
ACTION = "[...document.querySelectorAll('#sliders input')].map((x) => Number(x.value))"
PLAYING = "document.body.classList.contains('playing')"


def imagined(page: Page, at_least: int) -> None:
    """Wait until so many frames are imagined."""
    page.wait_for(f"parseInt({WHERE}) >= {at_least}")


def click(page: Page, selector: str) -> None:
    page.run(f"document.querySelector('{selector}').click()")


def message(page: Page) -> str:
    """Return what the page complains about."""
    shown = page.run("(() => { const e = message; return e.hidden ? '' : e.textContent; })()")
    return str(shown)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    with serving(App(world)) as serves:
        yield serves


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, server: Server) -> Iterator[Page]:
    """The page, newly opened; whatever a test does, no error and nothing from elsewhere."""
    browser.requests.clear()
    browser.faults.clear()
    browser.open(server.url)
    browser.wait_for(READY)
    yield browser
    browser.run("document.title")  # what happened until now is noted
    assert browser.faults == []
    assert browser.requests
    assert [url for url in browser.requests if not url.startswith(server.url)] == []


def test_keyboard_and_mouse_drive_and_the_picture_changes(page: Page) -> None:
    assert page.run("document.querySelector('#name').textContent") == "small"
    click(page, "#release")  # these actions change so much that they were taken for velocities
    first = page.run(PICTURE)
    page.key("ArrowRight", "ArrowRight", hold_s=0.3)
    imagined(page, 2)
    assert page.run(PLAYING)
    assert page.run(PICTURE) != first
    page.key("Space", " ")  # pauses
    page.wait_for(f"!{PLAYING}")
    before = page.run(ACTION)
    page.key("KeyW", "w", hold_s=0.3)
    after = page.run(ACTION)
    assert after[1] > before[1]
    assert after[0] == before[0]
    page.drag("#pad", (0.5, 0.5), (0.98, 0.02))  # beyond the range
    assert page.run(ACTION) == [1, 1]
    page.drag(".screen[data-kind=imagined]", (0.5, 0.5), (0.275, 0.95))
    assert page.run(ACTION) == pytest.approx([-0.5, -1], abs=0.02)  # the inner 90 %, y is up
    now = page.run(WHERE)
    page.key("Period", ".")
    page.wait_for(f"{WHERE} !== '{now}'")
    assert message(page) == ""


def test_values_return_to_rest_when_let_go(page: Page) -> None:
    assert page.run("document.querySelector('#release').checked")
    page.drag("#pad", (0.5, 0.5), (0.9, 0.1))
    page.wait_for(f"{ACTION}.every((x) => x === 0)")
    page.key("ArrowLeft", "ArrowLeft", hold_s=0.2)
    page.wait_for(f"{ACTION}.every((x) => x === 0)")


def test_undo_branches_and_snapshots_bring_the_same_picture_back(page: Page) -> None:
    click(page, "#step")
    imagined(page, 1)
    wanted = page.run(PICTURE)
    page.key("KeyM", "m")
    page.wait_for("document.querySelectorAll('#snapshots .place').length === 1")
    page.key("KeyB", "b")
    page.wait_for("document.querySelectorAll('#branches .place').length === 2")
    click(page, "#step")
    imagined(page, 2)
    assert page.run(PICTURE) != wanted
    page.key("KeyZ", "z")
    page.wait_for(f"{PICTURE} === '{wanted}'")
    click(page, "#step")
    imagined(page, 2)
    click(page, "#branches .place button")
    page.wait_for(f"{PICTURE} === '{wanted}'")
    click(page, "#step")
    imagined(page, 2)
    click(page, "#snapshots .place button")
    page.wait_for(f"{PICTURE} === '{wanted}'")


def test_a_recorded_episode_is_replayed_beside_what_was_recorded_until_it_ends(page: Page) -> None:
    page.run("episode.value = 1; frame.value = 1")
    click(page, "#begin")
    page.wait_for(f"{WHERE} === 'recorded: demo_1, frame 1'")
    click(page, "#replay")
    page.wait_for("!document.querySelector('.screen.real').parentElement.hidden")
    same = "document.querySelector('.screen.real canvas').toDataURL()"
    page.wait_for(f"{same} === {PICTURE}")  # at the start both are what was recorded
    click(page, "#toggle")
    page.wait_for("!document.querySelector('#message').hidden")
    assert message(page).startswith("no action is recorded at this time")
    assert not page.run(PLAYING)
    assert page.run(WHERE) == "3 imagined from demo_1, frame 1"
    page.faults.clear()  # the browser notes the refusal


def test_what_goes_wrong_is_told_on_the_page(page: Page, server: Server) -> None:
    apart = server.app._sessions.copy()
    server.app._sessions.clear()
    click(page, "#step")
    page.wait_for("!document.querySelector('#message').hidden")
    assert "reload the page" in message(page)
    server.app._sessions.update(apart)
    click(page, "#step")
    imagined(page, 1)
    assert message(page) == ""
    page.faults.clear()  # the browser notes the refusal


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.resize(width, 900)
    assert page.run("document.documentElement.scrollWidth") <= width
    page.resize(1280, 900)


def test_a_shipped_model_runs_on_as_long_as_the_mouse_is_held(browser: Page) -> None:
    world = World("push_t_tiny", load_world_model("push_t_tiny", engine="auto"))
    with serving(App(world)) as server:
        browser.open(server.url)
        browser.wait_for(READY)
        browser.run("limit.value = '1000000000'")
        browser.drag("#pad", (0.5, 0.5), (0.8, 0.3))
        imagined(browser, 12)
        browser.open("about:blank")
