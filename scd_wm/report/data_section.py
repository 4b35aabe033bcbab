"""What other reports show of a data set: key numbers and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SERIOUS = ("error", "warning")  # findings that are listed


@dataclass(frozen=True)
class DataSection:
    """The short section about data in a report on something else."""

    facts: list[tuple[str, str]]
    findings: list[Mapping[str, Any]]  # errors and warnings
    num_notes: int  # findings that are neither


def data_section(diagnosis: Mapping[str, Any]) -> DataSection:
    """Return key numbers and warnings.

    Args:
        diagnosis: What `scd_wm.datasets.doctor.Diagnosis.to_json` gives.
    """
    found = diagnosis["findings"]
    bad = [finding for finding in found if finding["severity"] in SERIOUS]
    return DataSection(data_facts(diagnosis), bad, len(found) - len(bad))


def data_facts(diagnosis: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the key numbers of a data set: name and text."""
    steps, seconds = diagnosis["episode_steps"], diagnosis["duration_s"]
    facts = [
        ("episodes", f"{diagnosis['num_episodes']:,}"),
        ("steps", f"{diagnosis['num_steps']:,}"),
        ("steps an episode", f"{steps['min']} to {steps['max']}"),
        ("recorded", _duration(seconds) if seconds else "rate not known"),
    ]
    if diagnosis["fps"]:
        facts.append(("rate", f"{diagnosis['fps']:g} Hz"))
    return facts


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
