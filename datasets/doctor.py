"""Say what is wrong with a data set, and what to do about it.

Everything is measured first (`scd_wm.datasets.doctor_exam`); then every check looks at what was
measured and says what it finds. To add a check, write a function from `Exam` to findings in a
`doctor_check_*.py` and add it to `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from scd_wm.datasets import (
    doctor_check_actions,
    doctor_check_episodes,
    doctor_check_images,
    doctor_check_numbers,
    doctor_check_time,
)
from scd_wm.datasets.doctor_advice import Suggestion, suggest
from scd_wm.datasets.doctor_exam import Exam, ExamConfig, examine
from scd_wm.datasets.doctor_finding import SEVERITIES, Finding
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.reader import Reader
from scd_wm.datasets.summary import summarise

Check: TypeAlias = Callable[[Exam], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    doctor_check_episodes.check_damaged,
    doctor_check_numbers.check_not_finite,
    doctor_check_actions.check_no_actions,
    doctor_check_time.check_action_lag,
    doctor_check_time.check_camera_lag,
    doctor_check_episodes.check_duplicates,
    doctor_check_episodes.check_still,
    doctor_check_episodes.check_short,
    doctor_check_episodes.check_missing,
    doctor_check_images.check_pictures,
    doctor_check_images.check_static_cameras,
    doctor_check_images.check_frozen,
    doctor_check_images.check_same_cameras,
    doctor_check_numbers.check_jumps,
    doctor_check_numbers.check_held,
    doctor_check_numbers.check_outliers,
    doctor_check_actions.check_saturated,
    doctor_check_actions.check_idle,
    doctor_check_numbers.check_constant,
    doctor_check_time.check_rate,
    doctor_check_actions.check_coverage,
    doctor_check_actions.check_redundant,
    doctor_check_actions.check_range,
    doctor_check_numbers.check_scales,
    doctor_check_time.check_action_kind,
    doctor_check_images.check_sizes,
    doctor_check_images.check_looked_at,
    doctor_check_episodes.check_skipped,
)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was measured of a data set, found in it, and suggested."""

    exam: Exam
    summary: dict[str, Any]  # see `summarise`
    findings: list[Finding]  # worst first
    suggestion: Suggestion

    @property
    def is_healthy(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "info" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return everything but pictures in JSON types."""
        images = {
            name: {
                "num_images": camera.num_images,
                "num_episodes": len(camera.stretches),
                "change_median": _median(camera.joined("changes")),
                "brightness_median": _median(camera.joined("brightness")),
            }
            for name, camera in self.exam.cameras.items()
        }
        return self.summary | {
            "findings": [finding.to_json() for finding in self.findings],
            "suggestion": self.suggestion.to_json(),
            "episode_lengths": self.exam.numbers.lengths.tolist(),
            "looked_at": {
                "episodes": len(self.exam.numbers.episodes),
                "episodes_for_actions_and_motion": len(self.exam.numbers.sample),
                "images": images,
            },
            "actions": self.exam.actions.to_json(),
            "motion": self.exam.motion.to_json(),
        }


def diagnose(source: str | Path | Reader, config: ExamConfig | None = None) -> Diagnosis:
    """Examine a data set and judge it.

    Args:
        source: Its path, or an open reader.
        config: How much to look at; None takes the defaults.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If the format is not known, or so damaged that it cannot be opened at all.
    """
    reader = open_reader(source) if isinstance(source, str | Path) else source
    exam = examine(reader, ExamConfig() if config is None else config)
    findings = [finding for check in CHECKS for finding in check(exam)]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Diagnosis(
        exam=exam,
        summary=summarise(exam.numbers),
        findings=findings,
        suggestion=suggest(exam, findings),
    )


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Return findings as text: a line on each and a line on what to do."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity:<7}  {finding.what}")
        if finding.advice != "nothing to do":
            lines.append(f"{'':<7}  -> {finding.advice}")
    return lines


def suggestion_lines(suggestion: Suggestion) -> list[str]:
    """Return what is suggested as text."""
    size = suggestion.image_size
    rows = [
        ("frame skip", f"{suggestion.frame_skip}: {suggestion.reasons['frame_skip']}"),
        ("clip", f"{suggestion.num_frames} frames: {suggestion.reasons['num_frames']}"),
        ("action mode", f"{suggestion.action_mode}: {suggestion.reasons['action_mode']}"),
        ("image size", f"{size[0]}x{size[1]} to begin with" if size else "no images"),
        ("keys", suggestion.reasons["keys"]),
    ]
    return [f"{name:<11}  {text}" for name, text in rows] + [suggestion.command]


def _median(values: Any) -> float | None:
    return float(sorted(values.tolist())[len(values) // 2]) if len(values) else None
