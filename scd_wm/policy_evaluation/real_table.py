"""Real results from a table, such as a robot's, in place of a simulator.

Columns: `policy`; `start` or `seed`, what the episode began from; `success`, 0 or 1; `return`, if
it is known. Others are left alone. Of an earlier evaluation's episodes.csv the real episodes count.

Axes: P policies, E starts.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scd_wm.policy_evaluation.episode import REAL, Episode

SUCCESS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
WANTED = "policy, start (or seed), success and, if known, return"


@dataclass(frozen=True, kw_only=True)
class RealTable:
    """Real episodes of all policies from all starts."""

    path: Path
    starts: tuple[str, ...]  # in the order of the table
    rows: Mapping[tuple[str, str], tuple[bool, float | None]]  # of policy and start

    def episodes(self, policy: str, starts: Sequence[str]) -> list[Episode]:
        """Return the episodes of a policy from some starts, as if they had been played."""
        found = [self.rows[policy, start] for start in starts]
        return [
            Episode(policy=policy, start=start, world=REAL, success=success, total_reward=reward)
            for start, (success, reward) in zip(starts, found, strict=True)
        ]


def read_real_table(path: Path, policies: Sequence[str]) -> RealTable:
    """Read a table and check that every policy has every start once.

    Args:
        path: A CSV file with a line of names.
        policies: Names of those that are compared; what the table has of others is left alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column, a policy or a start is missing, an episode is there twice, or a
            value is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table {path}")
    names, lines = _read(path)
    start = "start" if "start" in names else "seed"
    if missing := sorted({"policy", start, "success"} - {*names}):
        raise ValueError(f"table {path} lacks {missing}; it has {names}, wanted are {WANTED}")
    rows: dict[tuple[str, str], tuple[bool, float | None]] = {}
    for number, line in enumerate(lines, start=2):
        if line.get("world", REAL) != REAL:
            continue
        key = (line["policy"], line[start])
        if key[0] in policies:
            if key in rows:
                raise ValueError(f"table {path} has {key[0]!r} from start {key[1]!r} twice")
            rows[key] = _values(line, f"table {path}, row {number}")
    starts = tuple(dict.fromkeys(start for _, start in rows))
    for policy in policies:
        lacking = [start for start in starts if (policy, start) not in rows]
        if lacking or not starts:
            there = sorted({line["policy"] for line in lines})
            what = f"start {lacking[0]!r}" if len(lacking) < len(starts) else "any start"
            raise ValueError(
                f"table {path} has no row of {policy!r} from {what}; every policy needs all "
                f"{len(starts)} starts, and the table's policies are {there}"
            )
    return RealTable(path=path, starts=starts, rows=rows)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of a table's columns, and its rows by name."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            names = list(reader.fieldnames or ())
            return names, [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"table {path} is no CSV file: {error}") from None


def _values(line: Mapping[str, str], where: str) -> tuple[bool, float | None]:
    text, reward = line["success"].lower(), line.get("return")
    if text not in SUCCESS:
        raise ValueError(f"{where}: success must be 0 or 1, got {line['success']!r}")
    try:
        number = float(reward) if reward else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{where}: return must be a number, or empty, got {reward!r}")
    return SUCCESS[text], number
