"""How MuJoCo renders is chosen only where it must be."""

from __future__ import annotations

import os
import sys

import pytest

from scd_wm.envs import headless
from scd_wm.envs.headless import choose_renderer


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")  # so that monkeypatch puts back what was there
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(headless, "_is_installed", lambda library: library == "libEGL.so.1")


def test_egl_is_chosen_without_a_display() -> None:
    choose_renderer()
    assert os.environ["MUJOCO_GL"] == "egl"


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_display_is_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, ":0")
    choose_renderer()
    assert "MUJOCO_GL" not in os.environ


def test_the_users_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    choose_renderer()
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_other_systems_choose_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    choose_renderer()
    assert "MUJOCO_GL" not in os.environ


def test_nothing_is_chosen_where_egl_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "_is_installed", lambda library: False)
    choose_renderer()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.skipif(sys.platform != "linux", reason="names of libraries are those of Linux")
def test_an_installed_library_is_told_from_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert headless._is_installed("libc.so.6")
    assert not headless._is_installed("libno_such_thing.so.1")
