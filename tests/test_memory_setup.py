"""Freed memory stays with the process: page faults counted in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from scd_wm import memory_setup

BLOCK = 64 * 2**20  # bytes, more than glibc keeps of itself
PAGES = BLOCK // 4096

COUNT_FAULTS = f"""
import resource, sys
import numpy as np
from scd_wm.memory_setup import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
def touch():
    np.empty({BLOCK}, np.uint8)[::4096] = 1
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    command = [sys.executable, "-c", COUNT_FAULTS, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_block_taken_again_costs_no_page_faults() -> None:
    assert faults("keep") < PAGES / 100
    assert faults("leave") > 10 * faults("keep")  # else the setting would be pointless


def test_nothing_is_done_where_the_c_library_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not memory_setup.keep_freed_memory()
