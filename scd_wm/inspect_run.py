"""Examine a data set, print what was found, and write it as JSON and as a page.

OUT/report.html   what it holds, what is wrong, plots and film strips, in one file
OUT/summary.json  all numbers
"""

from __future__ import annotations

from pathlib import Path

from scd_wm.datasets.doctor import Diagnosis, diagnose, finding_lines, suggestion_lines
from scd_wm.datasets.doctor_exam import ExamConfig
from scd_wm.datasets.summary import summary_lines
from scd_wm.report.build import write_bytes
from scd_wm.report.data_page import Strip, render_data
from scd_wm.training import files

SUMMARY, REPORT = "summary.json", "report.html"


def inspect_run(
    path: str | Path, out: str | Path | None = None, *, images: int = 12, image_s: float = 45.0
) -> Diagnosis:
    """Examine a data set.

    Args:
        path: Of the data set.
        out: Folder for the files; None only prints. What else is in it stays.
        images: Episodes of each camera whose images are looked at.
        image_s: Seconds after which no further images are read.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If the format is not known, the data cannot be opened at all, or a number is out
            of range.
    """
    config = ExamConfig(images=images, image_s=image_s, progress=True)
    diagnosis = diagnose(path, config)
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        data = diagnosis.to_json()
        files.write_json(folder / SUMMARY, data)
        write_bytes(folder / REPORT, render_data(data, strips(diagnosis)).encode())
    print("\n".join(text_lines(diagnosis)))
    if out is not None:
        print(f"\n  {Path(out) / REPORT}")
    return diagnosis


def text_lines(diagnosis: Diagnosis) -> list[str]:
    """Return all that is printed."""
    blocks = (
        (str(diagnosis.summary["path"]), summary_lines(diagnosis.summary)),
        ("what was found", finding_lines(diagnosis.findings)),
        ("to train with", suggestion_lines(diagnosis.suggestion)),
    )
    lines = []
    for title, block in blocks:
        lines += ["", title, *(f"  {line}" for line in block)]
    return lines[1:]


def strips(diagnosis: Diagnosis) -> list[Strip]:
    """Return the film strips that were kept of each camera."""
    return [
        Strip(camera.name, diagnosis.exam.episode_name(stretch.episode), stretch.strip)
        for camera in diagnosis.exam.cameras.values()
        for stretch in camera.stretches
        if stretch.strip is not None
    ]
