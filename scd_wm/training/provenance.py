"""Which code made a file."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

import scd_wm


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of this package, of what it stands on, and the git revision if any."""
    found = {
        "scd_wm": scd_wm.__version__,
        "git": git_revision(),
        "torch": torch.__version__,
        "accelerate": version("accelerate"),
        "python": platform.python_version(),
    }
    return {name: value for name, value in found.items() if value is not None}


def git_revision() -> str | None:
    """Return the commit of this package's working tree, with "+changes" where files differ from it.

    None where the package is not tracked by git: installed, or copied without its history.
    """
    home = Path(__file__).parent
    if _git(home, "ls-files", "--error-unmatch", "provenance.py") is None:
        return None
    revision, changes = _git(home, "rev-parse", "HEAD"), _git(home, "status", "--porcelain", "-uno")
    return None if revision is None else revision + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints, or None if it fails or there is no git."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
