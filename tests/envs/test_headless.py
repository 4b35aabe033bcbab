"""How MuJoCo renders is chosen only where it must be."""

from __future__ import annotations

import os
import sys

import pytest

from scd_wm.envs.headless import choose_renderer


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")  # so that monkeypatch puts back what was there
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", "linux")


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
