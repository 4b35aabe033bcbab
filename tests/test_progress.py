import io
import sys
import time

import pytest

from scd_wm.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def states(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, seconds: float) -> int:
    """Return how often a bar is drawn that moves a hundred times a second."""
    monkeypatch.setattr(sys, "stderr", stream)
    start = time.monotonic()
    with progress_bar(total=1000) as bar:
        while time.monotonic() - start < seconds:
            bar.update()
            time.sleep(0.01)
    return stream.getvalue().count("\r")


def test_a_bar_is_drawn_often_on_a_terminal_and_at_its_ends_in_a_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scd_wm.progress.WATCHED_S", 0.05)
    assert states(Terminal(), monkeypatch, 0.5) > 4
    assert states(io.StringIO(), monkeypatch, 0.5) == 2


def test_a_bar_gives_what_it_goes_through() -> None:
    assert list(progress_bar([3, 1, 2])) == [3, 1, 2]
