"""What `inspect` says of a data set."""

import json
from pathlib import Path
from typing import Any

import pytest

from scd_wm.datasets.doctor_numbers import survey_numbers
from scd_wm.datasets.formats import open_reader
from scd_wm.datasets.summary import summarise, summary_lines


def summary_of(path: Path) -> dict[str, Any]:
    reader = open_reader(path)
    return summarise(survey_numbers(reader, range(len(reader.info.episodes))))


def test_a_summary_is_json_and_says_what_there_is(robomimic_file: Path) -> None:
    summary = json.loads(json.dumps(summary_of(robomimic_file)))
    assert summary["format"] == "robomimic"
    assert (summary["num_episodes"], summary["num_steps"]) == (3, 14)
    assert summary["episode_steps"] == {"min": 2, "median": 5, "max": 7}
    assert (summary["fps"], summary["duration_s"]) == (10, 1.4)
    assert summary["cameras"] == {"top_image": {"shape": [32, 48, 3], "dtype": "uint8"}}
    assert summary["vectors"]["state"]["max"] == [2, 7]
    assert summary["action"]["min"] == [0, 0]
    assert summary["action"]["max"] == [2, 6]
    reward = summary["outcomes"]["reward"]
    assert reward == {"min": 0, "max": 6, "mean_return": pytest.approx((10 + 1 + 21) / 3)}
    assert summary["outcomes"]["success"] == {"episodes": 1}
    assert summary["skipped"] == []


def test_the_table_has_a_line_for_everything(lerobot_folder: Path) -> None:
    lines = summary_lines(summary_of(lerobot_folder))
    text = "\n".join(lines)
    for part in (
        "LeRobot v2.1",
        "14 (2 to 7 an episode, median 5)",
        "1.4 s at 10 Hz",
        "not stored",
        "32x48x3 uint8",
        "2 values in [0, 2] [0, 6]",
        "in 100.0% of the episodes",
        "next.done: not used",
    ):
        assert part in text
    assert len({line.index("  ") > 0 for line in lines}) == 1


def test_a_data_set_without_a_rate_says_so(robomimic_file: Path) -> None:
    summary = summary_of(robomimic_file) | {"fps": None, "duration_s": None}
    assert any("duration" in line and "not known" in line for line in summary_lines(summary))
